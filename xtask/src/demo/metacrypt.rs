//! Metacrypt in the demo: beside MCIAS, with a CA below the root that all machines trust. It certifies the edge, MCIAS and itself.

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mc_testkit::netns::Namespace;

use super::{
    mcias::MCIAS_GRPC,
    show::{Expect::Says, Show},
    world::{NODE, World, first_backend},
};

/// Where it is asked.
pub(super) const METACRYPT: &str = "[fd77:1::2]:9843";
/// How long its certificates last.
pub(super) const LIFE: Duration = Duration::from_secs(120);
/// What opens its seal; the demo's files show it to whoever may read them.
const SEAL: &str = "walnut anchor tepid flamingo lease";
/// Whose certificates it keeps: the file's name, and what it is for.
const KEPT: [(&str, &str); 3] = [
    ("web", "--name web.example.org"),
    ("auth", "--name auth.example.org --name fd77:1::2"),
    ("crypt", "--name crypt.example.org --name fd77:1::2"),
];

impl World {
    /// Makes a Metacrypt, starts it beside MCIAS and opens its seal.
    pub(super) fn start_metacrypt(&mut self, show: &mut Show) -> Result<()> {
        let root = self.directory.join("metacrypt");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let directory = self.directory.display().to_string();
        let config = format!(
            "[server]\nlisten = \"[::]:9743\"\ngrpc_listen = \"[::]:9843\"\ntls_cert = \"{directory}/crypt.crt\"\ntls_key = \
             \"{directory}/crypt.key\"\ntls_ca = \"{directory}/ca.crt\"\n\n[mcias]\nserver_url = \"https://{MCIAS_GRPC}\"\nca_cert = \
             \"{directory}/ca.crt\"\nservice_name = \"metacrypt\"\ntoken_file = \"token\"\n\n[sso]\nissuer = \
             \"https://auth.example.org\"\npublic_url = \"https://crypt.example.org\"\nclient_secret_file = \"secret\"\n\n[service]\n\
             lock_memory = false\npublic_listen = \"[::]:9480\"\n"
        );
        self.write("metacrypt/metacrypt.toml", &config)?;
        self.private("metacrypt/secret", "nobody logs in to its pages here")?;
        self.private("metacrypt/seal", &format!("{SEAL}\n"))?;
        self.metacrypt_scripts()?;
        for (line, said) in [
            ("account create metacrypt --system", "metacrypt"),
            ("service put metacrypt --comment certificates", "metacrypt"),
            ("account create keeper --system", "keeper"),
        ] {
            show.run("mciasctl", line, Says(said))?;
        }
        for (account, service, to) in [
            ("metacrypt", "mcias", "metacrypt/token"),
            ("keeper", "metacrypt", "keeper.token"),
        ] {
            let line = format!("token issue {account} --service {service} --to {directory}/{to}");
            show.run("mciasctl", &line, Says("token"))?;
        }
        println!("$ metacrypt init; metacrypt server …; metacrypt unseal");
        self.with_seal("init")?;
        let backend = Namespace::existing(&first_backend())?;
        let mut command = backend.command(crate::binary("metacrypt"));
        command.arg("--root").arg(&root).arg("server");
        let log = self.directory.join("metacrypt.log");
        let node = Namespace::existing(NODE)?;
        let answers = || node.run(|| TcpStream::connect(METACRYPT)).ok()?.ok();
        self.start("metacrypt", &mut command, &log, answers)?;
        self.with_seal("unseal")?;
        self.log_in_to("metacrypt")
    }

    /// Runs one of its commands with the password of the seal.
    fn with_seal(&self, command: &str) -> Result<()> {
        let seal = fs::File::open(self.directory.join("metacrypt/seal")).context("the seal")?;
        let mut metacrypt = Command::new(self.directory.join("metacrypt.sh"));
        let status = metacrypt.arg(command).stdin(seal).stdout(Stdio::null());
        let status = status.status().context("cannot run metacrypt")?;
        match status.success() {
            true => Ok(()),
            false => bail!("`metacrypt {command}` failed ({status})"),
        }
    }

    /// `metacrypt` as its administrator, and as who keeps certificates.
    fn metacrypt_scripts(&self) -> Result<()> {
        let (tool, directory) = (crate::binary("metacrypt"), self.directory.display());
        let home = self.directory.join("mciasctl.home");
        let of = |more: &str| {
            format!(
                "ip netns exec {NODE} env XDG_STATE_HOME={home:?} XDG_CONFIG_HOME={home:?} MC_ROOT={directory}/metacrypt \
                 METACRYPT_SERVER=https://{METACRYPT} METACRYPT_CA={directory}/ca.crt MCIAS_SERVER=https://{MCIAS_GRPC} \
                 MCIAS_CA={directory}/ca.crt {more} {tool:?} \"$@\""
            )
        };
        self.script("metacrypt.sh", &of(""))?;
        let keeper = format!("MC_TOKEN_FILE={directory}/keeper.token");
        self.script("keeper", &of(&keeper))
    }

    /// What keeps one of the certificates.
    fn keep(&self, (name, names): (&str, &str)) -> String {
        let directory = self.directory.display();
        format!(
            "pki keep pki/demo {names} --cert {directory}/{name}.crt --key {directory}/{name}.key"
        )
    }
}

/// Metacrypt certifies the edge and the services.
pub(super) fn certificates(world: &mut World, show: &mut Show) -> Result<()> {
    show.step(
        "Metacrypt: a CA below the root that all trust; it certifies the edge, MCIAS and itself",
    );
    world.start_metacrypt(show)?;
    let directory = world.directory.display().to_string();
    for line in [
        "mount create pki --engine pki",
        &format!("pki issuer import pki/root --chain {directory}/ca.crt --key {directory}/ca.key"),
        "pki url pki --set http://crypt.example.org:9480",
        "pki issuer create pki/services --under root --common-name Services --permit-dns example.org --permit-ip fd77::/16",
        &format!(
            "pki profile put pki/demo --issuer services --below example.org --ip fd77::/16 --for-server --ttl {0}s --max-ttl {0}s",
            LIFE.as_secs()
        ),
        "policy put keeper --allow --account keeper --action pki:issue --action pki:read --resource pki/profiles/demo",
    ] {
        show.run("metacrypt.sh", line, Says(""))?;
    }
    let kept = KEPT.map(|kept| world.keep(kept));
    // Of the demo's own making until now, and of another CA.
    for line in &kept {
        show.run("keeper", &format!("{line} --replace"), Says("serial"))?;
    }
    show.run("keeper", &kept[0], Says("is kept"))?;
    println!("$ while sleep 2; do …; done     # the same, by a timer");
    world.start_timer(&kept)
}
