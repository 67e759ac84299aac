//! Keys that stay here, and what others have done with them.

use mc_proto::metacrypt::v1::{
    Ciphertext, CreateDataKeyRequest, CreateKeyRequest, DecryptRequest, DeleteKeyRequest,
    EncryptRequest, ExportKeyRequest, KeyAlgorithm, ListKeysRequest, Plaintext, RandomRequest,
    RewrapRequest, RotateKeyRequest, SealRequest, SignRequest, Signed, TransitKeyEntry,
    UpdateKeyRequest, VerifyRequest,
};
use tonic::Code;

use crate::{
    policy::vault,
    world::{Clients, World, by},
};

pub(crate) const MOUNT: &str = "vault";

pub(crate) async fn create(
    admin: &mut Clients,
    name: &str,
    algorithm: KeyAlgorithm,
    exportable: bool,
) {
    let request = CreateKeyRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        algorithm: algorithm.into(),
        exportable,
        ..CreateKeyRequest::default()
    };
    let again = request.clone();
    let made = admin
        .transit
        .create_key(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((made.versions.len(), made.min_decryption_version), (1, 1));
    let refused = admin.transit.create_key(again).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
}

pub(crate) async fn encrypt(admin: &mut Clients, name: &str, plaintexts: &[&[u8]]) -> Vec<String> {
    let plaintext = |plaintext: &&[u8]| Plaintext {
        plaintext: plaintext.to_vec(),
        associated_data: b"about".to_vec(),
    };
    let request = EncryptRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        plaintexts: plaintexts.iter().map(plaintext).collect(),
    };
    let encrypted = admin.transit.encrypt(request).await.unwrap();
    encrypted.into_inner().ciphertexts
}

fn ciphertexts(all: &[String], about: &[u8]) -> Vec<Ciphertext> {
    let one = |ciphertext: &String| Ciphertext {
        ciphertext: ciphertext.clone(),
        associated_data: about.to_vec(),
    };
    all.iter().map(one).collect()
}

pub(crate) fn decrypt(name: &str, all: &[String], about: &[u8]) -> DecryptRequest {
    DecryptRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        ciphertexts: ciphertexts(all, about),
    }
}

pub(crate) async fn rotate(admin: &mut Clients, name: &str) {
    let request = RotateKeyRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
    };
    admin.transit.rotate_key(request).await.unwrap();
}

pub(crate) fn update(name: &str) -> UpdateKeyRequest {
    UpdateKeyRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        ..UpdateKeyRequest::default()
    }
}

