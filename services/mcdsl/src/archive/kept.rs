//! The snapshots that there are, and how many stay.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
};

use super::form::{ArchiveError, io_error};
use crate::files::directory_of;

/// The snapshots of a service in a directory, the oldest first.
#[must_use]
pub fn snapshots(service: &str, dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| is_snapshot(service, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether a file is called as [`snapshot`] calls them: nothing else is ever taken for one, or removed.
fn is_snapshot(service: &str, name: &str) -> bool {
    let time = (name.strip_prefix(service))
        .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar.zst"))
        .map(str::as_bytes);
    let Some([date @ .., b'Z']) = time else {
        return false;
    };
    let digit = |(at, byte): (usize, &u8)| match at {
        8 => *byte == b'T',
        _ => byte.is_ascii_digit(),
    };
    date.len() == 15 && date.iter().enumerate().all(digit)
}

/// Removes a service's oldest snapshots in the directory of `made` but for so many; `made` stays, whatever the clock says.
///
/// # Errors
/// [`ArchiveError::Io`], of the first that cannot be removed.
pub fn keep(service: &str, made: &Path, number: NonZero<usize>) -> Result<(), ArchiveError> {
    let mut others = snapshots(service, directory_of(made));
    others.retain(|other| other.file_name() != made.file_name());
    let over = others.len().saturating_sub(number.get() - 1);
    for old in &others[..over] {
        fs::remove_file(old).map_err(io_error("remove", old))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshots_stay_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        let all = [
            "mcias-20260101T000000Z.tar.zst",
            "mcias-20260102T000000Z.tar.zst",
            "mcias-20260103T000000Z.tar.zst",
        ];
        let others = [
            "mcias-2026.tar.zst",
            "mcias-20260101T000000Z.tar.zst.partial",
            "mcias-20260101T00000xZ.tar.zst",
            "mcr-20250101T000000Z.tar.zst",
            "mcias.db",
        ];
        for (description, made, number, stay) in [
            ("as many as there are", all[2], 3, &all[..]),
            ("the oldest goes", all[2], 2, &all[1..]),
            ("one", all[2], 1, &all[2..]),
            ("a clock that was set back", all[0], 1, &all[..1]),
        ] {
            for name in all.iter().chain(&others) {
                fs::write(of(name), "").unwrap();
            }
            keep("mcias", &of(made), NonZero::new(number).unwrap()).unwrap();
            let stay: Vec<_> = stay.iter().map(|name| of(name)).collect();
            assert_eq!(snapshots("mcias", dir.path()), stay, "{description}");
            assert!(others.iter().all(|name| of(name).exists()), "{description}");
        }
        assert!(snapshots("mcias", &of("none")).is_empty());
    }
}
