//! What is written is read, and what is not ours is refused.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    time::{Duration, UNIX_EPOCH},
};

use mc_testkit::disk::Disk;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::{form::*, *};
use crate::db::{Migration, open};

const LIMIT: u64 = 1 << 20;

/// A directory with files in it.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("in/certs/old")).unwrap();
    for (name, content) in [
        ("a.toml", b"x = 1\n".to_vec()),
        ("certs/key.pem", vec![0xff; 100_000]),
        ("certs/old/empty", Vec::new()),
        ("a name with ü", b"y".to_vec()),
    ] {
        fs::write(dir.path().join("in").join(name), content).unwrap();
    }
    dir
}

fn written(dir: &TempDir) -> (PathBuf, Manifest) {
    let archive = dir.path().join("a.tar.zst");
    let manifest = write(&archive, &files_of(&dir.path().join("in")).unwrap()).unwrap();
    (archive, manifest)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Nothing of an attempt is left.
fn nothing_at(into: &Path) {
    let name = into.file_name().unwrap().to_str().unwrap();
    let left = fs::read_dir(into.parent().unwrap()).unwrap();
    let left: Vec<_> = left
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!left.iter().any(|l| l.starts_with(name)), "{left:?}");
}

#[test]
fn what_is_written_is_read() {
    let dir = tree();
    let (archive, manifest) = written(&dir);
    let names: Vec<_> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "a name with ü",
            "a.toml",
            "certs/key.pem",
            "certs/old/empty"
        ]
    );
    assert_eq!(
        manifest.files[3].sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(mode(&archive), 0o600);
    let into = dir.path().join("out");
    assert_eq!(read(&archive, &into, LIMIT).unwrap(), manifest);
    for (path, wanted) in [("", 0o700), ("certs", 0o700), ("certs/key.pem", 0o600)] {
        assert_eq!(mode(&into.join(path)), wanted, "{path}");
    }
    for file in &manifest.files {
        let read = |root: &str| fs::read(dir.path().join(root).join(&file.name)).unwrap();
        assert_eq!(read("in"), read("out"), "{}", file.name);
    }
    assert!(!dir.path().join("out.partial").exists());
}

#[test]
fn nothing_is_overwritten() {
    let dir = tree();
    let (archive, _) = written(&dir);
    let before = fs::read(&archive).unwrap();
    assert!(matches!(
        write(&archive, &[]),
        Err(ArchiveError::Io { what: "create", .. })
    ));
    assert_eq!(fs::read(&archive).unwrap(), before);
    let into = dir.path().join("in");
    assert!(read(&archive, &into, LIMIT).is_err());
    assert!(into.join("a.toml").exists());
    fs::create_dir(dir.path().join("out.partial")).unwrap();
    assert!(read(&archive, &dir.path().join("out"), LIMIT).is_err());
    assert!(dir.path().join("out.partial").exists() && !dir.path().join("out").exists());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let dir = tree();
    let to = dir.path().join("b.tar.zst");
    let source = |name: &str, path: &str| Source {
        name: name.to_owned(),
        path: dir.path().join(path),
    };
    for name in [
        "", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0", "a\\b", "a\n", MANIFEST,
    ] {
        let refused = write(&to, &[source(name, "in/a.toml")]);
        assert!(
            matches!(refused, Err(ArchiveError::Name { .. })),
            "{name:?}"
        );
    }
    let long = source(&"a".repeat(101), "in/a.toml");
    assert!(matches!(
        write(&to, &[long]),
        Err(ArchiveError::Name { .. })
    ));
    let twice = [source("a", "in/a.toml"), source("a", "in/a.toml")];
    assert!(matches!(write(&to, &twice), Err(ArchiveError::Twice(_))));
    assert!(matches!(
        write(&to, &[source("a", "none")]),
        Err(ArchiveError::Io { .. })
    ));
    symlink("a.toml", dir.path().join("in/link")).unwrap();
    for (name, path) in [("link", "in/link"), ("dir", "in/certs")] {
        assert!(
            matches!(
                write(&to, &[source(name, path)]),
                Err(ArchiveError::NotAFile(_))
            ),
            "{name}"
        );
    }
    assert!(matches!(
        files_of(&dir.path().join("in")),
        Err(ArchiveError::NotAFile(_))
    ));
    assert!(!to.exists());
}

