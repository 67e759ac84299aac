//! What a unit of systemd says, for tests that start what it starts.

use std::{
    ffi::OsStr,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::process::Process;

/// A unit's file.
#[derive(Debug)]
pub struct Unit {
    path: PathBuf,
    text: String,
}

impl Unit {
    /// Of a package, whose directory is `package` (`CARGO_MANIFEST_DIR`).
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn of(package: &str, name: &str) -> Result<Self> {
        let path = Path::new(package).join("systemd").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, text })
    }

    /// The words of a setting.
    ///
    /// # Errors
    /// If it is not there, or twice.
    pub fn setting(&self, key: &str) -> Result<Vec<&str>> {
        let mut values = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let of = || format!("{}: {key}", self.path.display());
        let found = values.next().with_context(of)?;
        // Those of some settings would be taken together.
        ensure!(values.next().is_none(), "{}: twice", of());
        Ok(found.split_whitespace().collect())
    }

    /// What it starts, with `binary` in the place of the program, `MC_ROOT` and, in the bounding set, no capability but those.
    ///
    /// # Errors
    /// If it says nothing of what is started, or gives it more.
    pub fn command(&self, binary: &str, root: &Path, capabilities: &[&str]) -> Result<Command> {
        let own = [
            ("NoNewPrivileges", vec!["yes"]),
            ("CapabilityBoundingSet", vec![]),
            ("AmbientCapabilities", vec![]),
        ];
        for (key, wanted) in own {
            let said = self.setting(key)?;
            ensure!(said == wanted, "{}: {key}: {said:?}", self.path.display());
        }
        let bounding = capabilities.iter().map(|one| format!(",+{one}"));
        let bounding: String = bounding.collect();
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set=-all{bounding}"))
            .args(["--inh-caps=-all", "--no-new-privs", binary])
            .args(self.setting("ExecStart")?.iter().skip(1).map(OsStr::new))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MC_ROOT", root);
        Ok(command)
    }

    /// Starts it as systemd would with `Type=notify`, and waits until it says that it is ready.
    ///
    /// # Errors
    /// As [`Self::command`], and if it does not start.
    pub fn start(&self, binary: &str, root: &Path, capabilities: &[&str]) -> Result<Process> {
        let socket = root.join("notify");
        let notified = UnixDatagram::bind(&socket)?;
        notified.set_nonblocking(true)?;
        let mut command = self.command(binary, root, capabilities)?;
        let mut server = Process::start(command.env("NOTIFY_SOCKET", &socket))?;
        let mut said = [0; 64];
        let length = server.wait_for("READY=1", || notified.recv(&mut said).ok())?;
        let said = String::from_utf8_lossy(&said[..length]);
        ensure!(said.starts_with("READY=1"), "{said}");
        Ok(server)
    }
}
