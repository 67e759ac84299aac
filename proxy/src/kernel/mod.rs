//! Loading the eBPF object. The only place that knows how maps are pinned; each area takes its own maps
//! out of [`Kernel`].

mod btf;
mod link;
mod netlink;
mod pinned;
mod signals;
mod sys;

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError, MapInfo},
    pin::PinError,
    programs::{ProgramError, links::LinkError},
};
pub use link::{LinkMode, LinkStatus, check_frames, detach, index, links};
use mc_edge_common::{LAYOUT_VERSION, geo::GEO_MAP, relay::NO_OFFSET};
pub(crate) use pinned::Pinned;
pub(crate) use signals::undisturbed;

/// The object that `build.rs` built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MC_EDGE_OBJECT"));

/// A failure to load or take over the kernel side.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The pin directory cannot be made.
    #[error(
        "cannot create {path}; is a BPF file system mounted there (`mount -t bpf bpf /sys/fs/bpf`)?"
    )]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// Another daemon holds the pin directory.
    #[error(
        "a running daemon holds the pins in {0}; stop it, or give this one a directory of its own (`firewall.pin_path`)"
    )]
    PinsInUse(PathBuf),
    /// The pin directory cannot be locked.
    #[error("cannot lock the pin directory {path}")]
    LockPins {
        /// The directory.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// The pin directory cannot be listed.
    #[error("cannot list the pins in {path}")]
    ListPins {
        /// The directory.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// A link's interface is unknown.
    #[error("cannot ask the kernel which interface the link {path} filters")]
    LinkInterface {
        /// Its pin.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// The daemon has no use for a program of this type.
    #[error("the eBPF program {0} is of a type that this daemon does not load")]
    ProgramType(String),
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object (needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)")]
    Load(#[source] Box<EbpfError>),
    /// A map that the daemon needs is not in the object.
    #[error("the eBPF object has no map {0}")]
    NoMap(&'static str),
    /// A program that the daemon needs is not in the object.
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    /// The verifier refuses a program.
    #[error("the kernel refuses the eBPF program {name}")]
    Verify {
        /// The program.
        name: String,
        #[source]
        /// Why, with the verifier's log.
        source: Box<ProgramError>,
    },
    /// No such interface.
    #[error("there is no interface {interface}; `ip link` lists them")]
    NoInterface {
        /// Its name.
        interface: String,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// What the interface carries has no Ethernet header, and would pass unread.
    #[error(
        "{0} carries no Ethernet frames (a tunnel, WireGuard, PPP?), and the firewall reads nothing else; of PPPoE name the Ethernet interface beneath, the rest filter by other means"
    )]
    NoFrames(String),
    /// The interface cannot be asked.
    #[error("cannot ask the kernel what {interface} is and which XDP program is on it")]
    Query {
        /// Its name.
        interface: String,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// Someone else's program is on the interface.
    #[error(
        "the XDP program {program} (id {id}) is already on {interface}; \
         detach it (`ip link set dev {interface} xdp off`, or end the daemon that owns it) and try again"
    )]
    Foreign {
        /// The interface's name.
        interface: String,
        /// The program's name.
        program: String,
        /// The program's id.
        id: u32,
    },
    /// Someone else's link is on the interface.
    #[error(
        "the XDP program {program} (id {id}) is already on {interface}, through the BPF link {link}; \
         `bpftool -f link show id {link}` finds its owner and pins: end or remove those and try again"
    )]
    ForeignLink {
        /// The interface's name.
        interface: String,
        /// The program's name.
        program: String,
        /// The program's id.
        id: u32,
        /// The link's id.
        link: u32,
    },
    /// Neither native nor generic mode works.
    #[error("cannot attach the firewall to {interface}, neither natively nor in generic mode")]
    Attach {
        /// The interface's name.
        interface: String,
        #[source]
        /// Why.
        source: Box<ProgramError>,
    },
    /// A pinned link cannot be read.
    #[error("cannot use the link {path}")]
    Link {
        /// Its pin.
        path: PathBuf,
        #[source]
        /// Why.
        source: Box<LinkError>,
    },
    /// A pinned map cannot be asked.
    #[error("cannot use the pinned map {path}")]
    PinnedMap {
        /// The pin.
        path: PathBuf,
        #[source]
        /// Why.
        source: Box<MapError>,
    },
    /// A pinned map is not what this version makes.
    #[error(
        "the pinned map {path} is of another layout, from another build of mc-proxy; \
         the firewall that it belongs to still filters: `mc-proxy detach` removes it"
    )]
    Layout {
        /// The pin.
        path: PathBuf,
    },
    /// Something cannot be pinned.
    #[error("cannot pin {path}")]
    Pin {
        /// The pin.
        path: PathBuf,
        #[source]
        /// Why.
        source: Box<PinError>,
    },
    /// A pin cannot be removed.
    #[error("cannot remove {path}")]
    Unpin {
        /// The pin.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
}

/// Directory of this layout's pins, below the configured one.
#[must_use]
pub fn pins(pin_path: &Path) -> PathBuf {
    pin_path.join(format!("v{LAYOUT_VERSION}"))
}

