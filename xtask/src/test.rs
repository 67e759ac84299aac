//! `cargo xtask test`: everything that can fail, on this machine's kernel.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::{
    command::{cargo, installed, run, run_picking},
    demo,
    setup::{self, Need},
};

/// Seconds for each fuzz target: finds what breaks at once; long runs are for a person to start.
const FUZZ_SECONDS: u32 = 5;
/// The largest single allocation, MiB: inputs are of some KiB, and a GeoIP table of a few MiB more than 16. Told by the sanitizer alone.
const FUZZ_ALLOCATION_MIB: u32 = 64;
/// What a target may hold in all without a sanitizer, MiB: libFuzzer's own tables and corpus, and a decoder's window of 8.
const FUZZ_MEMORY_MIB: u32 = 512;

/// Fuzz targets; each directory is a workspace of its own.
struct Fuzz {
    directory: &'static str,
    /// Where they are built, below the target directory: their flags differ.
    built: &'static str,
    flags: &'static [&'static str],
    memory_mib: Option<u32>,
}

const FUZZ: [Fuzz; 2] = [
    Fuzz {
        directory: "proxy/fuzz",
        built: "fuzz",
        flags: &[],
        memory_mib: None,
    },
    // Rust without `unsafe`: AddressSanitizer would find nothing of ours, and takes most of the build's time.
    Fuzz {
        directory: "services/fuzz",
        built: "fuzz-services",
        flags: &["--sanitizer", "none"],
        memory_mib: Some(FUZZ_MEMORY_MIB),
    },
];

/// All tests, doc tests, fuzz targets, the demo.
pub(crate) fn test() -> Result<()> {
    if !geteuid().is_root() {
        bail!("the tests load eBPF programs and make network namespaces: run them as root");
    }
    setup::ensure(&[Need::Build, Need::Run, Need::Test, Need::Fuzz])?;
    let mut closing = workspace_tests()?;
    closing.extend(run_picking(
        &mut cargo(["test", "--workspace", "--doc"]),
        is_closing,
    )?);
    for fuzz in &FUZZ {
        for target in fuzz.targets()? {
            fuzz.run(&target)?;
            closing.push(format!("fuzz {target}: nothing found in {FUZZ_SECONDS} s"));
        }
    }
    demo::up(demo::Up {
        check: true,
        keep: false,
    })?;
    closing.push("up --check: every step as described".to_owned());

    println!("\nAll passed:");
    for line in closing {
        println!("  {line}");
    }
    Ok(())
}

fn workspace_tests() -> Result<Vec<String>> {
    let mut command = if installed("cargo-nextest") {
        cargo(["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        cargo(["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    // A failure says where and what about; forty lines of runtime after it would hide that.
    command.env("RUST_BACKTRACE", "0");
    run_picking(&mut command, is_closing)
}

/// Lines in which cargo test or nextest says how many tests ran.
fn is_closing(line: &str) -> bool {
    let line = line.trim_start();
    let ran_something = !line.contains(" 0 passed; 0 failed; 0 ignored;");
    line.starts_with("Summary [") || (line.starts_with("test result:") && ran_something)
}

impl Fuzz {
    fn directory(&self) -> PathBuf {
        crate::workspace().join(self.directory)
    }

    fn targets(&self) -> Result<Vec<String>> {
        let path = self.directory().join("Cargo.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: toml::Table = text
            .parse()
            .with_context(|| format!("{} is not TOML", path.display()))?;
        let bins = manifest.get("bin").and_then(toml::Value::as_array);
        let names = bins
            .into_iter()
            .flatten()
            .filter_map(|bin| bin.get("name")?.as_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn run(&self, target: &str) -> Result<()> {
        let mut command = cargo(["fuzz", "run", "--fuzz-dir"]);
        command
            .arg(self.directory())
            .arg("--target-dir")
            .arg(crate::target_dir().join(self.built))
            .args(self.flags)
            .arg(target)
            .arg("--");
        command
            .arg(format!("-max_total_time={FUZZ_SECONDS}"))
            .arg(format!("-malloc_limit_mb={FUZZ_ALLOCATION_MIB}"))
            .arg("-verbosity=0");
        command.args(self.memory_mib.map(|mib| format!("-rss_limit_mb={mib}")));
        // cargo-fuzz passes -Z flags; the toolchain is the workspace's.
        run(command.env("RUSTC_BOOTSTRAP", "1"))
    }
}
