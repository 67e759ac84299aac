//! What people type to open Metacrypt's seal: recovery keys and shares, as they were written down or not.

use std::sync::LazyLock;

use zeroize::Zeroizing;

#[path = "../../metacrypt/src/barrier/key.rs"]
mod key;
#[path = "../../metacrypt/src/barrier/slot.rs"]
mod slot;
#[path = "../../metacrypt/src/barrier/written.rs"]
mod written;

use key::Key;
use slot::{Secret, Slot, SlotError};

const GENERATION: i64 = 1;
const NEEDED: u8 = 3;
const ALL: u8 = 5;

struct Seal {
    master: Key,
    recovery: (Slot, Zeroizing<String>),
    shares: (Slot, Vec<Zeroizing<String>>),
}

static SEAL: LazyLock<Seal> = LazyLock::new(|| {
    let master = Key::random().expect("random bytes");
    Seal {
        recovery: Slot::recovery(GENERATION, &master).expect("a recovery key"),
        shares: Slot::shares(NEEDED, ALL, GENERATION, &master).expect("shares"),
        master,
    }
});

/// Whatever somebody types is read without harm, opens nothing, and has one spelling if it is something.
pub fn anything(text: &str) {
    if let Ok(bytes) = written::read(text) {
        assert_eq!(
            written::read(&written::written(&bytes)),
            Ok(bytes),
            "{text:?}"
        );
    }
    let typed = |text: &str| Zeroizing::new(text.to_owned());
    let lines = text.lines().map(typed).collect();
    for (slot, secret) in [
        (&SEAL.recovery.0, Secret::Recovery(typed(text))),
        (&SEAL.shares.0, Secret::Shares(lines)),
    ] {
        let opened = secret.read().and_then(|typed| {
            // What is told before is told by opening too.
            let checked = slot.check(&typed);
            let opened = slot.open(&typed, GENERATION);
            assert!(checked.is_ok() || opened.is_err());
            opened
        });
        assert!(opened.is_err(), "{text:?}");
    }
}

/// What was made is read however it is typed; with one character mistaken it is a slip.
pub fn slips(made: &[u8], typing: &[u8]) {
    let text = written::written(made);
    // Longer than anything that is written down.
    if text.len() > 200 {
        return;
    }
    let typed = retyped(&text, typing);
    match written::read(&typed) {
        Ok(bytes) => assert_eq!(*bytes, made, "{typed:?}"),
        // With that many blanks it is too long.
        Err(slip) => assert!(typed.len() > 256, "{typed:?}: {slip}"),
    }
    let at = typing.first().copied().map_or(0, usize::from) % text.len();
    let other = if text.as_bytes()[at] == b'7' {
        '8'
    } else {
        '7'
    };
    // The last character has bits that say nothing.
    if text.as_bytes()[at] != b'-' && at + 1 < text.len() {
        let mut wrong = text.to_string();
        wrong.replace_range(at..=at, &other.to_string());
        assert!(written::read(&wrong).is_err(), "{wrong:?}");
    }
}

/// Of the shares those that `chosen` says, in that order: enough different ones open the seal, nothing else does.
pub fn chosen(chosen: &[u8], typing: &[u8]) {
    let (slot, shares) = &SEAL.shares;
    let numbers: Vec<_> = chosen
        .iter()
        .take(20)
        .map(|n| usize::from(*n) % shares.len())
        .collect();
    let typed = numbers
        .iter()
        .map(|n| Zeroizing::new(retyped(&shares[*n], typing)));
    let secret = Secret::Shares(typed.collect());
    let opened = secret
        .read()
        .and_then(|typed| slot.open(&typed, GENERATION));
    let mut different = numbers.clone();
    different.sort_unstable();
    different.dedup();
    match opened {
        Ok(master) => {
            assert_eq!(master.bytes(), SEAL.master.bytes());
            let enough = different.len() >= usize::from(NEEDED);
            assert!(enough && different.len() == numbers.len(), "{numbers:?}");
        }
        Err(SlotError::Few { given, .. }) => {
            assert!(
                given == numbers.len() && given < usize::from(NEEDED),
                "{numbers:?}"
            );
        }
        Err(SlotError::Twice(_)) => assert!(different.len() < numbers.len(), "{numbers:?}"),
        Err(SlotError::Mixed) => assert!(numbers.len() > usize::from(slot::MAX_SHARES)),
        // With many blanks between.
        Err(SlotError::Slip(_)) => assert!(typing.iter().any(|how| how & 7 > 4)),
        Err(other) => panic!("{numbers:?}: {other}"),
    }
    let (slot, key) = &SEAL.recovery;
    let secret = Secret::Recovery(Zeroizing::new(retyped(key, typing)));
    if let Ok(master) = secret
        .read()
        .and_then(|typed| slot.open(&typed, GENERATION))
    {
        assert_eq!(master.bytes(), SEAL.master.bytes());
    }
}

/// As people type it.
fn retyped(text: &str, typing: &[u8]) -> String {
    let mut typed = String::new();
    for (i, c) in text.chars().enumerate() {
        let how = typing.get(i % typing.len().max(1)).copied().unwrap_or(0);
        match (c, how & 7) {
            ('-', 0) => {}
            ('-', 1) => typed.push(' '),
            ('-', 2) => typed.push_str("\r\n"),
            ('0', 2) => typed.push('o'),
            ('0', 3) => typed.push('O'),
            ('1', 2) => typed.push('l'),
            ('1', 3) => typed.push('I'),
            (c, 4) => typed.extend(c.to_uppercase()),
            (c, 5) => typed.extend([' ', c, '\t']),
            (c, _) => typed.push(c),
        }
    }
    typed
}
