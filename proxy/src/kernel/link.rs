//! Attaching the XDP program to interfaces, through pinned links.
//!
//! A link is pinned as `link-<interface>`: the filter stays when the daemon is gone, and the next daemon replaces the program
//! through the link, with no unfiltered instant. A pinned link whose interface is gone (deleted, renamed, or made again
//! under the same name: another index) guards nothing and is replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use nix::net::if_::if_nametoindex;

use super::{Kernel, KernelError, netlink};

/// How an interface is filtered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The interface's name.
    pub interface: String,
    /// How.
    pub mode: LinkMode,
    /// Why not better: the driver's refusal, or what is wrong. Empty if there is nothing to say.
    pub detail: String,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// In the driver.
    Native,
    /// After the driver, on socket buffers: slower.
    Generic,
    /// Not at all.
    Detached,
}

impl LinkMode {
    /// As in status and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Detached => "detached",
        }
    }
}

const PREFIX: &str = "link-";

/// The kernel's number for an interface; `None` if there is none of that name.
#[must_use]
pub fn index(interface: &str) -> Option<u32> {
    if_nametoindex(interface).ok()
}

impl Kernel {
    /// Loads every program through the verifier, attaching none.
    ///
    /// # Errors
    /// [`KernelError::Verify`] with the program's name and the verifier's log.
    pub fn check(&mut self) -> Result<(), KernelError> {
        use aya::programs::Program;
        for (name, program) in self.ebpf.programs_mut() {
            let result = match program {
                Program::Xdp(program) => program.load(),
                Program::SkSkb(program) => program.load(),
                Program::SockOps(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                Program::SkMsg(program) => program.load(),
                _ => Ok(()),
            };
            match result {
                Ok(()) | Err(aya::programs::ProgramError::AlreadyLoaded) => {}
                Err(source) => {
                    return Err(KernelError::Verify {
                        name: name.to_owned(),
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(())
    }

    /// The firewall program, loaded.
    ///
    /// # Errors
    /// [`KernelError::Verify`] if the verifier refuses it.
    pub fn firewall(&mut self) -> Result<&mut Xdp, KernelError> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut("firewall")
            .ok_or(KernelError::NoProgram("firewall"))?
            .try_into()
            .map_err(|source| KernelError::Verify {
                name: "firewall".into(),
                source: Box::new(source),
            })?;
        if program.fd().is_err() {
            program.load().map_err(|source| KernelError::Verify {
                name: "firewall".into(),
                source: Box::new(source),
            })?;
        }
        Ok(program)
    }

    /// Puts the firewall on an interface: replaces the program of a link that an earlier daemon pinned, or attaches,
    /// natively if the driver can.
    ///
    /// # Errors
    /// [`KernelError`] if there is no such interface, another XDP program is on it, or the kernel refuses.
    pub fn attach(&mut self, interface: &str) -> Result<LinkStatus, KernelError> {
        let index = if_nametoindex(interface).map_err(|source| KernelError::NoInterface {
            interface: interface.to_owned(),
            source: source.into(),
        })?;
        let path = self.pins.join(format!("{PREFIX}{interface}"));
        let program = self.firewall()?;
        if let Some(link) = live_link(&path, index)? {
            replace(program, link, interface)?;
            self.pin_program()?;
            return status(interface, index);
        }
        let attached = netlink::xdp(index).map_err(|source| query_error(interface, source))?;
        if let Some(foreign) = attached {
            return Err(KernelError::Foreign {
                interface: interface.to_owned(),
                program: program_name(foreign.program),
                id: foreign.program,
            });
        }
        // A `detach` has taken the directory away.
        fs::create_dir_all(&self.pins).map_err(|source| KernelError::PinDirectory {
            path: self.pins.clone(),
            source,
        })?;
        let program = self.firewall()?;
        let refused = |source| KernelError::Attach {
            interface: interface.to_owned(),
            source: Box::new(source),
        };
        let (id, detail) = match program.attach(interface, XdpMode::Driver) {
            Ok(id) => (id, String::new()),
            Err(native) => {
                let id = program.attach(interface, XdpMode::Skb).map_err(refused)?;
                (id, native_refusal(interface, &native))
            }
        };
        let link = program.take_link(id).map_err(refused)?;
        pin(link, &path, interface)?;
        self.pin_program()?;
        let mut status = status(interface, index)?;
        status.detail = detail;
        Ok(status)
    }

    /// Pins the program as `firewall`, so that it can be found (`bpftool prog show pinned`).
    fn pin_program(&mut self) -> Result<(), KernelError> {
        let path = self.pins.join("firewall");
        remove(&path)?;
        let program = self.firewall()?;
        program.pin(&path).map_err(|source| KernelError::Pin {
            path,
            source: Box::new(source),
        })
    }
}

/// Interfaces that have a pinned link, and how they are filtered.
///
/// # Errors
/// [`KernelError`] if the pin directory or an interface cannot be read.
pub fn links(pins: &Path) -> Result<Vec<LinkStatus>, KernelError> {
    let mut links = Vec::new();
    for path in entries(pins)? {
        let Some(interface) = path
            .file_name()
            .and_then(|n| n.to_str()?.strip_prefix(PREFIX))
        else {
            continue;
        };
        let detached = |detail: &str| LinkStatus {
            interface: interface.to_owned(),
            mode: LinkMode::Detached,
            detail: detail.to_owned(),
        };
        links.push(match if_nametoindex(interface) {
            Err(_) => detached("there is no such interface; its link is stale"),
            Ok(index) if link_index(&path)? != Some(index) => {
                detached("the interface was made again since; attach it again")
            }
            Ok(index) => status(interface, index)?,
        });
    }
    Ok(links)
}

/// Takes the firewall off every interface and removes every pin of this layout. Needs no daemon.
///
/// # Errors
/// [`KernelError`] if a pin cannot be removed.
pub fn detach(pin_path: &Path) -> Result<Vec<String>, KernelError> {
    let pins = super::pins(pin_path);
    let mut interfaces = Vec::new();
    let (links, others): (Vec<_>, Vec<_>) = entries(&pins)?.into_iter().partition(|path| {
        path.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(PREFIX))
    });
    for path in links.iter().chain(&others) {
        remove(path)?;
        if let Some(interface) = path
            .file_name()
            .and_then(|n| n.to_str()?.strip_prefix(PREFIX))
        {
            interfaces.push(interface.to_owned());
        }
    }
    match fs::remove_dir(&pins) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::PinDirectory { path: pins, source })
        }
        _ => Ok(interfaces),
    }
}

fn entries(pins: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let error = |source| KernelError::PinDirectory {
        path: pins.to_owned(),
        source,
    };
    match fs::read_dir(pins) {
        Ok(entries) => entries
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<_, _>>()
            .map_err(error),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(error(source)),
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::Unpin {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn open_link(path: &Path) -> Result<Option<FdLink>, KernelError> {
    if !path.exists() {
        return Ok(None);
    }
    PinnedLink::from_pin(path)
        .map(|link| Some(link.into()))
        .map_err(|source| KernelError::Link {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

/// The interface of a pinned link, as `/proc` shows it (bpf_xdp_link_show_fdinfo); 0 = it is gone.
fn link_index(path: &Path) -> Result<Option<u32>, KernelError> {
    let Some(link) = open_link(path)? else {
        return Ok(None);
    };
    fd_index(&link, path)
}

fn fd_index(link: &FdLink, path: &Path) -> Result<Option<u32>, KernelError> {
    // aya does not give out a link's descriptor; its id does (`FdLinkId` is the descriptor's number).
    let id = link
        .info()
        .map_err(|source| KernelError::Link {
            path: path.to_owned(),
            source: Box::new(source),
        })?
        .id();
    let error = |source| KernelError::Unpin {
        path: PathBuf::from("/proc/self/fdinfo"),
        source,
    };
    for entry in fs::read_dir("/proc/self/fdinfo").map_err(error)? {
        let Ok(text) = fs::read_to_string(entry.map_err(error)?.path()) else {
            continue; // closed meanwhile
        };
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.trim().parse::<u32>().ok())
        };
        if field("link_id:") == Some(id) {
            return Ok(field("ifindex:"));
        }
    }
    Ok(None)
}

/// The pinned link if it holds this very interface; a stale one is removed.
fn live_link(path: &Path, index: u32) -> Result<Option<XdpLink>, KernelError> {
    let Some(link) = open_link(path)? else {
        return Ok(None);
    };
    if fd_index(&link, path)? == Some(index) {
        let link = XdpLink::try_from(link).map_err(|source| KernelError::Link {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        return Ok(Some(link));
    }
    remove(path)?;
    Ok(None)
}

fn replace(program: &mut Xdp, link: XdpLink, interface: &str) -> Result<(), KernelError> {
    let refused = |source| KernelError::Attach {
        interface: interface.to_owned(),
        source: Box::new(source),
    };
    let id = program.attach_to_link(link).map_err(refused)?;
    // The pin keeps the link; this handle must not count as ours to detach.
    drop(program.take_link(id).map_err(refused)?);
    Ok(())
}

fn pin(link: XdpLink, path: &Path, interface: &str) -> Result<(), KernelError> {
    let link = FdLink::try_from(link).map_err(|source| KernelError::Link {
        path: PathBuf::from(interface),
        source: Box::new(source),
    })?;
    link.pin(path).map_err(|source| KernelError::Pin {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    Ok(())
}

fn query_error(interface: &str, source: io::Error) -> KernelError {
    KernelError::Query {
        interface: interface.to_owned(),
        source,
    }
}

fn status(interface: &str, index: u32) -> Result<LinkStatus, KernelError> {
    let attached = netlink::xdp(index).map_err(|source| query_error(interface, source))?;
    let (mode, detail) = match attached {
        Some(attached) if attached.generic => (LinkMode::Generic, "runs in generic mode"),
        Some(_) => (LinkMode::Native, ""),
        None => (LinkMode::Detached, "no XDP program is on the interface"),
    };
    Ok(LinkStatus {
        interface: interface.to_owned(),
        mode,
        detail: detail.to_owned(),
    })
}

fn program_name(id: u32) -> String {
    aya::programs::loaded_programs()
        .flatten()
        .find(|info| info.id() == id)
        .and_then(|info| info.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "?".into())
}

fn native_refusal(interface: &str, error: &aya::programs::ProgramError) -> String {
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let hint = if cause.contains("os error 34") {
        format!("; the MTU of {interface} is too large for it (on veth about 3500 is the most)")
    } else {
        String::new()
    };
    format!("the driver refused native XDP: {cause}{hint}")
}