/// An archive as somebody else makes it: entries of a type, a name and a content.
fn forge(path: &Path, entries: &[(EntryType, &str, &[u8])]) {
    let encoder = zstd::Encoder::new(fs::File::create(path).unwrap(), 0).unwrap();
    let mut tar = tar::Builder::new(encoder);
    for (kind, name, content) in entries {
        let mut header = Header::new_ustar();
        // Past what the crate would refuse to write.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

/// The manifest of files that are all `x`.
fn manifest(names: &[&str]) -> Vec<u8> {
    let listed = |name: &&str| {
        let mut content = Hashing::new(&b"x"[..]);
        io::copy(&mut content, &mut io::sink()).unwrap();
        content.listed(name)
    };
    let files = names.iter().map(listed).collect();
    serde_json::to_vec(&Manifest { files }).unwrap()
}

#[test]
fn hostile_archives_leave_nothing() {
    use EntryType as T;
    let dir = tempfile::tempdir().unwrap();
    let (archive, into) = (dir.path().join("a.tar.zst"), dir.path().join("out"));
    let of = manifest(&["a"]);
    let end = (T::Regular, MANIFEST, of.as_slice());
    let a = (T::Regular, "a", &b"x"[..]);
    forge(&archive, &[a, end]);
    read(&archive, &into, LIMIT).unwrap();
    fs::remove_dir_all(&into).unwrap();
    let two = manifest(&["a", "b"]);
    type Check = fn(&ArchiveError) -> bool;
    let named: Check = |e| matches!(e, ArchiveError::Name { .. });
    let no_file: Check = |e| matches!(e, ArchiveError::NotAFile(_));
    let no_manifest: Check = |e| matches!(e, ArchiveError::NoManifest { .. });
    let differs: Check = |e| matches!(e, ArchiveError::Differs(_));
    let in_the_way: Check = |e| matches!(e, ArchiveError::Io { .. } | ArchiveError::Twice(_));
    for (description, entries, wanted) in [
        ("above", vec![(T::Regular, "../a", &b"x"[..]), end], named),
        (
            "above within",
            vec![(T::Regular, "b/../../a", b"x"), end],
            named,
        ),
        ("absolute", vec![(T::Regular, "/tmp/a", b"x"), end], named),
        ("a link", vec![(T::Symlink, "a", b""), end], no_file),
        ("a hard link", vec![(T::Link, "a", b""), end], no_file),
        ("a device", vec![(T::Char, "a", b""), end], no_file),
        ("a directory", vec![(T::Directory, "a", b""), end], no_file),
        (
            "a long name",
            vec![(T::GNULongName, "a", b"../../a"), a, end],
            no_file,
        ),
        (
            "a pax header",
            vec![(T::XHeader, "a", b"16 path=../../a\n"), a, end],
            no_file,
        ),
        (
            "a sparse file",
            vec![(T::GNUSparse, "a", b"x"), end],
            no_file,
        ),
        ("a name twice", vec![a, a, end], in_the_way),
        (
            "a file as a directory",
            vec![a, (T::Regular, "a/b", b"x"), end],
            in_the_way,
        ),
        (
            "a directory as a file",
            vec![(T::Regular, "a/b", b"x"), a, end],
            in_the_way,
        ),
        ("no manifest", vec![a], no_manifest),
        ("nothing", vec![], no_manifest),
        (
            "more after it",
            vec![a, end, (T::Regular, "b", b"x")],
            no_manifest,
        ),
        ("two of them", vec![a, end, end], no_manifest),
        (
            "another content",
            vec![(T::Regular, "a", b"y"), end],
            differs,
        ),
        ("another name", vec![(T::Regular, "b", b"x"), end], differs),
        ("one more", vec![a, (T::Regular, "b", b"x"), end], differs),
        ("one less", vec![a, (T::Regular, MANIFEST, &two)], differs),
        ("no JSON", vec![a, (T::Regular, MANIFEST, b"{")], |e| {
            matches!(e, ArchiveError::Manifest { .. })
        }),
    ] {
        forge(&archive, &entries);
        let error = read(&archive, &into, LIMIT).unwrap_err();
        assert!(wanted(&error), "{description}: {error:?}");
        nothing_at(&into);
    }
}

#[test]
fn bombs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, into) = (dir.path().join("a.tar.zst"), dir.path().join("out"));
    let big = vec![0; 8 << 20];
    forge(&archive, &[(EntryType::Regular, "a", &big)]);
    assert!(
        fs::metadata(&archive).unwrap().len() < 10_000,
        "it is a bomb"
    );
    assert!(matches!(
        read(&archive, &into, LIMIT),
        Err(ArchiveError::TooLong(LIMIT))
    ));
    nothing_at(&into);
    forge(
        &archive,
        &[(
            EntryType::Regular,
            MANIFEST,
            &vec![b' '; MAX_MANIFEST as usize + 1],
        )],
    );
    assert!(matches!(
        read(&archive, &into, LIMIT),
        Err(ArchiveError::TooLong(MAX_MANIFEST))
    ));
    nothing_at(&into);
    // A length that is told, but not there: nothing of it is allocated.
    let mut header = Header::new_ustar();
    header.set_path(MANIFEST).unwrap();
    header.set_size(u64::MAX - 511);
    header.set_cksum();
    fs::write(
        &archive,
        zstd::encode_all(&header.as_bytes()[..], 0).unwrap(),
    )
    .unwrap();
    assert!(read(&archive, &into, LIMIT).is_err());
    nothing_at(&into);
}

