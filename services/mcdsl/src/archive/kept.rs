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
        .filter(|entry| database_of(service, &entry.file_name().to_string_lossy()).is_some())
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whose a file is that is called as [`super::snapshot`] calls them: the database's identity, or nothing if that had none. Nothing else is ever
/// taken for one, or removed.
fn database_of<'n>(service: &str, name: &'n str) -> Option<&'n str> {
    let rest = name.strip_prefix(service)?.strip_prefix('-')?;
    let rest = rest.strip_suffix(".tar.zst")?;
    let (time, database) = rest.split_once('-').unwrap_or((rest, ""));
    let [date @ .., b'Z'] = time.as_bytes() else {
        return None;
    };
    let digit = |(at, byte): (usize, &u8)| match at {
        8 => *byte == b'T',
        _ => byte.is_ascii_digit(),
    };
    let is_time = date.len() == 15 && date.iter().enumerate().all(digit);
    let is_id = database.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_time && is_id && !rest.ends_with('-')).then_some(database)
}

/// Removes the oldest snapshots of the database that `made` is of in its directory but for so many; `made` stays, whatever the clock says. Those of
/// other databases of the service, which may be kept in the same place, stay too.
///
/// # Errors
/// [`ArchiveError::Io`], of the first that cannot be removed; [`ArchiveError::Nobodys`] if `made` does not say which database it is of.
pub fn keep(service: &str, made: &Path, number: NonZero<usize>) -> Result<(), ArchiveError> {
    let database = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        database_of(service, &name).map(str::to_owned)
    };
    let own = database(made).filter(|id| !id.is_empty());
    let own = own.ok_or_else(|| ArchiveError::Nobodys(made.to_owned()))?;
    let mut others = snapshots(service, directory_of(made));
    others.retain(|other| {
        other.file_name() != made.file_name() && database(other).as_ref() == Some(&own)
    });
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
            "mcias-20260101T000000Z-0123abcd.tar.zst",
            "mcias-20260102T000000Z-0123abcd.tar.zst",
            "mcias-20260103T000000Z-0123abcd.tar.zst",
        ];
        let of_others = [
            "mcias-20250101T000000Z-ffffffff.tar.zst",
            "mcias-20250102T000000Z.tar.zst",
        ];
        let none = [
            "mcias-2026.tar.zst",
            "mcias-20260101T000000Z-0123abcd.tar.zst.partial",
            "mcias-20260101T00000xZ-0123abcd.tar.zst",
            "mcias-20260101T000000Z-mine.tar.zst",
            "mcias-20260101T000000Z-.tar.zst",
            "mcr-20250101T000000Z-0123abcd.tar.zst",
            "mcias.db",
        ];
        for (description, made, number, stay) in [
            ("as many as there are", all[2], 3, &all[..]),
            ("the oldest goes", all[2], 2, &all[1..]),
            ("one", all[2], 1, &all[2..]),
            ("a clock that was set back", all[0], 1, &all[..1]),
        ] {
            for name in all.iter().chain(&of_others).chain(&none) {
                fs::write(of(name), "").unwrap();
            }
            keep("mcias", &of(made), NonZero::new(number).unwrap()).unwrap();
            let stay = of_others.iter().chain(stay);
            let stay: Vec<_> = stay.map(|name| of(name)).collect();
            assert_eq!(snapshots("mcias", dir.path()), stay, "{description}");
            assert!(none.iter().all(|name| of(name).exists()), "{description}");
        }
        let refused = keep("mcias", &of(of_others[1]), NonZero::<usize>::MIN);
        assert!(matches!(refused, Err(ArchiveError::Nobodys(_))));
        assert!(snapshots("mcias", &of("none")).is_empty());
    }
}
