//! Network namespaces and the veth pairs between them: several hosts on one machine.
//!
//! Interfaces are created inside the namespaces, so their names need to be unique only there. Commands enter
//! through `nsenter --net`, not `ip netns exec`: the latter also mounts a fresh /sys, on which no bpffs is. Needs root.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

const DIRECTORY: &str = "/run/netns";
const PREFIX: &str = "mct";

/// A network namespace with `lo` up; deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    keep: bool,
}

impl Namespace {
    /// A new one, its name made of this process's id, a counter and `purpose`. The first call also removes what processes that no
    /// longer run have left.
    ///
    /// # Errors
    /// If `ip` fails (not root, not installed).
    pub fn new(purpose: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{n}-{purpose}", process::id());
        // Of a process that was killed and had this one's id.
        delete(&name)?;
        Self::named(&name)
    }

    /// A new one with this very name.
    ///
    /// # Errors
    /// If there is one already, or `ip` fails.
    pub fn named(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let namespace = Self {
            name: name.to_owned(),
            keep: false,
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Before any interface exists: these are the defaults of those to come.
        namespace.run(|| {
            for (key, value) in [
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/default/accept_ra", "0"),
            ] {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
            }
            anyhow::Ok(())
        })??;
        Ok(namespace)
    }

    /// A handle to one that exists; it is not deleted when dropped.
    ///
    /// # Errors
    /// If there is none.
    pub fn existing(name: &str) -> Result<Self> {
        let namespace = Self {
            name: name.to_owned(),
            keep: true,
        };
        if !namespace.path().exists() {
            bail!("there is no network namespace {name}");
        }
        Ok(namespace)
    }

    /// Its name, as in `ip netns list`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, as for `nsenter --net=`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Lets it outlive this handle.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// `ip -n <name> <args>`.
    ///
    /// # Errors
    /// If `ip` does; with what it said.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// A command that will run `program` in it. Only the network is another: files, /sys and bpffs stay. The child has the pid
    /// of the program itself.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Moves the calling thread into it, for good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {}", path.display()))
    }

    /// Runs `f` in it, on a thread of its own. Sockets that `f` returns stay in the namespace wherever they are used.
    ///
    /// # Errors
    /// If the namespace cannot be entered. A panic of `f` goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| f()));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A tokio runtime whose every worker is in it. `block_on` runs on the calling thread, which is not: spawn there.
    ///
    /// # Errors
    /// If the namespace cannot be entered or the threads cannot be made.
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        self.run(|| ())?;
        let target = Self {
            name: self.name.clone(),
            keep: true,
        };
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || target.enter().expect("it could be entered just before"))
            .build()
            .context("cannot start a runtime")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = delete(&self.name)
        {
            eprintln!("{error:#}");
        }
    }
}

/// Deletes a namespace; it need not exist.
///
/// # Errors
/// If `ip` fails.
pub fn delete(name: &str) -> Result<()> {
    if !Path::new(DIRECTORY).join(name).exists() {
        return Ok(());
    }
    ip(&["netns", "delete", name])
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where.
    pub namespace: &'a Namespace,
    /// Interface name, at most 15 bytes.
    pub interface: &'a str,
    /// With prefix lengths: `10.1.0.1/24`, `fd00::1/64`.
    pub addresses: &'a [&'a str],
}

/// Connects two namespaces. Both ends are up with their addresses usable at once (no duplicate address detection), and have GRO
/// on: `XDP_TX` and redirects on a veth need NAPI on the peer.
///
/// # Errors
/// If `ip` or `ethtool` fails.
pub fn veth(a: End<'_>, b: End<'_>) -> Result<()> {
    // Ends with the same index in their namespaces are taken for no pair at all by the kernel's link watch, which then
    // activates the link (and IPv6 on it) up to a second later.
    static INDEX: AtomicU32 = AtomicU32::new(100);
    let index = INDEX.fetch_add(2, Ordering::Relaxed);
    let named = |end: End<'_>, index: u32| {
        let words = [
            "name",
            end.interface,
            "index",
            &index.to_string(),
            "netns",
            &end.namespace.name,
        ];
        words.map(str::to_owned)
    };
    let (from, to) = (named(a, index), named(b, index + 1));
    let words = from
        .iter()
        .map(String::as_str)
        .chain(["type", "veth", "peer"])
        .chain(to.iter().map(String::as_str));
    ip(&["link", "add"].into_iter().chain(words).collect::<Vec<_>>())?;
    for end in [a, b] {
        for address in end.addresses {
            let mut args = vec!["address", "add", address, "dev", end.interface];
            if address.contains(':') {
                args.push("nodad");
            }
            end.namespace.ip(&args)?;
        }
        end.namespace.ip(&["link", "set", end.interface, "up"])?;
    }
    for end in [a, b] {
        checked(
            end.namespace
                .command("ethtool")
                .args(["-K", end.interface, "gro", "on"]),
        )?;
    }
    Ok(())
}

