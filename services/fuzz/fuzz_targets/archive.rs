//! Archives: whatever is in one, nothing is written outside of the directory that it is unpacked to, nor more than the bound, and what is refused
//! leaves nothing behind.
#![no_main]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::archive::{Listed, MANIFEST, Manifest, files_of, read, write};
use tar::{EntryType, Header};
use tempfile::TempDir;

/// Bytes of the files in all.
const LIMIT: u64 = 1 << 16;
/// Entries that are made.
const ENTRIES: usize = 8;

// In memory, with nothing else in it.
static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in("/dev/shm").expect("/dev/shm is writable"));

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&compressed(data));
    check(&compressed(&tarball(data)));
});

fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 1).expect("it is in memory")
}

fn check(archive: &[u8]) {
    let directory = DIRECTORY.path();
    let (from, into) = (directory.join("archive"), directory.join("into"));
    fs::write(&from, archive).expect("/dev/shm has room");
    let Ok(manifest) = read(&from, &into, LIMIT) else {
        assert_eq!(names(directory), ["archive"], "something is left");
        return;
    };
    assert_eq!(names(directory), ["archive", "into"]);
    let files = files_of(&into).expect("regular files alone");
    let mut listed: Vec<&Listed> = manifest.files.iter().collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(files.len(), listed.len());
    for (file, listed) in files.iter().zip(&listed) {
        assert_eq!(file.name, listed.name);
        let content = fs::read(&file.path).expect("its owner's");
        assert_eq!(
            (content.len() as u64, sha256(&content)),
            (listed.size, listed.sha256.clone())
        );
        let mode = fs::metadata(&file.path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", file.name);
    }
    assert!(listed.iter().map(|file| file.size).sum::<u64>() <= LIMIT);
    // As we write it, it is read again.
    fs::remove_file(&from).expect("it is there");
    let written = write(&from, &files).expect("what was in one fits into one");
    fs::remove_dir_all(&into).expect("it is there");
    assert_eq!(read(&from, &into, LIMIT).expect("it is ours"), written);
    fs::remove_dir_all(&into).expect("it is there");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|e| name(e.expect("it is read"))).collect();
    names.sort();
    names
}

fn sha256(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Entries, each of a byte for its kind, one for its length and a line for its name; the manifest is right unless the first byte is odd.
fn tarball(data: &[u8]) -> Vec<u8> {
    let Some((form, data)) = data.split_first() else {
        return Vec::new();
    };
    let (mut tar, mut files) = (Vec::new(), Vec::new());
    for line in data.split(|byte| *byte == b'\n').take(ENTRIES) {
        let [kind, length, name @ ..] = line else {
            continue;
        };
        // All lengths up to twice the bound, and then what no file has.
        let length = usize::from(*length) * usize::from(*length) * 2;
        let content = vec![*kind; length];
        let entry_type = match kind {
            0..200 => EntryType::Regular,
            other => EntryType::new(*other),
        };
        let said = match kind {
            190..200 => u64::MAX - u64::from(*kind),
            180..190 => length as u64 + 600,
            _ => length as u64,
        };
        entry(&mut tar, entry_type, name, said, &content);
        files.push(Listed {
            name: String::from_utf8_lossy(name).into_owned(),
            size: length as u64,
            sha256: sha256(&content),
        });
    }
    if form & 1 != 0 {
        files.reverse();
    }
    let manifest = serde_json::to_vec(&Manifest { files }).expect("it is JSON");
    entry(
        &mut tar,
        EntryType::Regular,
        MANIFEST.as_bytes(),
        manifest.len() as u64,
        &manifest,
    );
    if form & 2 != 0 {
        tar.extend([0; 1024]);
    }
    if form & 4 != 0 {
        tar.extend(data);
    }
    tar
}

fn entry(tar: &mut Vec<u8>, kind: EntryType, name: &[u8], size: u64, content: &[u8]) {
    let mut header = Header::new_ustar();
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4777);
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
