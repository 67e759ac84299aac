//! `cargo xtask setup`: installs what the other commands need; they call it themselves, each for what it needs.
//!
//! It looks for what is used (a program, a file), not for packages: whoever has it from elsewhere is served too. It installs on Debian
//! 12 and 13 as root; anywhere else it says what is missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use crate::command::{cargo, installed, output, run, shown};

/// What a command is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Build the workspace, eBPF included.
    Build,
    /// Load programs, make namespaces, run the demo and the tests.
    Run,
    /// Test with programs that people use.
    Test,
    /// Fuzz.
    Fuzz,
    /// Measure against peers.
    Bench,
}

impl Need {
    /// All that `cargo xtask setup` looks after.
    pub(crate) const ALL: &[Self] = &[Self::Build, Self::Run, Self::Test, Self::Fuzz, Self::Bench];
}

/// What to look for, and the Debian package that carries it.
const DEBIAN: &[(Need, &str, &str)] = &[
    (Need::Build, "npm", "npm"),
    // For jemalloc.
    (Need::Build, "make", "make"),
    (Need::Run, "ip", "iproute2"),
    (Need::Run, "nsenter", "util-linux"),
    (Need::Run, "ethtool", "ethtool"),
    (Need::Run, "curl", "curl"),
    (Need::Run, "openssl", "openssl"),
    (Need::Run, "nginx", "nginx"),
    (Need::Test, "chromium", "chromium"),
    (Need::Test, "chromedriver", "chromium-driver"),
    (Need::Test, "oathtool", "oathtool"),
    (Need::Test, "h2load", "nghttp2-client"),
    (
        Need::Test,
        "/usr/lib/python3/dist-packages/websockets",
        "python3-websockets",
    ),
    (Need::Test, "ssh", "openssh-client"),
    (Need::Test, "/usr/sbin/sshd", "openssh-server"),
    (Need::Test, "/usr/share/doc/python3-venv", "python3-venv"),
    (Need::Test, "strace", "strace"),
    // Clients of ACME.
    (Need::Test, "certbot", "certbot"),
    (Need::Test, "dehydrated", "dehydrated"),
    (Need::Test, "lego", "lego"),
    (Need::Test, "uacme", "uacme"),
    (Need::Test, "sslscan", "sslscan"),
    (Need::Test, "testssl", "testssl.sh"),
    (
        Need::Bench,
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "libnginx-mod-stream",
    ),
    (Need::Bench, "haproxy", "haproxy"),
    (Need::Bench, "h2load", "nghttp2-client"),
    (Need::Bench, "xdp-filter", "xdp-tools"),
    (Need::Bench, "bpftool", "bpftool"),
];

/// A compiler for the BPF target, prebuilt `core` included.
const BPF_COMPILER: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
const BPF_LINKER: &str = "0.10.0";
/// Of PyPI: the first finds what is not as RFC 5280 has it, the second renews when it is told to (RFC 9773), which Debian 12's does not. Each with a program of
/// its; Metacrypt's tests look for them in [`PYPI_IN`], by name and version.
const PYPI: [(&str, &str, &str); 2] = [
    ("pkilint", "0.13.3", "lint_pkix_cert"),
    ("certbot", "5.8.0", "certbot"),
];
/// In the home directory.
const PYPI_IN: &str = ".cache/metacircular";
const BPFFS: &str = "/sys/fs/bpf";

/// What is not there.
#[derive(Debug, Default)]
struct Missing {
    packages: Vec<&'static str>,
    commands: Vec<Command>,
    bpffs: bool,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.commands.is_empty() && !self.bpffs
    }
}

/// Makes sure that everything for `needs` is there. Silent and quick when it is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing = look(needs);
    if missing.is_empty() {
        return Ok(());
    }
    if !missing.packages.is_empty() || missing.bpffs {
        let debian = debian_release();
        if !geteuid().is_root() || (debian.is_none() && !missing.packages.is_empty()) {
            bail!("{}", instructions(&missing));
        }
    }
    if !missing.packages.is_empty() {
        install(&missing.packages)?;
    }
    for mut command in missing.commands {
        run(&mut command)?;
    }
    if missing.bpffs {
        println!("+ mount -t bpf bpf {BPFFS}");
        mount(
            Some("bpf"),
            BPFFS,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount a BPF file system on {BPFFS}"))?;
    }
    let rest = look(needs);
    if !rest.is_empty() {
        bail!(
            "after installing, this is still missing:\n{}",
            instructions(&rest)
        );
    }
    Ok(())
}