/// Sets the MTU of an interface. Native XDP on veth takes up to about 3500.
///
/// # Errors
/// If `ip` fails.
pub fn set_mtu(namespace: &Namespace, interface: &str, mtu: u32) -> Result<()> {
    namespace.ip(&["link", "set", interface, "mtu", &mtu.to_string()])
}

/// Removes the namespaces of processes that no longer run. What cannot be removed is reported and left.
pub fn sweep() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner(&name) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists()
            && let Err(error) = delete(&name)
        {
            // Another test process may have swept it first.
            if entry.path().exists() {
                eprintln!("{error:#}");
            }
        }
    }
}

fn owner(name: &str) -> Option<u32> {
    let mut parts = name.split('-');
    (parts.next() == Some(PREFIX)).then(|| parts.next()?.parse().ok())?
}

fn ip(args: &[&str]) -> Result<()> {
    checked(Command::new("ip").args(args))
}

pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{command:?}: not installed; `cargo xtask setup` installs it")
        }
        other => other.with_context(|| format!("cannot run {command:?}"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn two_hosts_talk_over_ipv4_and_ipv6() {
        let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
        veth(
            End {
                namespace: &a,
                interface: "v0",
                addresses: &["10.9.0.1/24", "fd00:9::1/64"],
            },
            End {
                namespace: &b,
                interface: "v0",
                addresses: &["10.9.0.2/24", "fd00:9::2/64"],
            },
        )
        .unwrap();
        for address in ["10.9.0.2:0", "[fd00:9::2]:0"] {
            let listener = b.run(|| TcpListener::bind(address)).unwrap().unwrap();
            let to = listener.local_addr().unwrap();
            let mut client = a.run(|| TcpStream::connect(to)).unwrap().unwrap();
            client.write_all(b"hello").unwrap();
            let mut got = [0; 5];
            listener.accept().unwrap().0.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello", "{address}");
        }
        set_mtu(&a, "v0", 1400).unwrap();
        let mtu = a
            .command("ip")
            .args(["link", "show", "v0"])
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&mtu.stdout).contains("mtu 1400"));
    }

    #[test]
    fn only_the_network_is_another() {
        let namespace = Namespace::new("sys").unwrap();
        let seen = namespace
            .command("stat")
            .args(["-f", "-c", "%T", "/sys/fs/bpf"])
            .output()
            .unwrap();
        let here = Command::new("stat")
            .args(["-f", "-c", "%T", "/sys/fs/bpf"])
            .output()
            .unwrap();
        assert_eq!(seen.stdout, here.stdout);
    }

    #[test]
    fn a_runtime_lives_in_it() {
        let namespace = Namespace::new("rt").unwrap();
        let runtime = namespace.runtime().unwrap();
        let mine = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let its = runtime
            .block_on(runtime.spawn(async { fs::read_link("/proc/thread-self/ns/net").unwrap() }));
        assert_ne!(its.unwrap(), mine);
    }

    #[test]
    fn the_namespaces_of_the_dead_are_swept() {
        let mut ended = Command::new("true").spawn().unwrap();
        let pid = ended.id();
        ended.wait().unwrap();
        // No more than this: a test in another process may sweep it at once.
        let stale = format!("{PREFIX}-{pid}-0-stale");
        ip(&["netns", "add", &stale]).unwrap();
        let alive = Namespace::new("alive").unwrap();
        sweep();
        assert!(!Path::new(DIRECTORY).join(&stale).exists());
        assert!(alive.path().exists());
    }

    #[test]
    fn owners_are_read_from_names() {
        let rows = [
            ("mct-12-0-a", Some(12)),
            ("mct-demo", None),
            ("mc-demo-node", None),
            ("other-1", None),
        ];
        for (name, want) in rows {
            assert_eq!(owner(name), want, "{name}");
        }
    }
}
