//! Sealed values: each opens as itself alone. Whatever is changed, cut off, made up or put in another's place never opens.
#![no_main]

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::{seal::Key, transit, web};
use tempfile::TempDir;

static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    let directory = TempDir::new_in("/dev/shm").expect("/dev/shm is writable");
    [7, 8].map(|byte| {
        let path = directory.path().join(byte.to_string());
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.expect("it is not there yet");
        file.write_all(&[byte; 32]).expect("/dev/shm has room");
        Key::read(&path).expect("32 bytes of its owner's")
    })
});

fuzz_target!(|data: &[u8]| {
    let [low, high, mask, rest @ ..] = data else {
        return;
    };
    let (what, secret) = rest.split_at(rest.len() / 2);
    let what = String::from_utf8_lossy(what);
    let [key, other] = &*KEYS;
    let sealed = key.seal(&what, secret).expect("there are random bytes");
    assert_eq!(**key.open(&what, &sealed).expect("it is itself"), *secret);
    assert!(other.open(&what, &sealed).is_err(), "under another key");
    assert!(
        key.open(&format!("{what}/"), &sealed).is_err(),
        "as another"
    );
    assert!(key.open(&what, rest).is_err(), "made up");
    let at = usize::from(u16::from_le_bytes([*low, *high])) % sealed.len();
    assert!(key.open(&what, &sealed[..at]).is_err(), "cut at {at}");
    let mut changed = sealed;
    changed[at] ^= mask | 1;
    assert!(key.open(&what, &changed).is_err(), "changed at {at}");
    web::sealed(at, *mask, secret);
    transit::made(u32::from_le_bytes([*low, *high, *mask, 0]), rest);
    transit::anything(&what);
});
