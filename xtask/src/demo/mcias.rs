//! MCIAS in the demo: beside the first backend, asked by people through the node's route and by the node and its operator straight.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use mc_testkit::netns::Namespace;

use super::world::{MCIAS_NODE, NODE, World, first_backend};
use crate::command::output;

/// Where it listens for people, who come through the node.
pub(super) const MCIAS: &str = "10.77.1.2:9543";
/// Where the node itself asks: its IPv4 address is a proxy's, which has to say for whom it speaks.
pub(super) const MCIAS_GRPC: &str = "[fd77:1::2]:9643";
/// For a login, seconds: its password is hashed, perhaps behind others on a machine that has much to do.
pub(super) const LOGIN: u32 = 60;

impl World {
    /// Makes an MCIAS and starts it beside the first backend, and waits until it answers. Its administrator's login is in `admin.json`.
    pub(super) fn start_mcias(&mut self) -> Result<()> {
        let root = self.directory.join("mcias");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let directory = self.directory.display();
        let config = format!(
            "[server]\nlisten = {MCIAS:?}\ngrpc_listen = \"[::]:9643\"\ntls_cert = \"{directory}/auth.crt\"\ntls_key = \
             \"{directory}/auth.key\"\ntls_ca = \"{directory}/ca.crt\"\ntrusted_proxies = [\"{MCIAS_NODE}\"]\n\n[token]\nissuer = \
             \"https://auth.example.org\"\n"
        );
        self.write("mcias/mcias.toml", &config)?;
        let backend = Namespace::existing(&first_backend())?;
        let program = || {
            let mut mcias = backend.command(crate::binary("mcias"));
            mcias.arg("--root").arg(&root);
            mcias
        };
        let made: serde_json::Value =
            serde_json::from_str(&output(program().args(["init", "--json"]))?)
                .context("what `mcias init --json` printed")?;
        let login = serde_json::json!({ "account": made["admin"], "password": made["password"] });
        self.private("admin.json", &login.to_string())?;
        let log = self.directory.join("mcias.log");
        let answers = || backend.run(|| TcpStream::connect(MCIAS)).ok()?.ok();
        self.start("mcias", program().arg("server"), &log, answers)
    }

    /// `mciasctl` on the demo's MCIAS, with a home of its own for its login.
    pub(super) fn mciasctl_script(&self) -> Result<()> {
        let (tool, directory) = (crate::binary("mciasctl"), &self.directory);
        let home = directory.join("mciasctl.home");
        let ca = directory.join("ca.crt");
        self.script(
            "mciasctl",
            &format!(
                "ip netns exec {NODE} env XDG_STATE_HOME={home:?} XDG_CONFIG_HOME={home:?} {tool:?} --server https://{MCIAS_GRPC} --ca \
                 {ca:?} \"$@\""
            ),
        )
    }

    /// Logs the administrator in with `mciasctl`.
    pub(super) fn log_in(&self) -> Result<()> {
        self.log_in_by(&[])
    }

    /// The same to another service.
    pub(super) fn log_in_to(&self, service: &str) -> Result<()> {
        self.log_in_by(&["--service", service])
    }

    fn log_in_by(&self, more: &[&str]) -> Result<()> {
        let login = fs::read_to_string(self.directory.join("admin.json")).context("admin.json")?;
        let login: serde_json::Value = serde_json::from_str(&login).context("admin.json")?;
        let password = login["password"].as_str().context("a password")?;
        let mut child = Command::new("timeout")
            .arg(LOGIN.to_string())
            .arg(self.directory.join("mciasctl"))
            .args(["login", "--account", "admin"])
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run timeout(1)")?;
        let stdin = child.stdin.take();
        // One that failed before it read says why itself.
        let _ = stdin.map(|mut stdin| writeln!(stdin, "{password}"));
        let status = child.wait().context("cannot wait for mciasctl")?;
        if !status.success() {
            bail!("`mciasctl login` failed ({status})");
        }
        Ok(())
    }

    /// Keeps the token of the answer to a login, as a header for curl.
    pub(super) fn keep_token(&self) -> Result<()> {
        let path = self.directory.join("login.json");
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let answer: serde_json::Value = serde_json::from_str(&text).context("a login's answer")?;
        let token = answer["token"].as_str().context("a token")?;
        self.private("token.header", &format!("Authorization: Bearer {token}"))
    }

    /// Writes a file that its owner alone reads.
    pub(super) fn private(&self, name: &str, text: &str) -> Result<()> {
        let path = self.write(name, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot keep {} private", path.display()))?;
        self.write(name, text).map(drop)
    }

    /// Where the node's token is.
    pub(super) fn node_token(&self) -> String {
        self.directory.join("node.token").display().to_string()
    }
}
