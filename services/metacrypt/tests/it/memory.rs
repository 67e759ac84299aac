//! Whoever has the disk has nothing, and whoever may read the memory of a sealed service neither.

use std::{
    fs::{self, File},
    io::BufRead as _,
    os::unix::fs::FileExt as _,
};

use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{SealRequest, SshCaAlgorithm, UnsealRequest};
use mc_testkit::wait_for;
use metacrypt::barrier::{Secret, drill};
use rusqlite::Connection;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    operating::Ca,
    ssh, transit,
    world::{SEAL, World, by},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_process_has_no_secret_in_memory() {
    let (world, fresh) = World::sealed_by_all().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut client = world.client().await;
    world.unseal().await;
    client.seal(by(&token, SealRequest {})).await.unwrap();
    let recovery = fresh.recovery.unwrap().to_string();
    let unsealed = UnsealRequest {
        recovery_key: recovery.clone(),
        ..UnsealRequest::default()
    };
    client.unseal(unsealed).await.unwrap();
    let mut admin = world.clients(&token).await;
    let key = transit::exported(&mut admin).await;
    ssh::mount(&mut admin).await;
    for (ca, algorithm) in [
        ("user", SshCaAlgorithm::Ed25519),
        ("host", SshCaAlgorithm::EcdsaP256),
    ] {
        ssh::ca_key(&mut admin, ca, algorithm).await;
    }
    let ca = Ca::of(world).await;
    let mut world = ca.world;
    let pid = world.metacrypt.as_ref().unwrap().id();
    assert!(is_in_memory(pid, &key), "a key that is in use is found");
    client.seal(by(&token, SealRequest {})).await.unwrap();
    drop((client, admin));
    let mut secrets = stored(&world, &recovery);
    let keys = secrets.iter().filter(|(_, secret)| *secret == key);
    assert_eq!(keys.count(), 1, "what is stored is read");
    for (mount, least) in [(transit::MOUNT, 1), (ssh::MOUNT, 2), ("pki", 2)] {
        let of = format!("{mount}: ");
        let all = secrets.iter().filter(|(at, _)| at.starts_with(&of));
        assert!(all.count() >= least, "those of {mount} too");
    }
    for (what, text) in [("the password", SEAL), ("the recovery key", &recovery)] {
        secrets.push((what.to_owned(), text.as_bytes().to_vec()));
    }
    for (what, secret) in secrets {
        let stored = BASE64.encode(&secret).into_bytes();
        for (how, bytes) in [("", secret), (", as it is stored", stored)] {
            let gone = || (!is_in_memory(pid, &bytes)).then_some(());
            wait_for(&format!("{what}{how} to be gone"), gone).unwrap();
        }
    }
    let issuer = format!("https://localhost:{}", world.mcias.handle.address().port());
    assert!(is_in_memory(pid, issuer.as_bytes()), "the rest is found");
    let process = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let (limits, status) = (process("limits"), process("status"));
    let line = |text: &str, of: &str| text.lines().find(|l| l.starts_with(of)).unwrap().to_owned();
    let core = line(&limits, "Max core file size");
    assert!(core.contains(" 0 "), "{limits}");
    let locked = line(&status, "VmLck:");
    assert!(!locked.contains(" 0 kB"), "{locked}");
    let ended = world.metacrypt.take().unwrap().terminate().unwrap();
    assert!(ended.success(), "it was there all the time");
}

/// The secrets that engines keep, and where, as whoever has the recovery key finds them in the database.
fn stored(world: &World, recovery: &str) -> Vec<(String, Vec<u8>)> {
    let db = Connection::open(world.file("metacrypt.db")).unwrap();
    let secret = Secret::Recovery(Zeroizing::new(recovery.to_owned()));
    let drilled = drill(&db, secret).unwrap();
    let mut paths = db
        .prepare("SELECT name, path FROM item JOIN mount ON mount.number = item.mount")
        .unwrap();
    let paths = paths.query_map([], |row| <(String, String)>::try_from(row));
    let mut all = Vec::new();
    for path in paths.unwrap() {
        let (mount, path) = path.unwrap();
        let items = drilled.unsealed.mounts()[&mount].items(&db);
        let value: Value = items.get(&path).unwrap().unwrap();
        let mut found = Vec::new();
        match &value {
            // All that is there: the key of a CA.
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
                    ("secret" | "pkcs8", Value::String(text)) => {
                        found.push(BASE64.decode(text.as_bytes()).unwrap());
                    }
                    _ => secrets(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Whether a process has this in memory that it can write; all of that is read.
fn is_in_memory(pid: u32, secret: &[u8]) -> bool {
    const AT_ONCE: usize = 1 << 20;
    let maps = || fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = false;
    for line in maps().lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let mut at = u64::from_str_radix(from, 16).unwrap();
        let end = u64::from_str_radix(to, 16).unwrap();
        let mut bytes = Vec::new();
        while at < end {
            // What lies across two pieces is found in the second.
            bytes.drain(..bytes.len() - bytes.len().min(secret.len() - 1));
            let kept = bytes.len();
            bytes.resize(kept + AT_ONCE.min((end - at).try_into().unwrap()), 0);
            if let Err(error) = memory.read_exact_at(&mut bytes[kept..], at) {
                // It was given back meanwhile.
                assert!(!maps().contains(line), "{line}: {error}");
                break;
            }
            at += (bytes.len() - kept) as u64;
            found |= has(&bytes, secret);
        }
    }
    found
}

/// Whether it is in there; looks for its first byte, as the standard library does fast.
fn has(mut bytes: &[u8], secret: &[u8]) -> bool {
    let all = bytes;
    while !bytes.is_empty() {
        bytes.skip_until(secret[0]).unwrap();
        if all[all.len() - bytes.len() - 1..].starts_with(secret) {
            return true;
        }
    }
    false
}
