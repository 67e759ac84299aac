//! A small disk, to be filled. Needs root.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

/// What fills it.
const FILLER: &str = "filler";

/// A file system in memory, mounted on a directory until this is dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Of so many MiB.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn over(directory: &Path, mebibytes: u32) -> Result<Self> {
        let options = format!("size={mebibytes}m,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "mc-test"])
            .arg(directory)
            .status()?;
        ensure!(mounted.success(), "a tmpfs needs root");
        Ok(Self(directory.to_owned()))
    }

    /// To the last byte.
    ///
    /// # Errors
    /// If a write fails by something else.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.0.join(FILLER))?;
        loop {
            match file.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// But for so many KiB.
    ///
    /// # Errors
    /// As [`Self::fill`]; if there are not so many.
    pub fn fill_but(&self, kibibytes: u64) -> io::Result<()> {
        self.fill()?;
        let file = File::options().write(true).open(self.0.join(FILLER))?;
        let left = file.metadata()?.len().checked_sub(kibibytes << 10);
        file.set_len(left.ok_or(ErrorKind::InvalidInput)?)
    }

    /// What filled it goes.
    ///
    /// # Errors
    /// If it was not filled.
    pub fn free(&self) -> io::Result<()> {
        std::fs::remove_file(self.0.join(FILLER))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever has a file open there may have it until the end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
