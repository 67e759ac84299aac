//! The relay's maps, and a connection's entries in them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use aya::{
    maps::{HashMap, MapData, MapError, SockHash},
    programs::SkSkb,
};
use mc_edge_common::relay::{CAP, Credit, Flow};
use tokio::net::TcpStream;

use super::{super::sys, SockmapError};
use crate::kernel::{Kernel, undisturbed};

pub(super) struct Tables {
    /// Held for one system call at a time.
    hashes: Mutex<Hashes>,
    flows: HashMap<MapData, u64, Flow>,
    credits: Mutex<HashMap<MapData, u64, Credit>>,
    /// Pairs that live. Counting keys in the kernel would hold up new connections.
    pairs: AtomicU64,
}

struct Hashes {
    src: SockHash<MapData, u64>,
    dst: SockHash<MapData, u64>,
    flows: HashMap<MapData, u64, Flow>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tables {
    pub(super) fn open(kernel: &mut Kernel) -> Result<Self, SockmapError> {
        let src: SockHash<_, u64> = kernel.take_map("RELAY_SRC")?.try_into()?;
        let dst: SockHash<_, u64> = kernel.take_map("RELAY_DST")?.try_into()?;
        let flows = kernel.take_map("RELAY_FLOWS")?;
        let credits: HashMap<_, u64, Credit> = kernel.take_map("RELAY_CREDITS")?.try_into()?;
        let program: &mut SkSkb = (kernel.ebpf.program_mut("relay"))
            .ok_or(SockmapError::NoProgram)?
            .try_into()?;
        undisturbed(|| program.load())?;
        program.attach(src.fd())?;
        let aya::maps::Map::HashMap(data) = flows else {
            return Err(MapError::InvalidMapType { map_type: 0 }.into());
        };
        let again = MapData::from_fd((data.fd().as_fd().try_clone_to_owned()).map_err(
            |io_error| {
                MapError::SyscallError(aya::sys::SyscallError {
                    call: "dup",
                    io_error,
                })
            },
        )?)?;
        Ok(Self {
            hashes: Mutex::new(Hashes {
                src,
                dst,
                flows: aya::maps::Map::HashMap(again).try_into()?,
            }),
            flows: aya::maps::Map::HashMap(data).try_into()?,
            credits: Mutex::new(credits),
            pairs: AtomicU64::new(0),
        })
    }

    /// Sockets entered, by userland's count.
    pub(super) fn entered(&self) -> u64 {
        2 * self.pairs.load(Relaxed)
    }

    pub(super) fn sockets(&self) -> usize {
        let hashes = lock(&self.hashes);
        hashes
            .dst
            .keys()
            .count()
            .max(hashes.src.keys().count())
            .max(self.flows.keys().count())
    }

    pub(super) fn flow(&self, cookie: u64) -> Flow {
        self.flows.get(&cookie, 0).unwrap_or_default()
    }

    pub(super) fn set_credit(&self, cookie: u64, credit: Credit) {
        // Updating an existing entry can fail for want of memory only; the direction then pauses.
        let _ = lock(&self.credits).insert(cookie, credit, 0);
    }
}

/// Why a connection cannot be redirected, for counters.
pub(super) struct Refused(pub(super) &'static str);

fn refused(error: &MapError) -> Refused {
    let MapError::SyscallError(error) = error else {
        return Refused("map_error");
    };
    Refused(match error.io_error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "not_established",
        Some(libc::E2BIG | libc::ENOSPC) => "full",
        Some(libc::ENOMEM) => "no_memory",
        _ => "map_error",
    })
}

/// A connection's entries, removed when dropped.
pub(super) struct Pair {
    pub(super) tables: Arc<Tables>,
    pub(super) client: u64,
    pub(super) backend: u64,
    /// Bytes in the send queue of client and backend before the first redirect.
    pub(super) base: (u64, u64),
}

impl Pair {
    /// Enters both sockets, both directions or none: a side that already sent FIN is refused by the kernel.
    pub(super) fn insert(
        tables: Arc<Tables>,
        client: &TcpStream,
        backend: &TcpStream,
    ) -> Result<Self, Refused> {
        let cookie = |s| {
            socket2::SockRef::from(s)
                .cookie()
                .map_err(|_| Refused("cookie"))
        };
        let queued = |s: &TcpStream| {
            sys::bytes_queued_exactly(s).map_err(|_: io::Error| Refused("tcp_info"))
        };
        let pair = Self {
            client: cookie(client)?,
            backend: cookie(backend)?,
            base: (queued(client)?, queued(backend)?),
            tables,
        };
        pair.tables.pairs.fetch_add(1, Relaxed);
        {
            let mut hashes = lock(&pair.tables.hashes);
            let mut credits = lock(&pair.tables.credits);
            for (cookie, peer, stream) in [
                (pair.client, pair.backend, client),
                (pair.backend, pair.client, backend),
            ] {
                let credit = Credit {
                    peer,
                    limit: CAP,
                    resume_at: 0,
                };
                hashes
                    .flows
                    .insert(cookie, Flow::default(), 0)
                    .map_err(|e| refused(&e))?;
                credits.insert(cookie, credit, 0).map_err(|e| refused(&e))?;
                hashes
                    .dst
                    .insert(cookie, stream.as_raw_fd(), 0)
                    .map_err(|e| refused(&e))?;
            }
        }
        Ok(pair)
    }

    /// Starts redirecting what `stream` receives, what it has received already first. `false`: it sent FIN
    /// meanwhile, and userland must read it.
    pub(super) fn start(&self, cookie: u64, stream: &TcpStream) -> bool {
        let inserted = lock(&self.tables.hashes)
            .src
            .insert(cookie, stream.as_raw_fd(), 0)
            .is_ok();
        inserted && sys::kick(stream).is_ok()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tables.pairs.fetch_sub(1, Relaxed);
        let mut hashes = lock(&self.tables.hashes);
        let mut credits = lock(&self.tables.credits);
        for cookie in [self.client, self.backend] {
            // Those never inserted, or whose socket is gone, are absent.
            let _ = hashes.src.remove(&cookie);
            let _ = hashes.dst.remove(&cookie);
            let _ = hashes.flows.remove(&cookie);
            let _ = credits.remove(&cookie);
        }
    }
}