#[test]
fn damage_is_found() {
    let dir = tree();
    let (archive, _) = written(&dir);
    let good = fs::read(&archive).unwrap();
    let (bad, into) = (dir.path().join("bad"), dir.path().join("out"));
    for length in 0..good.len() {
        fs::write(&bad, &good[..length]).unwrap();
        assert!(read(&bad, &into, LIMIT).is_err(), "cut off at {length}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        fs::write(&bad, changed).unwrap();
        // A flag of the frame that means nothing may be changed; never a file.
        if read(&bad, &into, LIMIT).is_ok() {
            assert_eq!(
                fs::read(into.join("a.toml")).unwrap(),
                b"x = 1\n",
                "at {at}"
            );
            fs::remove_dir_all(&into).unwrap();
        }
        nothing_at(&into);
    }
    let more = [good.clone(), good].concat();
    fs::write(&bad, more).unwrap();
    assert!(matches!(
        read(&bad, &into, LIMIT),
        Err(ArchiveError::NoManifest { .. })
    ));
}

#[test]
fn snapshots() {
    const V1: Migration = Migration {
        version: 1,
        name: "start",
        sql: "CREATE TABLE t (x INTEGER NOT NULL) STRICT",
    };
    let dir = tree();
    let db = open(&dir.path().join("mcias.db"), &[V1]).unwrap();
    db.execute("INSERT INTO t VALUES (7)", []).unwrap();
    let backups = dir.path().join("backups");
    let now = UNIX_EPOCH + Duration::from_secs(1_769_903_999);
    // Whoever types it as root: tests are run so.
    std::os::unix::fs::lchown(dir.path(), Some(12_345), Some(12_345)).unwrap();
    let archive = snapshot("mcias", &db, &backups, now).unwrap();
    let id = crate::db::instance(&db).unwrap();
    let name = format!("mcias-20260131T235959Z-{id}.tar.zst");
    assert_eq!(archive, backups.join(name));
    assert_eq!((mode(&backups), mode(&archive)), (0o700, 0o600));
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!((owner(&backups), owner(&archive)), (12_345, 12_345));
    assert!(
        snapshot("mcias", &db, &backups, now).is_err(),
        "the same second"
    );
    let nowhere = dir.path().join("none/backups");
    let refused = snapshot("mcias", &db, &nowhere, now);
    assert!(refused.is_err() && !dir.path().join("none").exists());
    assert_eq!(
        fs::read_dir(&backups).unwrap().count(),
        1,
        "the copy is gone"
    );
    let into = dir.path().join("out");
    read(&archive, &into, LIMIT).unwrap();
    let restored = open(&into.join("mcias.db"), &[V1]).unwrap();
    let x: i64 = restored
        .query_row("SELECT x FROM t", [], |r| r.get(0))
        .unwrap();
    assert_eq!(x, 7);
}

#[test]
fn a_snapshot_leaves_what_services_write_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("s.db"), &[]).unwrap();
    db.execute_batch("CREATE TABLE t (x BLOB); INSERT INTO t VALUES (zeroblob(2 << 20))")
        .unwrap();
    let (disk, directory) = (dir.path().join("disk"), |name| {
        dir.path().join("disk").join(name)
    });
    fs::create_dir(&disk).unwrap();
    let disk = Disk::over(&disk, 20).unwrap();
    let now = SystemTime::now();
    snapshot("s", &db, &directory("enough"), now).unwrap();
    // 4 MiB for copy and archive, 2 that stay.
    disk.fill_but(5 << 10).unwrap();
    let refused = snapshot("s", &db, &directory("little"), now).unwrap_err();
    assert!(matches!(refused, ArchiveError::Room { .. }), "{refused:?}");
    assert_eq!(fs::read_dir(directory("little")).unwrap().count(), 0);
    // What was deleted is not copied.
    db.execute_batch("DELETE FROM t").unwrap();
    snapshot("s", &db, &directory("little"), now).unwrap();
}

#[test]
fn what_killed_snapshots_left_is_removed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("s.db"), &[]).unwrap();
    let backups = dir.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let now = SystemTime::now();
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    for (name, days) in [
        (".s-20260101T000000Z.db", 2),
        (".s-20260101T000000Z.tar.zst.partial", 2),
        (".s-20260102T000000Z.db", 0),
        ("s-20260101T000000Z.tar.zst", 2),
        (".t-20260101T000000Z.db", 2),
        (".s-notes", 2),
    ] {
        let file = fs::File::create(backups.join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(days * 86_400))
            .unwrap();
    }
    let archive = snapshot("s", &db, &backups, now).unwrap();
    let mut left: Vec<_> = fs::read_dir(&backups)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| *path != archive)
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    left.sort();
    let wanted = [
        ".s-20260102T000000Z.db",
        ".s-notes",
        ".t-20260101T000000Z.db",
        "s-20260101T000000Z.tar.zst",
    ];
    assert_eq!(left, names(&wanted));
}
