use std::os::unix::fs::{chown, symlink};

use secrecy::ExposeSecret as _;

use super::*;

#[test]
fn it_is_there_whole_and_for_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for contents in ["first", "second"] {
        let file = PrivateFile::create(&path).unwrap();
        file.write(contents.as_bytes()).unwrap();
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = read_private(&path, 100, OTHERS, "").unwrap().unwrap();
        assert_eq!(read.expose_secret(), contents);
    }
    drop(PrivateFile::create(&path).unwrap());
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(
        left.len(),
        1,
        "one that was not written leaves nothing: {left:?}"
    );
}

#[test]
fn what_is_written_and_finds_no_place_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let filled = PrivateFile::create(&path).unwrap().fill(b"secret").unwrap();
    assert!(
        !path.exists(),
        "it is not in its place before it is put there"
    );
    fs::create_dir(&path).unwrap();
    let hint = filled.place().unwrap_err().hint.unwrap();
    let kept = hint.strip_prefix("it is in ").unwrap();
    assert_eq!(fs::read(kept).unwrap(), b"secret");
}

#[test]
fn a_new_file_replaces_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let (first, late) = (
        PrivateFile::create_new(&path).unwrap(),
        PrivateFile::create_new(&path).unwrap(),
    );
    first.write(b"first").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let dangling = directory.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    for (description, refused) in [
        ("meanwhile", late.write(b"late").unwrap_err()),
        ("before", PrivateFile::create_new(&path).unwrap_err()),
        ("a link", PrivateFile::create_new(&dangling).unwrap_err()),
        (
            "a directory",
            PrivateFile::create_new(directory.path()).unwrap_err(),
        ),
    ] {
        assert_eq!(refused.exit, Exit::Refused, "{description}");
        let said = refused.message.contains("is not overwritten");
        assert!(said, "{description}: {refused:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"first");
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    symlink("/dev/null", &link).unwrap();
    for path in [Path::new("/dev/null"), directory.path(), &link] {
        let refused = PrivateFile::create(path).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage, "{}", path.display());
        assert_eq!(path == link, refused.message.contains("link"), "{refused}");
    }
    let nowhere = directory.path().join("no/where");
    let refused = PrivateFile::create(&nowhere).unwrap_err();
    assert_eq!(refused.exit, Exit::Usage, "{refused:?}");
}

#[test]
fn what_was_left_by_who_was_killed_goes_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let long = "l".repeat(255);
    let now = SystemTime::now();
    for (name, hours, stays) in [
        (".key.mc-aB3dEf", 25, false),
        (".key.mc-aB3dEe", 1, true),
        (".mc-aB3dEf", 25, true),
        (".other.mc-aB3dEf", 25, true),
        (".key.mc-notes", 25, true),
        (".key.kept", 25, true),
    ] {
        let file = File::create(at(name)).unwrap();
        file.set_modified(now - Duration::from_hours(hours))
            .unwrap();
        drop(PrivateFile::create(&at("key")).unwrap());
        assert_eq!(at(name).exists(), stays, "{name}");
    }
    PrivateFile::create(&at(&long))
        .unwrap()
        .write(b"x")
        .unwrap();
}

/// Run as root, as all tests are.
#[test]
fn what_root_replaces_stays_its_owners() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    for (description, of_directory, of_file, wanted) in [
        ("a service's", 0, Some((1234, 1235)), (1234, 1235)),
        ("root's in a service's", 1234, Some((0, 0)), (0, 0)),
        ("a new one in root's", 0, None, (0, 0)),
        ("a new one in a service's", 1234, None, (1234, 1234)),
    ] {
        let id = Some(of_directory);
        chown(directory.path(), id, id).unwrap();
        let _ = fs::remove_file(&path);
        if let Some((user, group)) = of_file {
            fs::write(&path, "before").unwrap();
            chown(&path, Some(user), Some(group)).unwrap();
        }
        let file = PrivateFile::create(&path).and_then(PrivateFile::owned);
        file.unwrap().write(b"after").unwrap();
        let found = fs::metadata(&path).unwrap();
        let has = (found.uid(), found.gid(), found.mode() & 0o777);
        assert_eq!(has, (wanted.0, wanted.1, 0o600), "{description}");
    }
}

/// Who may make files in a directory leaves an empty one there, to be given the key.
#[test]
fn root_gives_nothing_to_who_made_a_file_where_anybody_may() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, "").unwrap();
    for (description, of_directory, mode, of_file, fine) in [
        ("everybody's directory", 0, 0o1777, 1234, false),
        ("a group's", 0, 0o2770, 1234, false),
        ("another's", 4321, 0o700, 1234, false),
        ("root's file in everybody's", 0, 0o1777, 0, true),
        ("its owner's alone", 1234, 0o755, 1234, true),
        ("root's alone", 0, 0o755, 1234, true),
    ] {
        chown(directory.path(), Some(of_directory), None).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(of_file), None).unwrap();
        let file = PrivateFile::create(&path).and_then(PrivateFile::owned);
        assert_eq!(file.is_ok(), fine, "{description}");
        if let Err(refused) = file {
            assert_eq!(refused.exit, Exit::Refused, "{description}: {refused}");
        }
    }
}

#[test]
fn what_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    assert!(
        read_private(&path, 10, OTHERS, "").unwrap().is_none(),
        "missing"
    );
    fs::write(&path, "secret").unwrap();
    for (mode, others, fine) in [
        (0o600, OTHERS, true),
        (0o400, OTHERS, true),
        (0o640, OTHERS, false),
        (0o604, OTHERS, false),
        (0o640, 0o007, true),
        (0o644, 0o007, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let read = read_private(&path, 10, others, "");
        assert_eq!(read.is_ok(), fine, "{mode:o}: {read:?}");
        assert!(!format!("{read:?}").contains("secret\""), "{read:?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        read_private(&path, 5, OTHERS, "").unwrap_err().exit,
        Exit::Usage
    );
}
