//! Key revocation lists in OpenSSH's form (PROTOCOL.krl): what sshd's `RevokedKeys` and ssh's `RevokedHostKeys` read.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::Wire;

/// `SSHKRL\n\0`.
const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT: u32 = 1;
const CERTIFICATES: u8 = 1;
const EXPLICIT_KEY: u8 = 2;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;
/// Bits of a bitmap, at most; OpenSSH reads numbers of 16,384.
const BITMAP: u64 = 8192;
/// From so many serials in a row, a range is shorter than a list.
const RANGE: u64 = 3;
/// What a section costs beside what is in it: its type, its length, and of a bitmap the offset and the number's length.
const BITMAP_COST: u64 = 1 + 4 + 8 + 4 + 1;

/// What is revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Revoked {
    /// Serials of certificates, by the key that signed them.
    pub(super) serials: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// Key ids, of certificates by whichever key.
    pub(super) key_ids: BTreeSet<String>,
    /// Public keys.
    pub(super) keys: BTreeSet<Vec<u8>>,
}

/// Some of many serials, in one of the forms for them. None has the serial 0, which OpenSSH does not look for.
#[derive(Debug, PartialEq, Eq)]
enum Serials {
    List(Vec<u64>),
    Range(u64, u64),
    Bitmap(u64, Vec<u8>),
}