/// A key that was used, and is known.
pub(crate) async fn exported(admin: &mut Clients) -> Vec<u8> {
    vault(admin, &[]).await;
    create(admin, "known", KeyAlgorithm::Aes256Gcm, true).await;
    encrypt(admin, "known", &[b"one"]).await;
    let request = ExportKeyRequest {
        mount: MOUNT.to_owned(),
        name: "known".to_owned(),
        version: 1,
    };
    admin
        .transit
        .export_key(request)
        .await
        .unwrap()
        .into_inner()
        .key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_version_encrypted_is_opened_until_it_may_not_be() {
    let world = World::open().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut admin = world.clients(&token).await;
    vault(&mut admin, &[]).await;
    for (name, algorithm) in [
        ("gcm", KeyAlgorithm::Aes256Gcm),
        ("xchacha", KeyAlgorithm::Xchacha20Poly1305),
        ("siv", KeyAlgorithm::Aes256Siv),
        ("hybrid", KeyAlgorithm::X25519Mlkem768),
    ] {
        create(&mut admin, name, algorithm, false).await;
        let first = encrypt(&mut admin, name, &[b"one", b"", &[3; 5000]]).await;
        assert!(
            first.iter().all(|c| c.starts_with("metacrypt:v1:")),
            "{first:?}"
        );
        rotate(&mut admin, name).await;
        let second = encrypt(&mut admin, name, &[b"two"]).await;
        assert!(second[0].starts_with("metacrypt:v2:"), "{second:?}");
        // What was written is there after the seal was closed and opened.
        world
            .client()
            .await
            .seal(by(&token, SealRequest {}))
            .await
            .unwrap();
        world.unseal().await;
        let opened = admin.transit.decrypt(decrypt(name, &first, b"about")).await;
        let opened = opened.unwrap().into_inner().plaintexts;
        let opened: Vec<_> = opened.into_iter().map(|plain| plain.plaintext).collect();
        assert_eq!(opened, [b"one".to_vec(), vec![], vec![3; 5000]]);
        let other = admin.transit.decrypt(decrypt(name, &first, b"other")).await;
        let other = other.unwrap_err();
        assert_eq!(other.code(), Code::InvalidArgument);
        assert!(other.message().contains("ciphertexts[0]"), "{other:?}");
        let rewrap = RewrapRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            ciphertexts: ciphertexts(&first, b"about"),
        };
        let rewrapped = admin.transit.rewrap(rewrap).await.unwrap().into_inner();
        let rewrapped = rewrapped.ciphertexts;
        assert!(rewrapped.iter().all(|c| c.starts_with("metacrypt:v2:")));
        let min = UpdateKeyRequest {
            min_decryption_version: Some(2),
            ..update(name)
        };
        admin.transit.update_key(min).await.unwrap();
        let old = admin.transit.decrypt(decrypt(name, &first, b"about")).await;
        let old = old.unwrap_err();
        assert!(
            old.message().contains("min_decryption_version is 2"),
            "{old:?}"
        );
        let new = admin
            .transit
            .decrypt(decrypt(name, &rewrapped, b"about"))
            .await;
        assert_eq!(new.unwrap().into_inner().plaintexts[0].plaintext, b"one");
        for min in [0, 3] {
            let min = UpdateKeyRequest {
                min_decryption_version: Some(min),
                ..update(name)
            };
            let refused = admin.transit.update_key(min).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        }
    }
    let swapped = encrypt(&mut admin, "gcm", &[b"one"]).await;
    let swapped = admin
        .transit
        .decrypt(decrypt("xchacha", &swapped, b"about"))
        .await;
    assert_eq!(swapped.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_hold_for_what_was_signed_and_openssl_agrees() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &[]).await;
    for (name, algorithm, verified) in [
        ("ed25519", KeyAlgorithm::Ed25519, Some("-rawin")),
        ("p256", KeyAlgorithm::EcdsaP256, Some("sha256")),
        ("p384", KeyAlgorithm::EcdsaP384, Some("sha384")),
        ("hmac", KeyAlgorithm::HmacSha256, None),
    ] {
        create(&mut admin, name, algorithm, false).await;
        let sign = SignRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            messages: vec![b"one".to_vec(), b"two".to_vec()],
        };
        let signed = admin
            .transit
            .sign(sign)
            .await
            .unwrap()
            .into_inner()
            .signatures;
        let pair = |message: &[u8], signature: &String| Signed {
            message: message.to_vec(),
            signature: signature.clone(),
        };
        let verify = VerifyRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            signed: vec![
                pair(b"one", &signed[0]),
                pair(b"two", &signed[1]),
                pair(b"two", &signed[0]),
                pair(b"one", &"metacrypt:v7:AAAA".to_owned()),
            ],
        };
        let valid = admin
            .transit
            .verify(verify)
            .await
            .unwrap()
            .into_inner()
            .valid;
        assert_eq!(valid, [true, true, false, false], "{name}");
        let encrypts = EncryptRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            plaintexts: vec![Plaintext::default()],
        };
        let refused = admin.transit.encrypt(encrypts).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let request = mc_proto::metacrypt::v1::GetKeyRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
        };
        let key = admin.transit.get_key(request).await.unwrap().into_inner();
        let public = &key.versions[0].public_key;
        match verified {
            None => assert_eq!(public, ""),
            Some(how) => openssl(public, how, b"one", &signed[0]),
        }
    }
}

