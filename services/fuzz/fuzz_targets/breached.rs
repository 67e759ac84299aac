//! The list of breached passwords: what is in it is found, what is not is not, and what is no list is never taken for one without the password.
#![no_main]

use std::{collections::BTreeSet, fmt::Write as _, fs, sync::LazyLock};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::breached::List;
use tempfile::TempDir;

// In memory: the list is a file.
static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in("/dev/shm").expect("/dev/shm is writable"));
const ENDINGS: [&str; 4] = ["\n", "\r\n", ":17\n", ":99999999\r\n"];

fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else {
        return;
    };
    whole(*form, data);
    any(data);
});

/// A list as they are published, of as many passwords as there are bytes.
fn whole(form: u8, data: &[u8]) {
    let within: BTreeSet<u8> = data.iter().copied().collect();
    let mut hashes: Vec<String> = within.iter().map(|n| sha1(&n.to_string())).collect();
    hashes.sort();
    let ending = ENDINGS[usize::from(form & 3)];
    let mut text = String::new();
    for hash in hashes {
        match form & 4 {
            0 => text.push_str(&hash),
            _ => text.push_str(&hash.to_lowercase()),
        }
        text.push_str(ending);
    }
    if form & 8 != 0 {
        text.truncate(text.trim_end().len());
    }
    let path = DIRECTORY.path().join("whole");
    fs::write(&path, &text).expect("/dev/shm has room");
    let Ok(list) = List::open(&path) else {
        assert!(within.is_empty(), "{text}");
        return;
    };
    for n in (0..=255).step_by(5).chain(within.iter().copied().take(8)) {
        let has = list.has(&n.to_string()).expect("it is a list");
        assert_eq!(has, within.contains(&n), "{n}: {text}");
    }
}

/// Any file: a password is in it only if its hash is.
fn any(data: &[u8]) {
    let path = DIRECTORY.path().join("any");
    fs::write(&path, data).expect("/dev/shm has room");
    let Ok(list) = List::open(&path) else {
        return;
    };
    let text = String::from_utf8_lossy(data).to_uppercase();
    for password in ["", "0", "password"] {
        if list.has(password).is_ok_and(|has| has) {
            assert!(text.contains(&sha1(password)), "{password:?}: {text}");
        }
    }
}

fn sha1(text: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02X}").expect("a String takes all");
        hex
    })
}
