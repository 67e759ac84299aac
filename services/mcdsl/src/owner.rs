//! Whose the files of a service are: one that root made in passing is one that the service cannot use, and SQLite says little of it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User, access, geteuid};

use crate::files::directory_of;

/// Bits of a directory's mode that let others than the owner and the group look into it, or the group change what is there.
const OPEN: u32 = 0o027;

/// What of a service's files is another user's than whom the service runs as, with what to do: this process' user or, if that is root, the owner of
/// the directory. What is not there is nobody's.
#[must_use]
pub fn foreign(directory: &Path, files: &[PathBuf]) -> Vec<String> {
    let owner = |path: &Path| fs::metadata(path).map(|found| Uid::from_raw(found.uid()));
    let wanted = match geteuid() {
        root if root.is_root() => owner(directory).unwrap_or(root),
        user => user,
    };
    let all = [directory]
        .into_iter()
        .chain(files.iter().map(PathBuf::as_path));
    let others = all.filter_map(|path| {
        let other = owner(path).ok().filter(|owner| *owner != wanted)?;
        let (other, wanted, path) = (name(other), name(wanted), path.display());
        Some(format!(
            "{path} belongs to {other}, and the service runs as {wanted}: `chown {wanted}: {path}`, and run its commands as that user"
        ))
    });
    others.collect()
}

/// That no snapshot could be written to the directory of a service's snapshots, with what to do. One that is not there is made beside the database.
#[must_use]
pub fn closed(directory: &Path) -> Option<String> {
    let found = fs::metadata(directory).ok()?;
    let (path, user) = (directory.display(), geteuid());
    let wanted = match user.is_root() {
        true => Uid::from_raw(fs::metadata(directory_of(directory)).ok()?.uid()),
        false => user,
    };
    let other = Uid::from_raw(found.uid());
    let open = match user.is_root() {
        true => other == wanted,
        false => access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
    };
    let (other, wanted) = (name(other), name(wanted));
    (!open).then(|| {
        format!(
            "snapshots cannot be written: {path} belongs to {other}, and the service runs as {wanted}: `chown -R {wanted}: {path}`"
        )
    })
}

/// That others may look into a service's directory, with what to do.
#[must_use]
pub fn open_to_others(directory: &Path) -> Option<String> {
    let mode = fs::metadata(directory).ok()?.mode() & 0o777;
    let path = directory.display();
    (mode & OPEN != 0)
        .then(|| format!("others can look into {path} (mode {mode:o}): `chmod 700 {path}`"))
}

/// Whether an error, or what it came of, is that a file may not be used.
#[must_use]
pub fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
            || cause.downcast_ref().is_some_and(sqlite)
        {
            return true;
        }
        next = cause.source();
    }
    false
}

fn sqlite(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
    let code = error.sqlite_error_code();
    matches!(code, Some(CannotOpen | PermissionDenied | ReadOnly))
}

/// A user's, or its number.
pub(crate) fn name(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_look_into_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for (mode, told) in [
            (0o700, false),
            (0o750, false),
            (0o755, true),
            (0o770, true),
            (0o701, true),
        ] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            let said = open_to_others(directory.path());
            assert_eq!(said.is_some(), told, "{mode:o}: {said:?}");
        }
        assert_eq!(open_to_others(Path::new("/none")), None);
    }

    /// Run as root, as all tests are.
    #[test]
    fn what_is_another_users_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.db");
        fs::write(&file, "").unwrap();
        let files = [file.clone(), directory.path().join("none")];
        assert!(foreign(directory.path(), &files).is_empty());
        let somebody = Some(Uid::from_raw(12_345));
        nix::unistd::chown(&file, somebody, None).unwrap();
        let said = foreign(directory.path(), &files);
        let text = format!("{} belongs to 12345, and", file.display());
        assert!(said.len() == 1 && said[0].starts_with(&text), "{said:?}");
        nix::unistd::chown(directory.path(), somebody, None).unwrap();
        assert!(foreign(directory.path(), &files).is_empty(), "all are his");
    }

    /// Run as root, as all tests are.
    #[test]
    fn snapshots_that_could_not_be_written_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let backups = directory.path().join("backups");
        let somebody = Some(Uid::from_raw(12_345));
        nix::unistd::chown(directory.path(), somebody, None).unwrap();
        assert_eq!(closed(&backups), None, "it is made");
        fs::create_dir(&backups).unwrap();
        let said = closed(&backups).unwrap();
        assert!(said.contains("chown -R 12345: "), "{said}");
        nix::unistd::chown(&backups, somebody, None).unwrap();
        assert_eq!(closed(&backups), None, "it is the service's");
    }
}
