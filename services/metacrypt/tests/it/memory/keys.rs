//! The secrets of a seal, as whoever has the recovery key finds them in the database, and the forms in which a process has them.

use std::path::Path;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use data_encoding::{BASE64, BASE64URL_NOPAD, Specification};
use metacrypt::barrier::{Secret, drill};
use rusqlite::Connection;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{ssh, transit, user};

const KEY: usize = 32;

/// Something to be looked for.
#[derive(Clone, Debug)]
pub(super) struct Needle {
    /// Which secret it is.
    pub(super) what: String,
    /// In which form.
    pub(super) how: &'static str,
    pub(super) bytes: Vec<u8>,
}

impl Needle {
    /// A secret in all its forms. Of PKCS #8 a process that uses it keeps what is in it: an Ed25519 seed as it is, a scalar of ECDSA in words, of which the lowest
    /// comes first, as BoringSSL's descendants have them.
    pub(super) fn all(what: &str, secret: &[u8]) -> Vec<Self> {
        let mut forms = vec![
            ("as it is", secret.to_vec()),
            ("as it is stored", BASE64.encode(secret).into_bytes()),
            ("as it is sent", BASE64URL_NOPAD.encode(secret).into_bytes()),
        ];
        let (own, scalar) = match private(secret) {
            Some(private) => (private, true),
            None => (secret, secret.len() == KEY),
        };
        if scalar {
            let words: Vec<u8> = own.iter().rev().copied().collect();
            forms.extend([("without its frame", own.to_vec()), ("in words", words)]);
        }
        let needle = |(how, bytes)| Self {
            what: what.to_owned(),
            how,
            bytes,
        };
        forms.into_iter().map(needle).collect()
    }
}

/// What is secret of a key in PKCS #8 (RFC 8410 §7, RFC 5915 §3).
fn private(pkcs8: &[u8]) -> Option<&[u8]> {
    for (before, length) in [
        (&[4, 34, 4, 32][..], 32),
        (&[2, 1, 1, 4, 32], 32),
        (&[2, 1, 1, 4, 48], 48),
    ] {
        let at = pkcs8.windows(before.len()).position(|part| part == before);
        if let Some(at) = at.filter(|_| pkcs8.first() == Some(&0x30)) {
            return pkcs8[at + before.len()..].get(..length);
        }
    }
    None
}

/// Those that the service keeps while it is open: the master key, the data keys, and keys that are ready to be used.
pub(super) fn kept(at: &Path, recovery: &str) -> Vec<Needle> {
    let db = Connection::open(at).unwrap();
    let mut all = sealed_by(&db, recovery);
    let transit = format!("{}: keys/known", transit::MOUNT);
    for (what, secret) in stored(&db, recovery) {
        if what.starts_with(&transit) || is_of_ca(&what) {
            all.push((what, secret));
        }
    }
    let of_cas = all.iter().filter(|(what, _)| is_of_ca(what)).count();
    assert_eq!((of_cas, all.len()), (4, 1 + 5 + 1 + 4), "one of each");
    needles(&all)
}

/// Those that are read when they are used, and not kept after it.
pub(super) fn read_for_each_use(at: &Path, recovery: &str) -> Vec<Needle> {
    let db = Connection::open(at).unwrap();
    let mut all = stored(&db, recovery);
    all.retain(|(what, _)| {
        let of = |mount: &str| what.starts_with(&format!("{mount}: "));
        of(ssh::MOUNT) || of(user::MOUNT) || what.starts_with("pki: acme/secrets/")
    });
    assert_eq!(all.len(), 2 + 2 + 1, "one of each");
    needles(&all)
}

fn is_of_ca(what: &str) -> bool {
    what.starts_with("pki: keys/")
}

fn needles(all: &[(String, Vec<u8>)]) -> Vec<Needle> {
    let each = all.iter().enumerate();
    each.flat_map(|(number, (what, secret))| Needle::all(&format!("{number}, {what}"), secret))
        .collect()
}

/// The master key and the data keys.
fn sealed_by(db: &Connection, recovery: &str) -> Vec<(String, Vec<u8>)> {
    let slot = "SELECT master_key, generation FROM key_slot, seal WHERE kind = 'recovery key'";
    let (slot, generation): (Vec<u8>, i64) = db.query_row(slot, [], |row| row.try_into()).unwrap();
    let place = format!("slot/recovery key/{generation}");
    let master = open(&typed(recovery), &place, &slot);
    let mounts = "SELECT id, name, engine, data_key FROM mount WHERE name IS NOT NULL";
    let mut mounts = db.prepare(mounts).unwrap();
    let mounts = mounts.query_map([], |row| <(String, String, String, Vec<u8>)>::try_from(row));
    let mut all = vec![("the master key".to_owned(), master.clone())];
    for mount in mounts.unwrap() {
        let (id, name, engine, sealed) = mount.unwrap();
        let key = open(&master, &format!("mount/{engine}/{id}/{name}"), &sealed);
        all.push((format!("the data key of {name}"), key));
    }
    all
}

/// The key that people write down.
fn typed(recovery: &str) -> Vec<u8> {
    let mut form = Specification::new();
    form.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    form.ignore.push('-');
    let bytes = form.encoding().unwrap().decode(recovery.as_bytes());
    bytes.unwrap()[1..=KEY].to_vec()
}

/// Opens what a key of the barrier sealed, by what is told of it there.
fn open(by: &[u8], what: &str, sealed: &[u8]) -> Vec<u8> {
    struct Both;
    impl KeyType for Both {
        fn len(&self) -> usize {
            KEY + NONCE_LEN
        }
    }
    let (salt, body) = sealed[1..].split_at(KEY);
    let mut both = [0; KEY + NONCE_LEN];
    let secret = Salt::new(HKDF_SHA256, salt).extract(by);
    let filled = secret.expand(&[b"metacrypt value 1", &[0]], Both);
    filled.unwrap().fill(&mut both).unwrap();
    let (key, nonce) = both.split_at(KEY);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let mut body = body.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(what), &mut body);
    opened.unwrap().to_vec()
}

/// The secrets that engines keep, and where.
fn stored(db: &Connection, recovery: &str) -> Vec<(String, Vec<u8>)> {
    let secret = Secret::Recovery(Zeroizing::new(recovery.to_owned()));
    let drilled = drill(db, secret).unwrap();
    let mut paths = db
        .prepare("SELECT name, path FROM item JOIN mount ON mount.number = item.mount")
        .unwrap();
    let paths = paths.query_map([], |row| <(String, String)>::try_from(row));
    let mut all = Vec::new();
    for path in paths.unwrap() {
        let (mount, path) = path.unwrap();
        let items = drilled.unsealed.mounts()[&mount].items(db);
        let value: Value = items.get(&path).unwrap().unwrap();
        let mut found = Vec::new();
        match &value {
            // All that is there: the key of a CA, or of an account to be.
            Value::String(text) => found.extend(BASE64.decode(text.as_bytes())),
            _ => secrets(&value, &mut found),
        }
        let at = format!("{mount}: {path}");
        all.extend(found.into_iter().map(|secret| (at.clone(), secret)));
    }
    all
}

/// Those in what is stored.
fn secrets(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| secrets(value, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (&**name, value) {
                    ("secret", Value::String(text)) => {
                        found.push(BASE64.decode(text.as_bytes()).unwrap());
                    }
                    _ => secrets(value, found),
                }
            }
        }
        _ => {}
    }
}
