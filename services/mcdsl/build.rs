//! Installs what pages load (htmx) as `assets/package-lock.json` has it, hashes included: nothing of it is copied into the repository.
//! Rejected: the crate `servable`, which carries htmx but is GPL-3.0 and brings maud, a second rand and chrono.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=assets/package.json");
    println!("cargo::rerun-if-changed=assets/package-lock.json");
    if env::var_os("CARGO_FEATURE_WEB").is_none() {
        return;
    }
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let directory = Path::new(&out).join("npm");
    fs::create_dir_all(&directory).expect("the build directory is writable");
    for file in ["package.json", "package-lock.json"] {
        fs::copy(Path::new("assets").join(file), directory.join(file))
            .unwrap_or_else(|e| panic!("cannot copy assets/{file}: {e}"));
    }
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--prefer-offline", "--loglevel=error"])
        .current_dir(&directory)
        .status()
        .expect("npm must be installed (Debian: apt install npm) to build what has web pages");
    assert!(
        status.success(),
        "npm ci failed; it must reach npm's registry once"
    );
}
