//! Whoever has the disk has nothing, and whoever may read the memory of a sealed service neither.

mod keys;

use std::{
    fs::{self, File},
    io::BufRead as _,
    os::unix::fs::FileExt as _,
};

use mc_proto::metacrypt::v1::{
    CreateUserKeysRequest, SealRequest, SealToUsersRequest, SshCaAlgorithm, UnsealRequest,
};
use mc_testkit::wait_for;

use self::keys::{Needle, kept, read_for_each_use};
use crate::{
    operating::Ca,
    ssh, transit, user,
    world::{Clients, SEAL, World, by},
};

/// A key of each kind, each used.
async fn used(world: World, admin: &mut Clients) -> Ca {
    transit::exported(admin).await;
    ssh::mount(admin).await;
    for (ca, algorithm) in [
        ("user", SshCaAlgorithm::Ed25519),
        ("host", SshCaAlgorithm::EcdsaP256),
    ] {
        ssh::ca_key(admin, ca, algorithm).await;
    }
    user::mount(admin).await;
    let mount = user::MOUNT.to_owned();
    let request = CreateUserKeysRequest { mount };
    admin.user.create_keys(request).await.unwrap();
    let request = SealToUsersRequest {
        mount: user::MOUNT.to_owned(),
        recipients: vec!["admin".to_owned()],
        plaintext: b"to myself".to_vec(),
        ..SealToUsersRequest::default()
    };
    admin.user.seal(request).await.unwrap();
    let ca = Ca::of(world).await;
    let base = format!("https://localhost:{}", ca.world.https.port());
    for line in [
        "pki issuer create pki/edwards --under root --common-name Edwards --key ed25519".to_owned(),
        "pki issuer create pki/small --under root --common-name Small --key ecdsa-p256".to_owned(),
        format!("pki acme set pki --base {base}"),
        "pki acme key create pki".to_owned(),
    ] {
        let out = ca.run(&line);
        assert!(out.status.success(), "{line}: {out:?}");
    }
    for issuer in ["root", "services", "edwards", "small"] {
        let path = format!("/v1/pki/pki/issuer/{issuer}/crl");
        let (status, _) = ca.world.fetch(&path, &ca.world.file("crl"));
        assert_eq!(status, 200, "{issuer}");
    }
    ca
}

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
    let mut world = used(world, &mut admin).await.world;
    // What is on its way to a client is in the buffers of his connection.
    drop((client, admin));
    let pid = world.metacrypt.as_ref().unwrap().id();
    let at = world.file("metacrypt.db");
    let kept = kept(&at, &recovery);
    let passing = read_for_each_use(&at, &recovery);
    // Each in one of its forms: else that it is not found later shows nothing.
    let there = in_memory(pid, &kept);
    let missing: Vec<_> = kept
        .iter()
        .filter(|one| !there.iter().any(|found| found.what == one.what))
        .map(|one| &one.what)
        .collect();
    assert!(
        missing.is_empty(),
        "not found while it is open: {missing:?}"
    );
    are_gone(pid, &passing);
    let mut client = world.client().await;
    client.seal(by(&token, SealRequest {})).await.unwrap();
    drop(client);
    let mut all = [kept, passing].concat();
    for (what, text) in [("the password", SEAL), ("the recovery key", &recovery)] {
        all.extend(Needle::all(what, text.as_bytes()));
    }
    are_gone(pid, &all);
    let issuer = format!("https://localhost:{}", world.mcias.handle.address().port());
    let rest = Needle::all("the issuer", issuer.as_bytes());
    assert!(!in_memory(pid, &rest).is_empty(), "the rest is found");
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

/// Waits until nothing of these is found.
fn are_gone(pid: u32, needles: &[Needle]) {
    let mut found = Vec::new();
    let gone = wait_for("all of it to be gone", || {
        found = in_memory(pid, needles);
        found.is_empty().then_some(())
    });
    let found: Vec<_> = found.iter().map(|one| (&one.what, one.how)).collect();
    assert!(gone.is_ok(), "still found: {found:?}");
}

/// Those that a process has in memory that it can write; all of that is read.
fn in_memory(pid: u32, needles: &[Needle]) -> Vec<Needle> {
    const AT_ONCE: usize = 1 << 20;
    let maps = || fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let longest = needles.iter().map(|one| one.bytes.len()).max().unwrap_or(1);
    let nothing = vec![0; AT_ONCE + longest];
    let mut found = vec![false; needles.len()];
    for line in maps().lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let mut at = u64::from_str_radix(from, 16).unwrap();
        let end = u64::from_str_radix(to, 16).unwrap();
        let mut bytes = Vec::new();
        while at < end {
            // What lies across two pieces is found in the second.
            bytes.drain(..bytes.len() - bytes.len().min(longest - 1));
            let kept = bytes.len();
            bytes.resize(kept + AT_ONCE.min((end - at).try_into().unwrap()), 0);
            if let Err(error) = memory.read_exact_at(&mut bytes[kept..], at) {
                // It was given back meanwhile.
                assert!(!maps().contains(line), "{line}: {error}");
                break;
            }
            at += (bytes.len() - kept) as u64;
            if bytes == nothing[..bytes.len()] {
                continue;
            }
            for (found, one) in found.iter_mut().zip(needles) {
                *found |= has(&bytes, &one.bytes);
            }
        }
    }
    let all = needles.iter().zip(found);
    all.filter(|(_, found)| *found)
        .map(|(one, _)| one.clone())
        .collect()
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