/// A stranger with the public key alone finds the signature good.
fn openssl(public: &str, how: &str, message: &[u8], signature: &str) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (_, base64) = signature.rsplit_once(':').unwrap();
    let bytes = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    for (name, bytes) in [
        ("key", public.as_bytes()),
        ("message", message),
        ("signature", &bytes),
    ] {
        std::fs::write(at(name), bytes).unwrap();
    }
    let mut command = std::process::Command::new("openssl");
    command
        .args(["pkeyutl", "-verify", "-pubin", "-inkey"])
        .arg(at("key"));
    command
        .arg("-in")
        .arg(at("message"))
        .arg("-sigfile")
        .arg(at("signature"));
    match how {
        "-rawin" => command.arg("-rawin"),
        digest => command.args(["-rawin", "-digest", digest]),
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_leave_and_go_only_if_they_may() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["stays"]).await;
    create(&mut admin, "leaves", KeyAlgorithm::Aes256Gcm, true).await;
    let export = |name: &str, version| ExportKeyRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        version,
    };
    let refused = admin
        .transit
        .export_key(export("stays", 0))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let key = admin.transit.export_key(export("leaves", 0)).await.unwrap();
    assert_eq!(key.into_inner().key.len(), 32);
    let none = admin
        .transit
        .export_key(export("leaves", 2))
        .await
        .unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    let delete = || DeleteKeyRequest {
        mount: MOUNT.to_owned(),
        name: "stays".to_owned(),
    };
    let ciphertexts = encrypt(&mut admin, "stays", &[b"one"]).await;
    let refused = admin.transit.delete_key(delete()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let deletable = UpdateKeyRequest {
        deletable: Some(true),
        ..update("stays")
    };
    admin.transit.update_key(deletable).await.unwrap();
    admin.transit.delete_key(delete()).await.unwrap();
    let gone = admin
        .transit
        .decrypt(decrypt("stays", &ciphertexts, b"about"))
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    let data = |length, only_ciphertext| CreateDataKeyRequest {
        mount: MOUNT.to_owned(),
        name: "leaves".to_owned(),
        length,
        associated_data: b"about".to_vec(),
        only_ciphertext,
    };
    let made = admin
        .transit
        .create_data_key(data(0, false))
        .await
        .unwrap()
        .into_inner();
    let opened = decrypt("leaves", &[made.ciphertext], b"about");
    let opened = admin.transit.decrypt(opened).await.unwrap().into_inner();
    assert_eq!(opened.plaintexts[0].plaintext, made.plaintext);
    let made = admin
        .transit
        .create_data_key(data(64, true))
        .await
        .unwrap()
        .into_inner();
    assert!(made.plaintext.is_empty() && !made.ciphertext.is_empty());
    let refused = admin
        .transit
        .create_data_key(data(65, false))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let random = |length| RandomRequest {
        mount: MOUNT.to_owned(),
        length,
    };
    let bytes = admin
        .transit
        .random(random(0))
        .await
        .unwrap()
        .into_inner()
        .bytes;
    assert_eq!(bytes.len(), 32);
    let refused = admin.transit.random(random(4097)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotating_while_others_encrypt_loses_nothing() {
    let world = World::open().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut admin = world.clients(&token).await;
    vault(&mut admin, &["busy"]).await;
    let busy = (0..4).map(|_| async {
        let mut client = world.clients(&token).await;
        let mut made = Vec::new();
        for _ in 0..20 {
            made.extend(encrypt(&mut client, "busy", &[b"one", b"two"]).await);
        }
        made
    });
    let rotating = async {
        for _ in 0..10 {
            rotate(&mut admin, "busy").await;
        }
    };
    let (made, ()) = tokio::join!(futures_util::future::join_all(busy), rotating);
    let made: Vec<String> = made.into_iter().flatten().collect();
    let mut admin = world.clients(&token).await;
    let opened = admin
        .transit
        .decrypt(decrypt("busy", &made, b"about"))
        .await;
    let opened = opened.unwrap().into_inner().plaintexts;
    assert_eq!(opened.len(), made.len());
    assert!(opened.chunks(2).all(|two| two[0].plaintext == b"one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_rest_says_the_same() {
    let world = World::open().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut admin = world.clients(&token).await;
    vault(&mut admin, &["a", "b", "c"]).await;
    rotate(&mut admin, "b").await;
    let mut after = String::new();
    let mut entries = Vec::new();
    loop {
        let request = ListKeysRequest {
            mount: MOUNT.to_owned(),
            after,
            limit: 2,
        };
        let page = admin.transit.list_keys(request).await.unwrap().into_inner();
        entries.extend(page.keys);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    let told = |entry: &TransitKeyEntry| (entry.name.clone(), entry.newest_version);
    let told: Vec<_> = entries.iter().map(told).collect();
    let wanted = [("a", 1), ("b", 2), ("c", 1)].map(|(name, newest)| (name.to_owned(), newest));
    assert_eq!(told, wanted);
    assert!(entries.iter().all(|entry| entry.created.is_some()));
    assert_eq!(entries[0].algorithm(), KeyAlgorithm::Aes256Gcm);
    let body = r#"{"plaintexts":[{"plaintext":"aGVsbG8="}]}"#;
    let (status, said) = world.post(&token, "/v1/transit/vault/keys/a/encrypt", body);
    assert_eq!(status, 200, "{said}");
    let start = said.find("metacrypt:v1:").unwrap();
    let ciphertext = said[start..].split('"').next().unwrap();
    let opened = decrypt("a", &[ciphertext.to_owned()], b"");
    let opened = admin.transit.decrypt(opened).await.unwrap().into_inner();
    assert_eq!(opened.plaintexts[0].plaintext, b"hello");
    for (description, body, said) in [
        ("no entry", r#"{"plaintexts":[]}"#, "plaintexts: 1 to 1024"),
        (
            "no base64",
            r#"{"plaintexts":[{"plaintext":"*"}]}"#,
            "plaintext",
        ),
    ] {
        let (status, text) = world.post(&token, "/v1/transit/vault/keys/a/encrypt", body);
        assert_eq!(status, 400, "{description}: {text}");
        assert!(text.contains(said), "{description}: {text}");
    }
}