/// Refuses pinned maps of another layout: aya takes over whatever has the name, and a kernel map with longer values than
/// declared writes beyond the buffers that they are read into.
fn check_pinned(pins: &Path) -> Result<(), KernelError> {
    let object = aya_obj::Object::parse(OBJECT)
        .map_err(|e| KernelError::Load(Box::new(EbpfError::ParseError(e))))?;
    for (name, wanted) in &object.maps {
        let path = pins.join(name);
        if !path.exists() {
            continue;
        }
        let layout = |source| KernelError::PinnedMap {
            path: path.clone(),
            source: Box::new(source),
        };
        let found = MapInfo::from_pin(&path).map_err(layout)?;
        let sizes = (found.key_size(), found.value_size(), found.max_entries());
        let kind = found.map_type().map_err(layout)? as u32;
        if kind != wanted.map_type()
            || sizes != (wanted.key_size(), wanted.value_size(), wanted.max_entries())
        {
            return Err(KernelError::Layout { path });
        }
    }
    Ok(())
}

/// The pin directory is ours until this is dropped, or the process ends however it may; unless a daemon has it too that
/// takes over from this one.
#[derive(Debug)]
pub struct PinLock {
    directory: File,
}

impl AsFd for PinLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Locks the pin directory, made if absent. Pins are the host's, whereas a daemon's other lock is its root's: without this
/// one, a daemon with another root would take over the maps of the first and "repair" them.
///
/// # Errors
/// [`KernelError::PinsInUse`] if another daemon holds it; others if it cannot be made or locked.
pub fn lock(pin_path: &Path) -> Result<PinLock, KernelError> {
    lock_inherited(pin_path, None)
}

/// [`lock`] of a directory that is open already: locked by that very descriptor, it is as if locked here.
///
/// # Errors
/// As [`lock`].
pub fn lock_inherited(pin_path: &Path, open: Option<File>) -> Result<PinLock, KernelError> {
    fs::create_dir_all(pin_path).map_err(|source| KernelError::PinDirectory {
        path: pin_path.to_owned(),
        source,
    })?;
    let error = |source| KernelError::LockPins {
        path: pin_path.to_owned(),
        source,
    };
    let (directory, inherited) = match open {
        Some(directory) => (directory, true),
        None => (File::open(pin_path).map_err(error)?, false),
    };
    match directory.try_lock() {
        // `mc-proxy detach` removes it, and whoever makes it anew would lock another.
        Ok(()) if !inherited && !is_at(&directory, pin_path).map_err(error)? => {
            let removed = "it was removed just now; try again";
            Err(error(io::Error::other(removed)))
        }
        Ok(()) => Ok(PinLock { directory }),
        Err(TryLockError::WouldBlock) => Err(KernelError::PinsInUse(pin_path.to_owned())),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}

/// Whether an open file is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// The loaded eBPF object: maps (pinned ones are taken over from an earlier daemon) and programs,
/// not yet attached.
#[derive(Debug)]
pub struct Kernel {
    /// For program loading and attachment.
    pub ebpf: Ebpf,
    /// Directory of this layout's pins, below the configured one.
    pub pins: PathBuf,
    /// What was pinned when it was opened, for [`Self::pin_maps`].
    pinned: Pinned,
}

impl Kernel {
    /// Loads the object; maps pinned under `pin_path` are taken over.
    ///
    /// # Errors
    /// [`KernelError`] if the directory cannot be made or the kernel refuses a map.
    pub fn open(pin_path: &Path) -> Result<Self, KernelError> {
        let pins = pins(pin_path);
        fs::create_dir_all(&pins).map_err(|source| KernelError::PinDirectory {
            path: pins.clone(),
            source,
        })?;
        check_pinned(&pins)?;
        let types = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
        // Without it the verifier refuses the program that needs it, and only that.
        let copied_seq = btf::member_offset(&types, "tcp_sock", "copied_seq").unwrap_or(NO_OFFSET);
        let load = || {
            EbpfLoader::new()
                .override_global("COPIED_SEQ_OFFSET", &copied_seq, true)
                .default_map_pin_directory(&pins)
                // aya-ebpf's BTF maps cannot say that they want to be pinned.
                .map_pin_path(GEO_MAP, pins.join(GEO_MAP))
                .load(OBJECT)
        };
        let ebpf = undisturbed(load).map_err(|e| KernelError::Load(Box::new(e)))?;
        let pinned = Pinned::open(&pins)?;
        Ok(Self { ebpf, pins, pinned })
    }

    /// Pins the maps again that a `detach` has unpinned: what filters must outlive the daemon.
    ///
    /// # Errors
    /// [`KernelError::Pin`].
    pub fn pin_maps(&self) -> Result<(), KernelError> {
        self.pinned.restore()
    }

    /// Takes a map out of the object.
    ///
    /// # Errors
    /// [`KernelError::NoMap`] if there is none, or it was taken before.
    pub fn take_map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        self.ebpf.take_map(name).ok_or(KernelError::NoMap(name))
    }
}
