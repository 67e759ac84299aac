//! GeoIP: keeps the kernel's table equal to an .mmdb file.
//!
//! A load reads the file ([`reader`]), builds the table ([`table`]) and writes it into a new inner map, all on a blocking
//! thread; then one write of the pinned outer map's only slot puts it in force and the kernel frees the old one. A file that is
//! refused changes nothing. The table outlives the daemon with its outer map; the next daemon finds it there
//! and answers from it until its own first load.
//!
//! Changes are found by polling the file's identity (device, inode, size, time). Rejected: inotify, which loses a path
//! that is replaced by rename and needs the same poll as a safety net.

pub mod countries;
pub mod reader;
pub mod table;

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use aya::maps::{Array, ArrayOfMaps, MapData, MapError};
use mc_edge_common::geo::{
    self, GEO_MAP, GeoTables, HEADER_ROW, Header, ROW_WORDS, Row, TYPE_WORDS, UNKNOWN,
};
use tokio_util::sync::CancellationToken;

use self::{reader::ReadError, table::TooManyRanges};
use crate::{
    kernel::{Kernel, KernelError},
    spec::CountryCode,
};

/// How often [`GeoIp::watch`] looks at the file: a stat(2) costs nothing, and nobody waits for a new database.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Flag of bpf(2): inner maps may differ in their number of entries. aya does not re-export it.
const BPF_F_INNER_MAP: u32 = 1 << 12;

type Inner = Array<MapData, Row>;
type Outer = ArrayOfMaps<MapData, Inner>;

/// What keeps a database from being in force.
#[derive(Debug, thiserror::Error)]
pub enum GeoIpError {
    /// The kernel side lacks the map.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map operation failed.
    #[error("cannot {what}")]
    Map {
        /// The operation.
        what: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// No path is configured.
    #[error("no GeoIP database is configured (`geoip.database`)")]
    NotConfigured,
    /// The file is refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is well-formed but does not fit.
    #[error("the GeoIP database {path} does not fit")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What does not.
        #[source]
        source: TooManyRanges,
    },
    /// A bug: the loading thread panicked.
    #[error("loading the GeoIP database {path} crashed, please report this with the file")]
    Crashed {
        /// The file.
        path: PathBuf,
    },
}

/// What is in force and how the last load went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The configured file.
    pub path: Option<PathBuf>,
    /// The table in force, perhaps an earlier daemon's.
    pub table: Option<TableStatus>,
    /// When a load was last tried; `None`: not by this daemon.
    pub tried: Option<SystemTime>,
    /// Why it failed; the table before it is still in force, if there was one.
    pub error: Option<String>,
}

/// The table in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// What the database says it is, cut to 64 bytes.
    pub database_type: String,
    /// When the database was built.
    pub built: SystemTime,
    /// When it was loaded.
    pub loaded: SystemTime,
    /// IPv4 networks with a country.
    pub networks_v4: u64,
    /// IPv6 networks with a country.
    pub networks_v6: u64,
}

impl From<Header> for TableStatus {
    fn from(header: Header) -> Self {
        let name = header.database_type.map(u64::to_le_bytes).concat();
        let time = |s| {
            UNIX_EPOCH
                .checked_add(Duration::from_secs(s))
                .unwrap_or(UNIX_EPOCH)
        };
        Self {
            database_type: String::from_utf8_lossy(&name)
                .trim_end_matches('\0')
                .to_owned(),
            built: time(header.build_epoch),
            loaded: time(header.loaded),
            networks_v4: header.networks_v4,
            networks_v6: header.networks_v6,
        }
    }
}

/// What tells that a file was changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    /// `None` if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// What a load changes; its lock serialises loads.
#[derive(Debug)]
struct Loader {
    outer: Outer,
    /// The file as it was at the last load, whatever came of it. Outer `None`: never looked.
    seen: Option<Option<Fingerprint>>,
    /// Another daemon writes the kernel's table.
    suspended: bool,
}

/// How the last load went.
#[derive(Debug, Default)]
struct Last {
    tried: Option<SystemTime>,
    error: Option<String>,
}

/// The GeoIP service.
#[derive(Debug)]
pub struct GeoIp {
    path: Option<PathBuf>,
    loader: Mutex<Loader>,
    current: ArcSwapOption<KernelTable>,
    last: Mutex<Last>,
}

