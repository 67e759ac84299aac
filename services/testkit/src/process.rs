//! Child processes that end with the test, their output in a file.
//!
//! A file and not a pipe: nobody has to read it for the child to go on, and it is there after a panic of either.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempPath;

use crate::wait_for;

/// A running child. Dropped, it is killed (SIGKILL) and reaped.
#[derive(Debug)]
pub struct Process {
    /// `None` once it is detached.
    child: Option<Child>,
    what: String,
    log: PathBuf,
    /// Removes the log when it was made here.
    _temporary: Option<TempPath>,
}

impl Process {
    /// Starts it with stdout and stderr in a temporary file.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let log = tempfile::Builder::new()
            .prefix("mc-testkit-")
            .suffix(".log")
            .tempfile()
            .context("cannot make a log file")?
            .into_temp_path();
        let mut process = Self::start_logged(command, &log)?;
        process._temporary = Some(log);
        Ok(process)
    }

    /// Starts it with stdout and stderr appended to `log`. It is the leader of its own process group: Ctrl-C on the terminal
    /// reaches only whoever started it.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start_logged(command: &mut Command, log: &Path) -> Result<Self> {
        let what = format!("{command:?}");
        let open = || -> io::Result<(File, File)> {
            let file = File::options().create(true).append(true).open(log)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) = open().with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        Ok(Self {
            child: Some(child),
            what,
            log: log.to_owned(),
            _temporary: None,
        })
    }

    fn child(&mut self) -> &mut Child {
        self.child
            .as_mut()
            .expect("only `detach`, which consumes self, takes it")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// All it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// If the process ends before, or the deadline passes; either way with what it wrote.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let waited = wait_for(what, || match condition() {
            Some(value) => Some(Some(value)),
            None if self.is_running() => None,
            None => Some(None),
        });
        match waited {
            Ok(Some(value)) => Ok(value),
            Ok(None) => bail!("{} ended before {what}:\n{}", self.what, self.output()),
            Err(error) => Err(error.context(format!("{} wrote:\n{}", self.what, self.output()))),
        }
    }

    /// Waits until it has written `needle`.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_output(&mut self, needle: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait_for(&format!("{needle:?} in the output"), || {
            let bytes = fs::read(&log).ok()?;
            String::from_utf8_lossy(&bytes)
                .contains(needle)
                .then_some(())
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it has ended and been reaped.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            bail!("{} has ended already:\n{}", self.what, self.output());
        }
        let pid = Pid::from_raw(i32::try_from(self.id()).context("a pid")?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it has ended before, or does not end by the deadline.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_exit()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// If it has ended before.
    pub fn kill9(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait_exit()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If it does not come by the deadline; with what the process wrote.
    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.what);
        let waited = wait_for(&what, || self.child().try_wait().transpose());
        waited
            .and_then(|status| Ok(status?))
            .with_context(|| format!("it wrote:\n{}", self.output()))
    }

    /// Lets it outlive this handle; returns its process id.
    #[must_use]
    pub fn detach(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only when it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn output_is_kept_and_awaited() {
        let mut process = shell("echo ready; exec sleep 1000");
        process.wait_for_output("ready").unwrap();
        assert!(process.is_running());
        assert!(!process.terminate().unwrap().success());
        assert_eq!(process.output(), "ready\n");
    }

    #[test]
    fn an_early_end_is_an_error_with_the_output() {
        let error = shell("echo broken >&2; exit 3")
            .wait_for_output("ready")
            .unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn dropped_it_is_gone() {
        let process = shell("exec sleep 1000");
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }
}
