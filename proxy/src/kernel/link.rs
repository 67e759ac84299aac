//! Attaching the XDP program to interfaces, through pinned links.
//!
//! A link is pinned as `link-<interface>`: the filter stays when the daemon is gone, and the next daemon replaces the program
//! through the link, with no unfiltered instant. A pinned link whose interface is gone (deleted, renamed, or made again
//! under the same name: another index) guards nothing and is replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use nix::net::if_::if_nametoindex;

use super::{Kernel, KernelError, netlink, sys, undisturbed};

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
/// The pin of the program.
pub(super) const PROGRAM: &str = "firewall";
/// Looks, and between them, for the kernel to let go of a link: a second in all.
const RELEASES: u32 = 50;
const RELEASE: Duration = Duration::from_millis(20);

/// The kernel's number for an interface; `None` if there is none of that name.
#[must_use]
pub fn index(interface: &str) -> Option<u32> {
    if_nametoindex(interface).ok()
}

impl Kernel {
    /// Loads every program through the verifier, attaching none.
    ///
    /// # Errors
    /// [`KernelError::Verify`] with the program's name and the verifier's log; [`KernelError::ProgramType`].
    pub fn check(&mut self) -> Result<(), KernelError> {
        use aya::programs::Program;
        for (name, program) in self.ebpf.programs_mut() {
            let result = match program {
                Program::Xdp(program) => undisturbed(|| program.load()),
                Program::SkSkb(program) => undisturbed(|| program.load()),
                _ => return Err(KernelError::ProgramType(name.to_owned())),
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
            undisturbed(|| program.load()).map_err(|source| KernelError::Verify {
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
        check_frames(interface, index)?;
        let path = self.pins.join(format!("{PREFIX}{interface}"));
        // A `detach` has taken the directory away.
        fs::create_dir_all(&self.pins).map_err(|source| KernelError::PinDirectory {
            path: self.pins.clone(),
            source,
        })?;
        self.pin_maps()?;
        if let Some(link) = live_link(&path, index)? {
            replace(self.firewall()?, link, interface)?;
            return self.attached(interface, index);
        }
        for old in self.other_layouts()? {
            let old = old.join(format!("{PREFIX}{interface}"));
            if let Some(link) = live_link(&old, index)? {
                let link = replace(self.firewall()?, link, interface)?;
                pin(link, &path, interface)?;
                return self.attached(interface, index);
            }
        }
        let mut left = RELEASES;
        while let Some(foreign) = query(interface, index)?.xdp {
            let error = foreign_error(interface, foreign.program);
            // A link whose pin was removed: the kernel lets go of it in its own time, and nobody can see it meanwhile.
            let going =
                matches!(&error, KernelError::Foreign { program, .. } if program == PROGRAM);
            if left == 0 || !going {
                return Err(error);
            }
            left -= 1;
            thread::sleep(RELEASE);
        }
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
        let mut status = self.attached(interface, index)?;
        status.detail = detail;
        Ok(status)
    }

    /// What has become of the link that [`Self::attach`] put on an interface, if it filters that no longer.
    pub(crate) fn lost(&self, interface: &str, index: u32) -> Option<&'static str> {
        let path = self.pins.join(format!("{PREFIX}{interface}"));
        match link_index(&path) {
            Ok(None) => Some("its pin was removed, and its filter with it"),
            Ok(Some(found)) if found != index => {
                Some("its link was detached (`bpftool link detach`?), and filters it no longer")
            }
            // Who has no descriptor left, say, is not to take it for lost.
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// After attachment: pins the program, and drops what other layouts have pinned for the interface.
    fn attached(&mut self, interface: &str, index: u32) -> Result<LinkStatus, KernelError> {
        self.pin_program()?;
        for old in self.other_layouts()? {
            remove(&old.join(format!("{PREFIX}{interface}")))?;
            let mut live = false;
            for path in entries(&old)?.iter().filter(|p| link_name(p).is_some()) {
                live |= link_index(path)?.is_some_and(|index| index != 0);
            }
            if !live {
                remove_layout(&old)?;
            }
        }
        status(interface, index)
    }

    /// Whether another layout's firewall is on an interface, or was when the daemon of then ended.
    pub(crate) fn has_links_of_other_layouts(&self) -> Result<bool, KernelError> {
        for layout in self.other_layouts()? {
            if entries(&layout)?.iter().any(|p| link_name(p).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn other_layouts(&self) -> Result<Vec<PathBuf>, KernelError> {
        let mut layouts = layouts(self.pins.parent().unwrap_or(&self.pins))?;
        layouts.retain(|path| *path != self.pins);
        Ok(layouts)
    }

    /// Pins the program as `firewall`, so that it can be found (`bpftool prog show pinned`).
    fn pin_program(&mut self) -> Result<(), KernelError> {
        let path = self.pins.join(PROGRAM);
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
        let Some(interface) = link_name(&path) else {
            continue;
        };
        let detached = |detail: &str| LinkStatus {
            interface: interface.to_owned(),
            mode: LinkMode::Detached,
            detail: detail.to_owned(),
        };
        links.push(match if_nametoindex(interface) {
            Err(_) => detached("there is no such interface; its link is stale"),
            Ok(index) if link_index(&path)? != Some(index) => detached(
                "its link was detached, or the interface was made again; it is attached again within a second",
            ),
            Ok(index) => status(interface, index)?,
        });
    }
    Ok(links)
}

/// Takes the firewall off every interface and removes every pin, of all layouts. Needs no daemon.
///
/// # Errors
/// [`KernelError`] if a pin cannot be removed.
pub fn detach(pin_path: &Path) -> Result<Vec<String>, KernelError> {
    let mut interfaces = Vec::new();
    for layout in layouts(pin_path)? {
        interfaces.extend(remove_layout(&layout)?);
    }
    Ok(interfaces)
}

/// Directories of pins, one per layout version.
fn layouts(pin_path: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let mut layouts = entries(pin_path)?;
    layouts.retain(|path| {
        path.file_name()
            .and_then(|n| n.to_str()?.strip_prefix('v')?.parse::<u32>().ok())
            .is_some()
    });
    Ok(layouts)
}

/// Removes a layout's pins, links first. Returns the interfaces of its links.
fn remove_layout(pins: &Path) -> Result<Vec<String>, KernelError> {
    let (links, others): (Vec<_>, Vec<_>) = entries(pins)?
        .into_iter()
        .partition(|path| link_name(path).is_some());
    for path in links.iter().chain(&others) {
        remove(path)?;
    }
    match fs::remove_dir(pins) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::Unpin {
            path: pins.to_owned(),
            source,
        }),
        _ => Ok(links
            .iter()
            .filter_map(|path| link_name(path).map(str::to_owned))
            .collect()),
    }
}

/// The interface that a pin is for, if it is a link's.
pub(super) fn link_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)
}

pub(super) fn entries(pins: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let error = |source| KernelError::ListPins {
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

fn open_link(path: &Path) -> Result<XdpLink, KernelError> {
    PinnedLink::from_pin(path)
        .and_then(|link| XdpLink::try_from(FdLink::from(link)))
        .map_err(|source| KernelError::Link {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

/// The index of a pinned link's interface; 0 = it has none any more. `None`: there is no such pin.
fn link_index(path: &Path) -> Result<Option<u32>, KernelError> {
    match sys::link_interface(path) {
        Ok(index) => Ok(Some(index)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KernelError::LinkInterface {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The pinned link if it holds this very interface; a stale one is removed.
fn live_link(path: &Path, index: u32) -> Result<Option<XdpLink>, KernelError> {
    match link_index(path)? {
        None => Ok(None),
        Some(found) if found == index => open_link(path).map(Some),
        Some(_) => {
            remove(path)?;
            Ok(None)
        }
    }
}

/// The link with our program. It is out of aya's hands, which would detach it with the program.
fn replace(program: &mut Xdp, link: XdpLink, interface: &str) -> Result<XdpLink, KernelError> {
    let refused = |source| KernelError::Attach {
        interface: interface.to_owned(),
        source: Box::new(source),
    };
    let id = program.attach_to_link(link).map_err(refused)?;
    program.take_link(id).map_err(refused)
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

fn query(interface: &str, index: u32) -> Result<netlink::Interface, KernelError> {
    netlink::interface(index).map_err(|source| KernelError::Query {
        interface: interface.to_owned(),
        source,
    })
}

/// Whether the firewall can read what an interface carries: the kernel attaches it to others as well.
///
/// # Errors
/// [`KernelError::NoFrames`].
pub fn check_frames(interface: &str, index: u32) -> Result<(), KernelError> {
    if query(interface, index)?.ethernet {
        return Ok(());
    }
    Err(KernelError::NoFrames(interface.to_owned()))
}

fn status(interface: &str, index: u32) -> Result<LinkStatus, KernelError> {
    let found = query(interface, index)?;
    let (mode, detail) = match found.xdp {
        _ if !found.ethernet => (LinkMode::Detached, "has no Ethernet frames to filter"),
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

fn foreign_error(interface: &str, id: u32) -> KernelError {
    let (interface, program) = (interface.to_owned(), program_name(id));
    let link = aya::programs::loaded_links()
        .flatten()
        .find(|link| link.program_id() == id);
    match link.map(|link| link.id()) {
        Some(link) => KernelError::ForeignLink {
            interface,
            program,
            id,
            link,
        },
        None => KernelError::Foreign {
            interface,
            program,
            id,
        },
    }
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