/// In the form that takes the least, near enough.
fn forms(serials: &BTreeSet<u64>) -> Vec<Serials> {
    let all: Vec<u64> = serials.iter().copied().filter(|s| *s != 0).collect();
    let (mut forms, mut listed, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(&first) = all.get(at) {
        let rest = &all[at..];
        let row = (first..=u64::MAX)
            .zip(rest)
            .take_while(|(a, b)| a == *b)
            .count();
        let near = rest.partition_point(|serial| serial - first < BITMAP);
        let span = rest[near - 1] - first + 1;
        let [row_u64, near_u64] = [row, near].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
        if row_u64 >= RANGE {
            forms.push(Serials::Range(first, first + (row_u64 - 1)));
            at += row;
        } else if span / 8 + BITMAP_COST < near_u64 * 8 {
            forms.push(Serials::Bitmap(first, bitmap(first, span, &rest[..near])));
            at += near;
        } else {
            listed.push(first);
            at += 1;
        }
    }
    if !listed.is_empty() {
        forms.push(Serials::List(listed));
    }
    forms
}

/// Bit n, from the last byte's last on, is of `first` + n.
fn bitmap(first: u64, span: u64, serials: &[u64]) -> Vec<u8> {
    let length = usize::try_from(span.div_ceil(8)).unwrap_or_default();
    let mut bytes = vec![0; length];
    for serial in serials {
        let bit = serial - first;
        let byte = usize::try_from(bit / 8).unwrap_or_default();
        if let Some(byte) = bytes.iter_mut().rev().nth(byte) {
            *byte |= 1 << (bit % 8);
        }
    }
    bytes
}

impl Serials {
    fn section(&self, to: Wire) -> Wire {
        match self {
            Self::List(all) => {
                let list = all
                    .iter()
                    .fold(Wire::new(), |list, serial| list.u64(*serial));
                to.byte(SERIAL_LIST).string(list.as_bytes())
            }
            Self::Range(first, last) => {
                let range = Wire::new().u64(*first).u64(*last);
                to.byte(SERIAL_RANGE).string(range.as_bytes())
            }
            Self::Bitmap(first, bytes) => {
                let bitmap = Wire::new().u64(*first).mpint(bytes);
                to.byte(SERIAL_BITMAP).string(bitmap.as_bytes())
            }
        }
    }
}

/// Certificates by this key; none: by any, also by those that nobody here has any more.
fn section(authority: &[u8]) -> Wire {
    Wire::new().string(authority).string("")
}

impl Revoked {
    /// The list. Each version is greater than the one before.
    pub(super) fn krl(&self, version: u64, made_s: u64) -> Vec<u8> {
        let mut krl = Wire::new()
            .u64(MAGIC)
            .u32(FORMAT)
            .u64(version)
            .u64(made_s)
            .u64(0)
            .string("")
            .string("");
        if !self.key_ids.is_empty() {
            let ids = self.key_ids.iter();
            let ids = ids.fold(Wire::new(), |ids, id| ids.string(id));
            let section = section(&[]).byte(KEY_ID).string(ids.as_bytes());
            krl = krl.byte(CERTIFICATES).string(section.as_bytes());
        }
        for (authority, serials) in &self.serials {
            let forms = forms(serials);
            if forms.is_empty() {
                continue;
            }
            let section = forms
                .iter()
                .fold(section(authority), |to, form| form.section(to));
            krl = krl.byte(CERTIFICATES).string(section.as_bytes());
        }
        if !self.keys.is_empty() {
            let keys = self
                .keys
                .iter()
                .fold(Wire::new(), |keys, key| keys.string(key));
            krl = krl.byte(EXPLICIT_KEY).string(keys.as_bytes());
        }
        krl.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, process::Command};

    use proptest::prelude::*;

    use super::*;
    use crate::engine::ssh::{
        authority::{Algorithm, Kind, Ready},
        certificate::issue,
        key::SubjectKey,
        testing::{NOW_S, allowed, ca, key, line, pair, people, stamp, wanted},
    };

    #[test]
    fn serials_take_the_form_that_is_short() {
        let list = |serials: &[u64]| Serials::List(serials.to_vec());
        let spread: Vec<u64> = (1..50).map(|n| n * 100_000).collect();
        for (description, serials, wanted) in [
            ("none", vec![], vec![]),
            ("zero, which is none", vec![0], vec![]),
            ("one", vec![7], vec![list(&[7])]),
            ("two in a row", vec![7, 8], vec![list(&[7, 8])]),
            ("three in a row", vec![7, 8, 9], vec![Serials::Range(7, 9)]),
            (
                "the last ones",
                vec![u64::MAX - 2, u64::MAX - 1, u64::MAX],
                vec![Serials::Range(u64::MAX - 2, u64::MAX)],
            ),
            ("far apart", spread.clone(), vec![list(&spread)]),
            (
                "near each other",
                vec![1, 3, 5, 9],
                vec![Serials::Bitmap(1, vec![0b1, 0b0001_0101])],
            ),
            (
                "a row, and one by itself before it",
                vec![1, 10_000, 10_001, 10_002],
                vec![Serials::Range(10_000, 10_002), list(&[1])],
            ),
        ] {
            assert_eq!(
                forms(&serials.into_iter().collect()),
                wanted,
                "{description}"
            );
        }
    }

    #[test]
    fn an_empty_list_is_its_header() {
        let krl = Revoked::default().krl(3, 5);
        let wanted = b"SSHKRL\n\0\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(krl, wanted);
    }

    /// Two authorities, two keys, and where files of certificates go.
    struct Peer {
        directory: tempfile::TempDir,
        cas: [Ready; 2],
        keys: [SubjectKey; 2],
    }

    impl Peer {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let other = line(&pair(directory.path(), "other", &["ecdsa"]));
            Self {
                cas: [ca(Algorithm::Ed25519), ca(Algorithm::EcdsaP256)],
                keys: [key(directory.path()), SubjectKey::parse(&other).unwrap()],
                directory,
            }
        }

        fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn certificate(&self, one: &One) -> String {
            let account = one.account.as_str();
            let allowed = allowed(account, crate::engine::ssh::action::SIGN.0, "people");
            let wanted = wanted(Kind::User, &self.keys[one.key], &[account]);
            let stamp = stamp(one.serial, NOW_S);
            issue(&allowed, &people(), &wanted, &self.cas[one.ca], stamp)
                .unwrap()
                .line
        }

        /// Which of the certificates ssh-keygen finds revoked.
        fn revoked(&self, krl: &[u8], certificates: &[One]) -> Vec<bool> {
            let files = certificates
                .iter()
                .enumerate()
                .map(|(at, one)| self.file(&format!("{at}-cert.pub"), self.certificate(one)));
            let mut command = Command::new("ssh-keygen");
            command.arg("-Q").arg("-f").arg(self.file("krl", krl));
            let output = command.args(files).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.stderr, b"", "{said}");
            said.lines().map(|line| line.ends_with("REVOKED")).collect()
        }
    }

    /// A certificate by what it is revoked by.
    #[derive(Clone, Debug)]
    struct One {
        ca: usize,
        key: usize,
        account: String,
        serial: u64,
    }

    /// Near each other, near the ends, and anywhere.
    fn serial() -> impl Strategy<Value = u64> {
        let base = 1_800_000_000_u64 << 20;
        prop_oneof![
            4 => (0..40_u64).prop_map(move |n| base + n),
            2 => (0..20_000_u64).prop_map(move |n| base + n),
            1 => 1..40_u64,
            1 => (0..40_u64).prop_map(|n| u64::MAX - n),
            1 => 1..=u64::MAX,
        ]
    }

    fn one() -> impl Strategy<Value = One> {
        let account = prop_oneof![Just("ada"), Just("bob"), Just("eve")];
        (0..2_usize, 0..2_usize, account, serial()).prop_map(|(ca, key, account, serial)| One {
            ca,
            key,
            account: account.to_owned(),
            serial,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn ssh_keygen_agrees_on_what_is_revoked(
            serials in prop::collection::vec((0..2_usize, serial()), 0..60),
            runs in prop::collection::vec((0..2_usize, serial(), 0..300_u64), 0..3),
            key_id in prop::option::of(Just("eve")),
            key in prop::option::of(0..2_usize),
            others in prop::collection::vec(one(), 1..8),
        ) {
            let peer = Peer::new();
            let blob = |ca: usize| peer.cas[ca].public().to_vec();
            let mut revoked = Revoked::default();
            for (ca, serial) in &serials {
                revoked.serials.entry(blob(*ca)).or_default().insert(*serial);
            }
            for (ca, first, length) in &runs {
                let all = *first..=first.saturating_add(*length);
                revoked.serials.entry(blob(*ca)).or_default().extend(all);
            }
            revoked.key_ids.extend(key_id.map(str::to_owned));
            revoked.keys.extend(key.map(|key| peer.keys[key].written().to_vec()));
            let listed = serials.iter().take(4).map(|(ca, serial)| One {
                ca: *ca,
                key: 0,
                account: "ada".to_owned(),
                serial: *serial,
            });
            let ends = runs.iter().map(|(ca, first, length)| One {
                ca: *ca,
                key: 0,
                account: "ada".to_owned(),
                serial: first.saturating_add(*length),
            });
            let all: Vec<_> = listed.chain(ends).chain(others).collect();
            let wanted: Vec<_> = all.iter().map(|one| {
                let serials = revoked.serials.get(&blob(one.ca));
                serials.is_some_and(|all| all.contains(&one.serial))
                    || revoked.key_ids.contains(&one.account)
                    || key == Some(one.key)
            }).collect();
            let krl = revoked.krl(7, NOW_S);
            prop_assert_eq!(peer.revoked(&krl, &all), wanted, "{:?}", all);
        }
    }
}
