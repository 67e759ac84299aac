//! What the demo started, on disk, so that a later `down` ends just that. Namespaces and pins are the machine's, whatever checkout
//! made them; so is this record.

use std::{
    fmt, fs,
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use mc_testkit::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Where it is kept.
pub(super) const PATH: &str = "/run/mc-demo.json";

/// Waits until no other `up` or `down` runs on this machine. The lock is an abstract socket: it ends with the process and leaves no
/// file.
pub(super) fn lock() -> Result<UnixListener> {
    let address = SocketAddr::from_abstract_name("mc-demo").context("a valid name")?;
    let mut told = false;
    loop {
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !told {
                    println!("another `up` or `down` runs on this machine; waiting for it");
                    told = true;
                }
                thread::sleep(Duration::from_millis(100));
            }
            other => return other.context("cannot take the demo's lock"),
        }
    }
}

/// The demo's directory, and its processes in the order of their start.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) directory: PathBuf,
    pub(super) processes: Vec<Started>,
}

/// A process, told apart from a later one with the same id by when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// For people.
    pub(super) what: String,
    pid: i32,
    /// Clock ticks from boot to its start (proc(5), stat, field 22).
    start: u64,
}

impl State {
    /// Reads it; `None` if there is no file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let state = serde_json::from_str(&text);
                state
                    .map(Some)
                    .with_context(|| format!("{} is not what `up` wrote", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Records a process that has just been started.
    pub(super) fn add(&mut self, path: &Path, what: &str, pid: u32) -> Result<()> {
        let pid = i32::try_from(pid).context("a pid")?;
        let start = start_of(pid).with_context(|| format!("{what} ended at once"))?;
        self.processes.push(Started {
            what: what.to_owned(),
            pid,
            start,
        });
        self.write(path)
    }

    /// Writes it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("state is plain data")?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.what, self.pid)
    }
}

impl Started {
    /// Whether this very process still runs.
    pub(super) fn is_running(&self) -> bool {
        start_of(self.pid) == Some(self.start)
    }

    /// Sends a signal and waits for the end. Nothing happens if it has ended already.
    pub(super) fn end(&self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        kill(Pid::from_raw(self.pid), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.what))?;
        wait_for(&format!("the end of {self}"), || {
            (!self.is_running()).then_some(())
        })
    }
}

/// When a process started; `None` if it has ended, as a zombie too.
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let running = !matches!(fields.next()?, "Z" | "X");
    let start = fields.nth(18)?.parse().ok()?;
    running.then_some(start)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_recorded_process_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        State::default().add(&path, "sleep", child.id()).unwrap();
        let started = State::read(&path).unwrap().unwrap().processes.remove(0);

        let recycled = Started {
            start: started.start + 1,
            ..started.clone()
        };
        recycled.end(Signal::SIGKILL).unwrap();
        assert!(started.is_running());

        started.end(Signal::SIGKILL).unwrap();
        assert!(!started.is_running());
        child.wait().unwrap();
        started.end(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn no_file_is_no_state() {
        assert!(
            State::read(Path::new("/nonexistent/state.json"))
                .unwrap()
                .is_none()
        );
    }
}
