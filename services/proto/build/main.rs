//! Compiles every `.proto` below `proto/` with protox (no protoc), in one step, into
//! - tonic code (whose messages do not show their secrets), and the descriptors for REST;
//! - the descriptors of each package ([`mc_proto::PACKAGES`]);
//! - the table of methods ([`mc_proto::METHODS`]): who may call them, and by which REST path;
//! - an OpenAPI document for each package.
//!
//! The examples are left out without the feature `examples`.
//!
//! A method that does not say who may call it, or has no REST path though it does not stream, fails the build.

mod descriptors;
mod methods;
mod openapi;
mod rest;
mod secrets;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// Directories of definitions that no service of the platform has.
const EXAMPLES: [&str; 2] = ["example", "guestbook"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let all = Path::new("proto/metacircular");
    let mut protos = protos(all)?;
    if env::var_os("CARGO_FEATURE_EXAMPLES").is_none() {
        let of = |example| Path::new("metacircular").join(example);
        protos.retain(|path| !EXAMPLES.iter().any(|example| path.starts_with(of(example))));
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(&protos)?;
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let pool = compiler.descriptor_pool();
    tonic_prost_build::configure()
        .skip_debug(secrets::paths(&pool))
        .codec_path("crate::codec::Reserving")
        .compile_fds(compiler.file_descriptor_set())?;
    let generated = secrets::debug(&pool)?.into_iter();
    for (package, text) in generated.chain(secrets::each(&pool)?) {
        let path = out.join(format!("{package}.rs"));
        let code = fs::read_to_string(&path)? + &text;
        fs::write(path, code)?;
    }
    fs::write(out.join("packages.rs"), descriptors::write(&pool, &out)?)?;
    let methods = methods::read(&pool)?;
    fs::write(out.join("methods.rs"), methods::table(&methods))?;
    let documents = serde_json::to_string(&openapi::documents(&methods))?;
    fs::write(out.join("openapi.json"), documents)?;
    Ok(())
}

fn protos(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(protos(&path)?);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path.strip_prefix("proto")?.to_owned());
        }
    }
    found.sort();
    Ok(found)
}