impl GeoIp {
    /// Takes the map out of `kernel`, and over the table in it if there is one. Loads nothing; without a `path` a table of
    /// an earlier daemon is taken out of force.
    ///
    /// # Errors
    /// [`GeoIpError::Kernel`] or [`GeoIpError::Map`].
    pub fn open(kernel: &mut Kernel, path: Option<PathBuf>) -> Result<Self, GeoIpError> {
        let map = kernel.take_map(GEO_MAP)?;
        let mut outer = Outer::try_from(map).map_err(|source| GeoIpError::Map {
            what: "use the map GEO",
            source,
        })?;
        let (occupied, mut current) = match outer.get(&0, 0) {
            Ok(inner) => (true, KernelTable::take_over(inner)),
            Err(MapError::KeyNotFound) => (false, None),
            Err(error) => {
                // Opening a map by its id needs CAP_SYS_ADMIN. The kernel goes on using it; only userland
                // cannot look until its first load.
                tracing::warn!(error = %chain(&error), "cannot open the GeoIP table in force");
                (true, None)
            }
        };
        if path.is_none() && occupied {
            // A table without rows knows no address; aya cannot empty the slot.
            put_in_force(&mut outer, &create(1)?)?;
            current = None;
        }
        Ok(Self {
            path,
            loader: Mutex::new(Loader {
                outer,
                seen: None,
                suspended: false,
            }),
            current: ArcSwapOption::from(current.map(Arc::new)),
            last: Mutex::default(),
        })
    }

    /// Loads the file and puts its table in force.
    ///
    /// # Errors
    /// [`GeoIpError`]; also in [`GeoIp::status`], and the table before it stays in force.
    pub async fn load(self: &Arc<Self>) -> Result<(), GeoIpError> {
        self.blocking(|this| this.load_blocking(&mut lock(&this.loader)))
            .await
    }

    /// Loads the file if it is not the one last seen, and says whether it did.
    ///
    /// # Errors
    /// As [`GeoIp::load`]; once per change.
    pub async fn reload_if_changed(self: &Arc<Self>) -> Result<bool, GeoIpError> {
        self.blocking(|this| {
            let mut loader = lock(&this.loader);
            let path = this.path.as_ref().ok_or(GeoIpError::NotConfigured)?;
            if loader.suspended || loader.seen == Some(Fingerprint::of(path)) {
                return Ok(false);
            }
            this.load_blocking(&mut loader).map(|()| true)
        })
        .await
    }

    /// [`Self::load`] for a thread that may block.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_now(&self) -> Result<(), GeoIpError> {
        self.noted(self.load_blocking(&mut lock(&self.loader)))
    }

    /// Ends a load in progress and begins none until [`Self::resume`]: another daemon writes the table.
    pub fn suspend(&self) {
        lock(&self.loader).suspended = true;
    }

    /// After [`Self::suspend`]: the next look loads the file, whatever table the other has put in force.
    pub fn resume(&self) {
        let mut loader = lock(&self.loader);
        loader.suspended = false;
        loader.seen = None;
    }

    /// Follows the file until cancelled; the first look is at once. Logs what it loads and what it refuses.
    pub async fn watch(self: Arc<Self>, cancel: CancellationToken) {
        if self.path.is_none() {
            return;
        }
        loop {
            // Logged where it happens.
            let _ = self.reload_if_changed().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// The country index that the kernel gives an address; 0 = unknown, or no table. IPv6: of the address's /64.
    pub fn index(&self, address: IpAddr) -> u8 {
        self.current
            .load()
            .as_deref()
            .map_or(UNKNOWN, |table| table.index(address))
    }

    /// The country that the kernel gives an address; `??` = unknown, or no table.
    pub fn lookup(&self, address: IpAddr) -> CountryCode {
        countries::code(self.index(address))
    }

    /// What is in force and how the last load went.
    pub fn status(&self) -> Status {
        let last = lock(&self.last);
        Status {
            path: self.path.clone(),
            table: self
                .current
                .load()
                .as_ref()
                .map(|table| table.header.into()),
            tried: last.tried,
            error: last.error.clone(),
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, GeoIpError> + Send + 'static,
    ) -> Result<T, GeoIpError> {
        let this = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || work(&this))
            .await
            .unwrap_or_else(|_| {
                Err(GeoIpError::Crashed {
                    path: self.path.clone().unwrap_or_default(),
                })
            });
        self.noted(result)
    }

    /// Logs a failure and keeps it for the status.
    fn noted<T>(&self, result: Result<T, GeoIpError>) -> Result<T, GeoIpError> {
        if let Err(error) = &result {
            let message = chain(error);
            match self.current.load().is_some() {
                true => tracing::warn!(
                    error = message,
                    "GeoIP database refused; the table before it stays in force"
                ),
                false => tracing::error!(
                    error = message,
                    "GeoIP database refused; the country of every address is unknown"
                ),
            }
            lock(&self.last).error = Some(message);
        }
        result
    }

    fn load_blocking(&self, loader: &mut Loader) -> Result<(), GeoIpError> {
        let path = self.path.as_ref().ok_or(GeoIpError::NotConfigured)?;
        lock(&self.last).tried = Some(SystemTime::now());
        // Before reading: a change from here on is seen at the next look.
        loader.seen = Some(Fingerprint::of(path));
        let database = reader::read(path)?;
        let header = header(&database);
        let table = database
            .networks
            .build(header)
            .map_err(|source| GeoIpError::TooLarge {
                path: path.clone(),
                source,
            })?;
        let inner = write(&table)?;
        drop(table);
        put_in_force(&mut loader.outer, &inner)?;
        self.current
            .store(Some(Arc::new(KernelTable { inner, header })));
        lock(&self.last).error = None;
        tracing::info!(
            path = %path.display(),
            database_type = database.database_type,
            networks_v4 = database.networks_v4,
            networks_v6 = database.networks_v6,
            without_country = database.without_country,
            "GeoIP table in force"
        );
        Ok(())
    }
}

/// A table in the kernel, read by syscalls.
struct KernelTable {
    inner: Inner,
    header: Header,
}

impl std::fmt::Debug for KernelTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KernelTable").field(&self.header).finish()
    }
}

