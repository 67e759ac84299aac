//! `cargo xtask ci`: what a change has to pass. `.ci/run` calls it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    command::{cargo, installed, output, run},
    ebpf,
    setup::{self, Need},
    test,
};

/// Built by another compiler, or with other flags.
const OWN_WORKSPACES: [&str; 3] = [
    "ebpf/programs/Cargo.toml",
    "proxy/fuzz/Cargo.toml",
    "services/fuzz/Cargo.toml",
];

pub(crate) fn ci() -> Result<()> {
    setup::ensure(&[Need::Build, Need::Run, Need::Test, Need::Fuzz])?;
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    // With --all they would drag ours in.
    for manifest in OWN_WORKSPACES {
        run(&mut cargo(["fmt", "--manifest-path", manifest, "--check"]))?;
    }
    dependency_rules()?;
    run(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // Alone, as it is deployed: it does without what the others have of the libraries.
    run(&mut cargo(["check", "--package", "mc-proxy"]))?;
    for manifest in OWN_WORKSPACES {
        clippy(manifest)?;
    }
    deny()?;
    ebpf::build()?;
    test::test()
}

/// Lints a workspace of its own, as if for this machine: clippy cannot read the `core` of the compiler that builds for BPF. In
/// release, whose `panic = "abort"` a program without `std` needs.
fn clippy(manifest: &str) -> Result<()> {
    let mut command = cargo(["clippy", "--release", "--manifest-path", manifest]);
    command
        .arg("--target-dir")
        .arg(crate::target_dir().join("clippy"))
        .args(["--", "-D", "warnings"]);
    run(&mut command)
}

/// Licences, bans and sources; the advisories would need a download.
fn deny() -> Result<()> {
    if !installed("cargo-deny") {
        println!(
            "cargo-deny is not installed: licences, bans and sources are not checked (`cargo install cargo-deny --locked`)"
        );
        return Ok(());
    }
    run(&mut cargo(["deny", "check", "licenses", "bans", "sources"]))
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    optional: bool,
    path: Option<String>,
}

/// What a crate of the workspace may depend on within it, its tests apart. Whatever is not listed is a service: it may depend on
/// [`FOR_SERVICES`], never on another service.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mc-edge-common", &[]),
    ("mc-proto", &[]),
    ("mcdsl", &["mc-proto"]),
    ("mc-testkit", &["mc-proto"]),
    ("xtask", &["mc-testkit"]),
];
const FOR_SERVICES: &[&str] = &["mc-edge-common", "mc-proto", "mcdsl"];

/// Checks that dependencies point one way (ARCHITECTURE.md, "Map").
fn dependency_rules() -> Result<()> {
    println!("+ dependency rules");
    let mut metadata = cargo(["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Metadata = serde_json::from_str(&output(&mut metadata)?)
        .context("cannot read what `cargo metadata` says")?;
    let broken = broken_rules(&metadata);
    if !broken.is_empty() {
        bail!(
            "dependencies point the wrong way:\n  {}",
            broken.join("\n  ")
        );
    }
    Ok(())
}

fn broken_rules(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut broken = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let may = allowed.get(name).copied().unwrap_or(FOR_SERVICES);
        for dependency in &package.dependencies {
            let on = dependency.name.as_str();
            let dev = dependency.kind.as_deref() == Some("dev");
            if dependency.path.is_some() {
                // Tests may start other services through their libraries.
                if !dev && !may.contains(&on) {
                    broken.push(format!("{name} must not depend on {on}"));
                }
            } else if name == "mc-edge-common" && !dev && !(on == "aya" && dependency.optional) {
                broken.push(format!(
                    "{name} must depend on nothing but an optional aya, not on {on}"
                ));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_point_one_way() {
        let rows = [
            ("a service on mcdsl", "mcias", "mcdsl", None, true, 0),
            ("a service on a service", "mcias", "mc-proxy", None, true, 1),
            (
                "a service's tests on a service",
                "mcias",
                "mc-proxy",
                Some("dev"),
                true,
                0,
            ),
            (
                "a service on the test kit",
                "mc-proxy",
                "mc-testkit",
                None,
                true,
                1,
            ),
            (
                "its tests on the test kit",
                "mc-proxy",
                "mc-testkit",
                Some("dev"),
                true,
                0,
            ),
            ("proto on mcdsl", "mc-proto", "mcdsl", None, true, 1),
            ("mcdsl on proto", "mcdsl", "mc-proto", None, true, 0),
            (
                "common on a crate",
                "mc-edge-common",
                "libc",
                None,
                false,
                1,
            ),
            ("proxy on a crate", "mc-proxy", "libc", None, false, 0),
        ];
        for (what, package, on, kind, path, want) in rows {
            let dependency = Dependency {
                name: on.to_owned(),
                kind: kind.map(str::to_owned),
                optional: false,
                path: path.then(|| "/x".to_owned()),
            };
            let packages = vec![Package {
                name: package.to_owned(),
                dependencies: vec![dependency],
            }];
            assert_eq!(broken_rules(&Metadata { packages }).len(), want, "{what}");
        }
    }
}
