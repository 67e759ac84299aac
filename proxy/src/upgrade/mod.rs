//! Replacing the running daemon by the installed one without refusing or cutting a connection.
//!
//! The running daemon (old) starts the installed binary (new) as its child, with one end of a socket pair as its stdin:
//!
//! ```text
//! new: Hello         its binary runs and its configuration is fine; the old one has let go of nothing yet
//! old: Descriptors   after it has stopped writing: both locks, every listening socket
//! new: Ready         database, maps, XDP, GeoIP are taken over; it accepts nothing yet
//! old: Go            from here on the new one accepts, beside the old one
//! new: Serving       the one point of no return; the old one stops accepting and drains
//! ```
//! Until `Serving` has come the old one accepts and relays, and takes everything back if the new one fails, ends or is
//! silent: it kills it first. A new one whose predecessor dies once the descriptors have come goes on as if told to. The new one
//! answers no admin request before `Serving`, so that no change is lost with it.
//!
//! Locks are handed over as descriptors too: both daemons hold them meanwhile (flock(2) belongs to the open file), so that no
//! third one can come between. Rejected: binding anew with SO_REUSEPORT (what waits in the closing socket's queue is
//! reset); exec in place (the connections in progress end with their tasks, and a binary that fails leaves
//! nothing to go back to); a file descriptor store of systemd's (needs systemd, and the old one cannot drain).

mod channel;
mod inherited;
mod predecessor;
mod successor;

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

pub use channel::Drains;
pub use inherited::Inherited;
pub use predecessor::Predecessor;
pub(crate) use successor::{Pending, Reports, Successor};

/// The hidden flag of `mc-proxy server` that makes it take over from the daemon at the other end of its stdin.
pub const FLAG: &str = "--take-over";

/// Start of the new binary to its `Hello`: it reads its configuration.
const HELLO: Duration = Duration::from_secs(15);
/// `Descriptors` to `Ready`: maps and programs through the verifier, a first GeoIP table.
const READY: Duration = Duration::from_secs(60);
/// `Go` to `Serving`. All three together are below the time for which mcproxyctl waits.
const SERVING: Duration = Duration::from_secs(10);

/// Why the running daemon was not replaced. It serves as before, unless it is stopping.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Another upgrade is under way.
    #[error("an upgrade is in progress already; wait for its end")]
    InProgress,
    /// This daemon drains.
    #[error(
        "the daemon drains and will end: there is nothing to upgrade; try again once the next one runs"
    )]
    Stopping,
    /// The daemon was not started from a command line.
    #[error("this daemon does not know how it was started; restart it")]
    NoProgram,
    /// The installed binary does not start.
    #[error("cannot start {program}; is the new binary there?")]
    Spawn {
        /// The program.
        program: String,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// The new daemon said why it failed.
    #[error("the new daemon failed: {0}")]
    Failed(String),
    /// The new daemon ended without a word.
    #[error("the new daemon ended ({0}) before it was ready; the log says more")]
    Ended(ExitStatus),
    /// The new daemon hangs.
    #[error("the new daemon was not ready within {0:?} and was killed; the log says more")]
    Silent(Duration),
    /// The new daemon speaks otherwise.
    #[error("the new daemon does not keep to the protocol; it said {0}")]
    Protocol(String),
    /// What this daemon serves by is no longer in the files, which is all that a new one has.
    #[error(
        "the new daemon would not serve {} whose files are refused now: {}; mend the files, or say --force to go without",
        if .0.len() == 1 { "a route" } else { "routes" },
        .0.join("; ")
    )]
    Certificates(Vec<String>),
    /// They were in the files just before.
    #[error(
        "the new daemon could load no certificate for {new} of the routes, this one for all but {old}: a file was changed meanwhile; mend it, or say --force to go without"
    )]
    Bare {
        /// Routes without one in the new daemon.
        new: usize,
        /// In this one.
        old: usize,
    },
    /// The system refuses sockets or messages.
    #[error("cannot talk to the new daemon")]
    Channel(#[source] io::Error),
    /// The database cannot be copied, so that a failure might lose it.
    #[error("cannot prepare the upgrade")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How the daemon was started, to start it so again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// Of this process. By the name that it was started with and not /proc/self/exe: that is the file itself, "(deleted)" once
    /// another is installed in its place, and behind the symbolic link that another is installed by.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let mut args = env::args_os();
        let name = args.next().filter(|name| !name.is_empty())?;
        let path = PathBuf::from(name);
        // A bare name is looked up in PATH when it is started, as it was.
        let path = match path.components().count() {
            1 if path.is_relative() => path,
            _ => std::path::absolute(path).ok()?,
        };
        let args = args.filter(|arg| arg != OsStr::new(FLAG)).collect();
        Some(Self { path, args })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Where a daemon comes from.
#[derive(Debug, Default)]
pub struct Origin {
    /// What [`crate::control::Control::upgrade`] starts.
    pub program: Option<Program>,
    /// Sockets and locks that are open already.
    pub inherited: Inherited,
    /// The daemon to take over from.
    pub predecessor: Option<Predecessor>,
}
