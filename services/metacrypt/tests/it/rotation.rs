//! Versions of keys, who may have which data key, and what the log says of it.

use std::time::Duration;

use mc_proto::metacrypt::v1::{
    CreateDataKeyRequest, CreateKeyRequest, DecryptRequest, EncryptRequest, GetKeyRequest,
    KeyAlgorithm, ListKeysRequest, Plaintext, SignRequest, TransitKey, TrimKeyRequest,
    UpdateKeyRequest,
};
use mc_testkit::clock::FakeClock;
use tonic::Code;

use crate::{
    policy::{allow, put, vault},
    transit::{MOUNT, create, decrypt, encrypt, rotate, update},
    world::{Clients, World},
};

async fn get(clients: &mut Clients, name: &str) -> TransitKey {
    let request = GetKeyRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
    };
    clients.transit.get_key(request).await.unwrap().into_inner()
}

fn numbers(key: &TransitKey) -> Vec<u32> {
    key.versions.iter().map(|version| version.version).collect()
}

/// Details of the rows of a method on a key.
fn details(world: &World, method: &str, name: &str) -> Vec<serde_json::Value> {
    let rows = world.audit().into_iter();
    let of = rows.filter(|(action, on, _, _)| {
        action.ends_with(&format!("/{method}")) && *on == format!("{MOUNT}/keys/{name}")
    });
    of.map(|(_, _, _, detail)| serde_json::from_str(&detail).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotates_itself_when_it_is_old_and_the_log_says_so() {
    let world = World::new().await;
    world.seal(false).await;
    let clock = FakeClock::new();
    let _running = world.start_at(&clock).await;
    world.unseal().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &[]).await;
    for (name, algorithm) in [
        ("gcm", KeyAlgorithm::Aes256Gcm),
        ("hybrid", KeyAlgorithm::X25519Mlkem768),
    ] {
        let request = CreateKeyRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            algorithm: algorithm.into(),
            rotate_after_s: 60,
            ..CreateKeyRequest::default()
        };
        admin.transit.create_key(request).await.unwrap();
        let first = encrypt(&mut admin, name, &[b"one", b"two"]).await;
        clock.advance(Duration::from_secs(59));
        let still = encrypt(&mut admin, name, &[b"one"]).await;
        assert!(still[0].starts_with("metacrypt:v1:"), "{still:?}");
        clock.advance(Duration::from_secs(1));
        let second = encrypt(&mut admin, name, &[b"one"]).await;
        assert!(second[0].starts_with("metacrypt:v2:"), "{second:?}");
        let both = [&first[..], &second[..]].concat();
        let opened = admin.transit.decrypt(decrypt(name, &both, b"about")).await;
        assert_eq!(opened.unwrap().into_inner().plaintexts.len(), 3);
        let key = get(&mut admin, name).await;
        assert_eq!(numbers(&key), [1, 2]);
        assert!(!key.cannot_rotate);
        let of = details(&world, "Encrypt", name);
        let told: Vec<_> = of
            .iter()
            .map(|detail| {
                (
                    detail["entries"].as_i64(),
                    detail["version"].as_i64(),
                    detail["rotated_because_of"].as_str(),
                )
            })
            .collect();
        let wanted = [
            (Some(2), Some(1), None),
            (Some(1), Some(1), None),
            (None, Some(2), Some("age")),
            (Some(1), Some(2), None),
        ];
        assert_eq!(told, wanted, "{of:?}");
        let decrypted = details(&world, "Decrypt", name);
        assert_eq!(decrypted[0]["versions"], serde_json::json!(["1", "2"]));
        rotate(&mut admin, name).await;
        let rotated = &details(&world, "RotateKey", name)[0];
        assert_eq!(rotated["version"], 3);
        assert_eq!(rotated["rotated_because_of"], "request");
    }
    create(&mut admin, "sign", KeyAlgorithm::Ed25519, false).await;
    let request = SignRequest {
        mount: MOUNT.to_owned(),
        name: "sign".to_owned(),
        messages: vec![b"one".to_vec(); 5],
    };
    admin.transit.sign(request).await.unwrap();
    let signed = &details(&world, "Sign", "sign")[0];
    assert_eq!(
        (&signed["entries"], &signed["version"]),
        (&5.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_are_not_used_any_more_can_be_removed() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["key"]).await;
    let first = encrypt(&mut admin, "key", &[b"one"]).await;
    for _ in 0..3 {
        rotate(&mut admin, "key").await;
    }
    let trim = |below| TrimKeyRequest {
        mount: MOUNT.to_owned(),
        name: "key".to_owned(),
        below,
    };
    for below in [0, 2, 5] {
        let refused = admin.transit.trim_key(trim(below)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{below}");
        let said = refused.message();
        assert!(said.starts_with("below: 1 to 1"), "{said}");
    }
    let min = |min| UpdateKeyRequest {
        min_decryption_version: Some(min),
        ..update("key")
    };
    admin.transit.update_key(min(3)).await.unwrap();
    let trimmed = admin.transit.trim_key(trim(3)).await.unwrap();
    assert_eq!(numbers(&trimmed.into_inner()), [3, 4]);
    let refused = admin.transit.update_key(min(1)).await.unwrap_err();
    assert!(refused.message().contains("3 to 4"), "{refused:?}");
    let gone = admin
        .transit
        .decrypt(decrypt("key", &first, b"about"))
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        details(&world, "TrimKey", "key").last().unwrap()["below"],
        3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_have_a_wrapped_data_key_may_not_have_it_in_the_clear() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut ada = world.clients(&world.user().await).await;
    vault(&mut admin, &["wrapped", "clear"]).await;
    for (name, action) in [
        ("wrapped", "transit:datakey-wrapped"),
        ("clear", "transit:datakey"),
    ] {
        let on = format!("{MOUNT}/keys/{name}");
        put(&mut admin, allow(name, &[action], &[&on])).await;
        for only_ciphertext in [true, false] {
            let request = CreateDataKeyRequest {
                mount: MOUNT.to_owned(),
                name: name.to_owned(),
                only_ciphertext,
                ..CreateDataKeyRequest::default()
            };
            let made = ada.transit.create_data_key(request).await;
            if only_ciphertext == (name == "wrapped") {
                let made = made.unwrap().into_inner();
                assert_eq!(made.plaintext.is_empty(), only_ciphertext);
            } else {
                assert_eq!(made.unwrap_err().code(), Code::PermissionDenied, "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_plaintext_is_told_apart_by_what_it_belongs_to() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &[]).await;
    create(&mut admin, "siv", KeyAlgorithm::Aes256Siv, false).await;
    let again = encrypt(&mut admin, "siv", &[b"one", b"one", b"two"]).await;
    assert!(again[0] == again[1] && again[0] != again[2], "{again:?}");
    let plaintexts = |abouts: &[&[u8]]| EncryptRequest {
        mount: MOUNT.to_owned(),
        name: "siv".to_owned(),
        plaintexts: abouts
            .iter()
            .map(|about| Plaintext {
                plaintext: b"one".to_vec(),
                associated_data: about.to_vec(),
            })
            .collect(),
    };
    let other = admin.transit.encrypt(plaintexts(&[b"other"])).await;
    assert_ne!(other.unwrap().into_inner().ciphertexts[0], again[0]);
    let refused = admin.transit.encrypt(plaintexts(&[b"a", b""])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let said = refused.message();
    assert!(said.starts_with("plaintexts[1].associated_data:"), "{said}");
    let request = CreateDataKeyRequest {
        mount: MOUNT.to_owned(),
        name: "siv".to_owned(),
        ..CreateDataKeyRequest::default()
    };
    let refused = admin.transit.create_data_key(request).await.unwrap_err();
    let said = refused.message();
    assert!(said.starts_with("associated_data:"), "{said}");
}

/// As whoever has the public key alone does it, by another implementation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_wrapped_elsewhere_is_opened() {
    use hpke::{
        Deserializable as _, OpModeS, Serializable as _, aead::AesGcm256, kdf::HkdfSha256,
        kem::XWing, single_shot_seal,
    };
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &[]).await;
    create(&mut admin, "hybrid", KeyAlgorithm::X25519Mlkem768, false).await;
    rotate(&mut admin, "hybrid").await;
    let key = get(&mut admin, "hybrid").await;
    let pem = &key.versions[1].public_key;
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    let public = &der[der.len() - 1216..];
    let public = <XWing as hpke::Kem>::PublicKey::from_bytes(public).unwrap();
    let (enc, sealed) = single_shot_seal::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        b"metacrypt transit",
        b"a key",
        b"about",
    )
    .unwrap();
    let both = [&enc.to_bytes()[..], &sealed].concat();
    let text = data_encoding::BASE64.encode(&both);
    for (version, opens) in [(2, true), (1, false)] {
        let written = format!("metacrypt:v{version}:{text}");
        let request: DecryptRequest = decrypt("hybrid", &[written], b"about");
        let opened = admin.transit.decrypt(request).await;
        let opened = opened.ok().map(|opened| opened.into_inner().plaintexts);
        let plaintext = opened.map(|all| all[0].plaintext.clone());
        assert_eq!(plaintext, opens.then(|| b"a key".to_vec()), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_does_not_tell_which_mounts_there_are() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut ada = world.clients(&world.user().await).await;
    vault(&mut admin, &["key"]).await;
    let list = |mount: &str| ListKeysRequest {
        mount: mount.to_owned(),
        ..ListKeysRequest::default()
    };
    let there = ada.transit.list_keys(list(MOUNT)).await.unwrap();
    let there = there.into_inner();
    assert!(there.keys.is_empty() && there.next.is_empty());
    for mount in ["nothing", "system"] {
        let got = ada.transit.list_keys(list(mount)).await.unwrap();
        assert_eq!(got.into_inner(), there, "{mount}");
        let none = admin.transit.list_keys(list(mount)).await.unwrap_err();
        assert_eq!(none.code(), Code::NotFound, "{mount}");
    }
    let request = ListKeysRequest {
        after: "key".to_owned(),
        ..list(MOUNT)
    };
    let refused = admin.transit.list_keys(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("after:"), "{refused:?}");
}