fn look(needs: &[Need]) -> Missing {
    let mut missing = Missing::default();
    for (need, what, package) in DEBIAN {
        let there = if what.starts_with('/') {
            Path::new(what).exists()
        } else {
            installed(what)
        };
        if needs.contains(need) && !there {
            missing.packages.push(package);
        }
    }
    if needs.contains(&Need::Build) {
        if !compiles_bpf() {
            missing.packages.extend(BPF_COMPILER);
        }
        let linker = output(Command::new("bpf-linker").arg("--version"));
        if !linker.is_ok_and(|version| version.contains(BPF_LINKER)) {
            missing.commands.push(cargo([
                "install",
                "bpf-linker",
                "--version",
                BPF_LINKER,
                "--locked",
            ]));
        }
    }
    if needs.contains(&Need::Fuzz) && !installed("cargo-fuzz") {
        missing
            .commands
            .push(cargo(["install", "cargo-fuzz", "--locked"]));
    }
    if needs.contains(&Need::Test) {
        missing.commands.extend(PYPI.into_iter().flat_map(pypi));
    }
    if needs.contains(&Need::Run) {
        missing.bpffs = !statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    }
    missing
}

/// The same question as `proxy/build.rs` asks.
fn compiles_bpf() -> bool {
    let sysroot = |command: &mut Command| Some(PathBuf::from(output(command).ok()?.trim()));
    let print = ["--print", "sysroot"];
    let named = std::env::var_os("MC_EBPF_RUSTC").map(PathBuf::from);
    let prebuilt = named
        .into_iter()
        .chain(["/usr/bin/rustc".into()])
        .any(|rustc| {
            sysroot(Command::new(rustc).args(print))
                .is_some_and(|root| root.join("lib/rustlib/bpfel-unknown-none").is_dir())
        });
    prebuilt
        || sysroot(
            Command::new("rustup")
                .args(["run", "nightly", "rustc"])
                .args(print),
        )
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir())
}

/// The release, when this is one that [`install`] knows.
fn debian_release() -> Option<&'static str> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    if value("ID")? != "debian" {
        return None;
    }
    let version = value("VERSION_ID")?;
    ["12", "13"].into_iter().find(|known| *known == version)
}

/// What installs a package of PyPI, if it is not there.
fn pypi((name, version, program): (&str, &str, &str)) -> Vec<Command> {
    let home = env::home_dir().unwrap_or_default();
    let place = home.join(PYPI_IN).join(format!("{name}-{version}"));
    if place.join("bin").join(program).exists() {
        return Vec::new();
    }
    let mut venv = Command::new("/usr/bin/python3");
    venv.args(["-m", "venv"]).arg(&place);
    let mut pip = Command::new(place.join("bin/pip"));
    pip.args(["install", "--quiet", &format!("{name}=={version}")]);
    vec![venv, pip]
}

fn instructions(missing: &Missing) -> String {
    let mut text = String::from("something is missing; install it and try again");
    if geteuid().is_root() {
        text += " (this is not Debian 12 or 13, so package names may differ)";
    } else {
        text += ", or run `cargo xtask setup` as root on Debian 12 or 13";
    }
    text += ":";
    if !missing.packages.is_empty() {
        let packages = missing.packages.join(" ");
        text += &format!("\n  apt-get install --no-install-recommends {packages}");
    }
    if missing
        .packages
        .iter()
        .any(|package| BPF_COMPILER.contains(package))
    {
        text +=
            "\n    (instead of rustc-web: rustup toolchain install nightly --component rust-src)";
    }
    for command in &missing.commands {
        text += &format!("\n  {}", shown(command));
    }
    if missing.bpffs {
        text += &format!("\n  mount -t bpf bpf {BPFFS}");
    }
    text
}

fn install(packages: &[&'static str]) -> Result<()> {
    let status = |package| {
        output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
            .unwrap_or_default()
    };
    if packages.contains(&"rustc-web") && status("rustc") == "installed" {
        bail!(
            "Debian's package rustc conflicts with rustc-web, which builds the eBPF programs. Either remove it (`apt-get \
             remove rustc`; the workspace itself is built with rustup's) or install the other compiler (`rustup \
             toolchain install nightly --component rust-src`)"
        );
    }
    let _quiet = NoServices::begin()?;
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"])
            .args(args);
        command
    };
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "--no-install-recommends"]).args(packages))?;
    for (package, service) in [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("openssh-server", "ssh"),
    ] {
        if packages.contains(&package) && Path::new("/run/systemd/system").exists() {
            run(Command::new("systemctl").args(["disable", service]))?;
        }
    }
    Ok(())
}

/// While it lives, packages that are installed start no service: the demo runs its own nginx, on its own configuration.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            use std::os::unix::fs::PermissionsExt;
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")
                .and_then(|()| fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {}", Self::POLICY))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(Self::POLICY)
        {
            eprintln!("cannot remove {}: {error}", Self::POLICY);
        }
    }
}
