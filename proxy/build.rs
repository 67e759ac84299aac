//! Builds the eBPF object and hands its path to the crate as `MC_EDGE_OBJECT`.
//!
//! Two ways, whichever is there: Debian's `rustc-web`, whose `libstd-rust-web-dev-bpf` carries `core`
//! prebuilt for the BPF target, or rustup's nightly with `rust-src` and `-Zbuild-std`. aya-build knows
//! only the second.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const RUSTFLAGS: &[&str] = &[
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clinker=bpf-linker",
    "-Cpanic=abort",
    "-Ctarget-cpu=v3",
];

/// A compiler that can build for the BPF target.
enum Toolchain {
    /// `core` is prebuilt in the compiler's sysroot.
    Prebuilt(PathBuf),
    /// rustup nightly with rust-src.
    Nightly,
}

fn main() {
    let programs =
        Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../ebpf/programs");
    let common = programs.join("../common");
    for path in [
        programs.join("src"),
        programs.join("Cargo.toml"),
        programs.join("Cargo.lock"),
        common.join("src"),
    ] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rerun-if-env-changed=MC_EBPF_RUSTC");
    let target_dir = PathBuf::from(env::var("OUT_DIR").expect("set by cargo")).join("ebpf");
    let mut command = Command::new("cargo");
    match find_toolchain() {
        Some(Toolchain::Prebuilt(rustc)) => {
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            command.arg("build");
        }
        Some(Toolchain::Nightly) => {
            command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            command.env_remove("RUSTC");
        }
        None => panic!(
            "no compiler for {TARGET}. Run `cargo xtask setup`, or install either Debian's packages \
             rustc-web and libstd-rust-web-dev-bpf, or rustup's nightly with the component rust-src; \
             and bpf-linker: `cargo install bpf-linker --version 0.10.0 --locked`"
        ),
    }
    command
        .args(["--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .current_dir(&programs)
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let status = command.status().expect("cargo runs");
    assert!(
        status.success(),
        "building the eBPF programs failed ({status}); is bpf-linker 0.10.0 installed? `cargo xtask setup` does it"
    );
    let object = target_dir.join(TARGET).join("release/mc-edge");
    make_btf_names_valid(&object);
    println!("cargo:rustc-env=MC_EDGE_OBJECT={}", object.display());
}

/// bpf-linker 0.10 turns `Global<u8>` into `Global_3C_u8_3E_` but leaves the names of unions, and the kernel refuses the whole
/// BTF for one `<`. aya-log's level is such a union. The replacement has the same length, so offsets hold.
fn make_btf_names_valid(object: &Path) {
    let (name, valid) = (b"MaybeUninit<u8>", b"MaybeUninit_u8_");
    let mut bytes = std::fs::read(object).expect("the object was just built");
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(name.len()).position(|w| w == name) {
        at += found;
        bytes[at..at + name.len()].copy_from_slice(valid);
    }
    std::fs::write(object, bytes).expect("the object's directory is writable");
}

fn find_toolchain() -> Option<Toolchain> {
    let named = env::var_os("MC_EBPF_RUSTC").map(PathBuf::from);
    for rustc in named.into_iter().chain([PathBuf::from("/usr/bin/rustc")]) {
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]));
        if sysroot.is_some_and(|s| Path::new(&s).join("lib/rustlib").join(TARGET).is_dir()) {
            return Some(Toolchain::Prebuilt(rustc));
        }
    }
    let sysroot =
        output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
    Path::new(&sysroot)
        .join("lib/rustlib/src/rust/library/core")
        .is_dir()
        .then_some(Toolchain::Nightly)
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