impl KernelTable {
    /// `None` if it is not a table (nothing is in force).
    fn take_over(inner: Inner) -> Option<Self> {
        let header = Header::from_row(&inner.get(&HEADER_ROW, 0).ok()?)?;
        Some(Self { inner, header })
    }

    fn index(&self, address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(v4) => geo::country4(&self, v4.into()),
            IpAddr::V6(v6) => geo::country6(&self, (u128::from(v6) >> 64) as u64),
        }
    }
}

/// A row read from the kernel.
struct Copied(Row);

impl std::ops::Deref for Copied {
    type Target = Row;
    fn deref(&self) -> &Row {
        &self.0
    }
}

impl GeoTables for &KernelTable {
    type Row = Copied;
    fn row(&self, index: u32) -> Option<Copied> {
        self.inner.get(&index, 0).ok().map(Copied)
    }
}

fn header(database: &reader::Database) -> Header {
    let mut name = [0; 8 * TYPE_WORDS];
    let len = database.database_type.floor_char_boundary(name.len());
    name[..len].copy_from_slice(&database.database_type.as_bytes()[..len]);
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|byte| name[8 * i + byte]));
    Header {
        build_epoch: database.build_epoch,
        loaded: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        networks_v4: database.networks_v4,
        networks_v6: database.networks_v6,
        database_type: std::array::from_fn(word),
    }
}

/// An inner map of `rows` rows of zeros.
fn create(rows: u32) -> Result<Inner, GeoIpError> {
    Inner::create(rows, BPF_F_INNER_MAP).map_err(|source| GeoIpError::Map {
        what: "create a GeoIP table",
        source,
    })
}

/// A table, written into a map of its own.
fn write(table: &table::Table) -> Result<Inner, GeoIpError> {
    let rows = table.rows();
    let mut inner = create(rows.len() as u32)?;
    for (index, row) in rows
        .iter()
        .enumerate()
        .filter(|(_, row)| **row != [0; ROW_WORDS])
    {
        inner
            .set(index as u32, row, 0)
            .map_err(|source| GeoIpError::Map {
                what: "write a GeoIP table",
                source,
            })?;
    }
    Ok(inner)
}

fn put_in_force(outer: &mut Outer, inner: &Inner) -> Result<(), GeoIpError> {
    outer.set(0, inner, 0).map_err(|source| GeoIpError::Map {
        what: "put a GeoIP table in force",
        source,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever panicked left a table that is whole: it is replaced by one write.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    message
}
