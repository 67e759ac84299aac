//! An sshd of Debian's in a namespace of its own, on its own keys and configuration and without PAM, and the ssh that logs in to it
//! as root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result};

use crate::{
    netns::{End, Namespace, checked, veth},
    process::Process,
};

/// Where it listens.
pub const SERVER: &str = "10.77.0.1";
/// Where ssh comes from.
pub const CLIENT: &str = "10.77.0.2";
/// Where it may come from too.
pub const OTHER: &str = "10.77.0.3";
/// sshd is not started by a name: it starts itself again.
const SSHD: &str = "/usr/sbin/sshd";
/// Where it locks itself in before somebody has logged in; Debian makes it when the service starts.
const EMPTY: &str = "/run/sshd";

/// The daemon, running, and the host that logs in to it.
#[derive(Debug)]
pub struct Sshd {
    // Ended before its network is.
    process: Process,
    client: Namespace,
    _server: Namespace,
    directory: PathBuf,
}

impl Sshd {
    /// Starts it with a host key `host` that it makes in `directory`, and these lines beside what every one of them has. Files are
    /// named by their whole path.
    ///
    /// # Errors
    /// If it does not start; with what it said.
    pub fn start(directory: &Path, lines: &str) -> Result<Self> {
        let (server, client) = (Namespace::new("sshd")?, Namespace::new("ssh")?);
        let end = |namespace, addresses| End {
            namespace,
            interface: "v0",
            addresses,
        };
        veth(
            end(&server, &["10.77.0.1/24"]),
            end(&client, &["10.77.0.2/24", "10.77.0.3/24"]),
        )?;
        fs::create_dir_all(EMPTY).with_context(|| format!("cannot make {EMPTY}"))?;
        let at = directory.display();
        if !directory.join("host").exists() {
            keygen(directory, "host")?;
        }
        let config = format!(
            "ListenAddress {SERVER}\nHostKey {at}/host\nPidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n{lines}"
        );
        let path = directory.join("sshd_config");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = server.command(SSHD);
        let mut process = Process::start(command.args(["-D", "-e", "-f"]).arg(path))?;
        process.wait_for_output("Server listening")?;
        Ok(Self {
            process,
            client,
            _server: server,
            directory: directory.to_owned(),
        })
    }

    /// What it has said.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// What comes of `echo in` as root with the pair `key` and its certificate `<key>-cert.pub` in the directory, from an address. What ssh is
    /// to take as host key is in the file `known_hosts` there, of a machine called `name`.
    ///
    /// # Errors
    /// If ssh cannot be run.
    pub fn login(&self, key: &str, from: &str, name: &str) -> Result<Output> {
        let at = |name: &str| self.directory.join(name);
        let mut command = self.client.command("ssh");
        command.args(["-F", "none", "-b", from, "-i"]).arg(at(key));
        let known_hosts = format!("UserKnownHostsFile={}", at("known_hosts").display());
        let alias = format!("HostKeyAlias={name}");
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            &known_hosts,
            &alias,
        ];
        command.args(options.iter().flat_map(|option| ["-o", option]));
        command.arg(format!("root@{SERVER}")).arg("echo in");
        command.output().context("cannot run ssh")
    }
}

/// Makes an Ed25519 pair of files, `name` and `name.pub`; the line of the public half.
///
/// # Errors
/// If ssh-keygen fails, or is not installed.
pub fn keygen(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", ""]);
    checked(command.arg("-f").arg(&path))?;
    Ok(fs::read_to_string(path.with_extension("pub"))?)
}
