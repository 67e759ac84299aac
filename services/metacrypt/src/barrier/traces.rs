//! Sealing leaves no key behind: this process looks through its own memory.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use super::{
    tests::{World, nothing},
    *,
};

/// What is looked for is never there itself: it would find its own copy.
const MASK: u8 = 0x5a;

/// A secret, masked.
struct Needle {
    what: &'static str,
    masked: Vec<u8>,
}

impl Needle {
    fn of(what: &'static str, secret: &[u8]) -> Self {
        let masked = secret.iter().map(|byte| byte ^ MASK).collect();
        Self { what, masked }
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip(&self.masked).all(|(a, b)| a ^ MASK == *b)
    }
}

/// Which of them are in memory that can be written, and where.
fn found(needles: &[Needle]) -> Vec<String> {
    let (maps, memory) = (
        fs::read_to_string("/proc/self/maps").unwrap(),
        File::open("/proc/self/mem").unwrap(),
    );
    let mut found = Vec::new();
    let mut page = vec![0; 1 << 16];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let end = u64::from_str_radix(to, 16).unwrap();
        let mut at = u64::from_str_radix(from, 16).unwrap();
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(page.len());
            // Reserved for the kernel: nobody reads it.
            let Ok(read) = memory.read_at(&mut page[..length], at) else {
                break;
            };
            for needle in needles {
                let length = needle.masked.len();
                let hit = page[..read]
                    .windows(length)
                    .any(|bytes| needle.is_at(bytes));
                if hit {
                    found.push(format!("{} at {at:x} ({rest})", needle.what));
                }
            }
            // What lies across two reads is found by the next.
            let overlap = if at + read as u64 == end { 0 } else { 64 };
            at += (read as u64).max(overlap + 1) - overlap;
            page.fill(0);
        }
    }
    found
}

#[tokio::test]
async fn what_was_sealed_is_not_in_memory() {
    let (world, fresh) = World::new().await;
    let password = "a password that is nowhere else";
    let mut unsealed = world
        .open(Secret::Recovery(fresh.recovery.unwrap()))
        .await
        .unwrap();
    let typed = Needle::of("the password", password.as_bytes());
    world
        .seal
        .set_password(
            &unsealed,
            Zeroizing::new(password.to_owned()),
            super::tests::CHEAP,
            super::tests::nothing(),
        )
        .await
        .unwrap();
    world
        .seal
        .mount(&mut unsealed, "pki", "pki", nothing())
        .await
        .unwrap();
    let secret = Needle::of("a value", b"PRIVATE KEY of an issuer");
    let db = world.db();
    let value = ["PRIVATE KEY", "of an issuer"].join(" ");
    unsealed.mounts()["pki"]
        .items(&db)
        .put("issuer/infra", &value)
        .unwrap();
    drop((unsealed, value));
    let unsealed = world
        .open(Secret::Password(Zeroizing::new(password.to_owned())))
        .await
        .unwrap();
    let got: Option<String> = unsealed.mounts()["pki"]
        .items(&db)
        .get("issuer/infra")
        .unwrap();
    let mut needles = vec![Needle::of("the master key", &unsealed.master.bytes()[..])];
    for mount in unsealed.mounts().values() {
        needles.push(Needle::of("a data key", &mount.key.bytes()[..]));
    }
    let open = found(&needles);
    assert!(
        open.len() >= needles.len(),
        "they are found while they are there: {open:?}"
    );
    drop((unsealed, got));
    needles.extend([secret, typed]);
    let left = found(&needles);
    assert!(left.is_empty(), "{left:#?}");
}
