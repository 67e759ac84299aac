//! Loading the eBPF object. The only place that knows how maps are pinned; each area takes its own maps
//! out of [`Kernel`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{Ebpf, EbpfError, EbpfLoader, maps::Map};
use mc_edge_common::{LAYOUT_VERSION, geo::GEO_MAP};

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
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object (needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)")]
    Load(#[source] Box<EbpfError>),
    /// A map that the daemon needs is not in the object.
    #[error("the eBPF object has no map {0}")]
    NoMap(&'static str),
}

/// The loaded eBPF object: maps (pinned ones are taken over from an earlier daemon) and programs,
/// not yet attached.
#[derive(Debug)]
pub struct Kernel {
    /// For program loading and attachment.
    pub ebpf: Ebpf,
    /// Directory of this layout's pins, below the configured one.
    pub pins: PathBuf,
}

impl Kernel {
    /// Loads the object; maps pinned under `pin_path` are taken over.
    ///
    /// # Errors
    /// [`KernelError`] if the directory cannot be made or the kernel refuses a map.
    pub fn open(pin_path: &Path) -> Result<Self, KernelError> {
        let pins = pin_path.join(format!("v{LAYOUT_VERSION}"));
        fs::create_dir_all(&pins).map_err(|source| KernelError::PinDirectory {
            path: pins.clone(),
            source,
        })?;
        let ebpf = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            // aya-ebpf's BTF maps cannot say that they want to be pinned.
            .map_pin_path(GEO_MAP, pins.join(GEO_MAP))
            .load(OBJECT)
            .map_err(|e| KernelError::Load(Box::new(e)))?;
        Ok(Self { ebpf, pins })
    }

    /// Takes a map out of the object.
    ///
    /// # Errors
    /// [`KernelError::NoMap`] if there is none, or it was taken before.
    pub fn take_map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        self.ebpf.take_map(name).ok_or(KernelError::NoMap(name))
    }

    /// STUB
    pub fn taken_over(&self) -> bool { false }
    /// STUB
    pub fn check() -> Result<Vec<String>, KernelError> { Ok(vec![]) }
}
/// STUB
pub fn detach(_: &Path) -> Result<Vec<String>, KernelError> { Ok(vec![]) }
