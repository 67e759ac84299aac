//! The descriptors of each package, with what they import and no more: what a server's reflection shows.

use std::{collections::BTreeSet, error::Error, fmt::Write as _, fs, path::Path};

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Writes a file for every package that has services, and gives the table of them as Rust.
pub(crate) fn write(pool: &DescriptorPool, out: &Path) -> Result<String, Box<dyn Error>> {
    let packages: BTreeSet<String> = (pool.services())
        .map(|service| service.package_name().to_owned())
        .collect();
    let mut table = String::from("&[\n");
    for package in packages {
        let mut of = DescriptorPool::new();
        for file in pool.files().filter(|file| file.package_name() == package) {
            add(&mut of, &file)?;
        }
        let path = out.join(format!("descriptors.{package}.bin"));
        fs::write(&path, of.encode_to_vec())?;
        writeln!(table, "    ({package:?}, include_bytes!({path:?})),")?;
    }
    Ok(table + "]\n")
}

/// What a file imports goes before it. As bytes it keeps its options.
fn add(pool: &mut DescriptorPool, file: &FileDescriptor) -> Result<(), Box<dyn Error>> {
    if pool.get_file_by_name(file.name()).is_some() {
        return Ok(());
    }
    for import in file.dependencies() {
        add(pool, &import)?;
    }
    pool.decode_file_descriptor_proto(file.encode_to_vec().as_slice())?;
    Ok(())
}
