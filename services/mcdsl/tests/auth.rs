//! A service's side of MCIAS, against an MCIAS of the test's: what is known live, what is asked, and what is refused when nobody answers.

#[path = "auth/world.rs"]
mod world;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use mc_testkit::{ca::Ca, clock::FakeClock, wait_for_async};
use mcdsl::{
    auth::{
        AuthError, Authenticator as _,
        client::{Client, ClientError, Config},
        token::Signer,
    },
    clock::Clock,
    shutdown::Shutdown,
};

use crate::world::{World, claims, write_token};

#[tokio::test]
async fn a_revoked_token_is_refused_as_it_happens_and_nobody_is_asked() {
    let world = World::new().await;
    let signer = world.mcias.key("k1");
    world.mcias.revoke("before");
    world.live(true).await;
    let token = |id| signer.sign(&claims("ada", id)).unwrap();
    let good = token("t1");
    assert_eq!(world.client.authenticate(&good).await.unwrap().name, "ada");
    let refused = Err(AuthError::Invalid("revoked"));
    world.mcias.revoke("t1");
    let is = async || (world.client.authenticate(&good).await == refused).then_some(());
    wait_for_async("the revocation", is).await.unwrap();
    assert_eq!(
        world.client.authenticate(&token("before")).await,
        refused,
        "revoked before the stream began"
    );
    assert!(world.client.authenticate(&token("t2")).await.is_ok());
    assert_eq!(
        world.mcias.checks.load(Relaxed),
        0,
        "no token was asked for"
    );
}

#[tokio::test]
async fn tokens_and_silence_are_judged_by_the_services_clock() {
    let clock = FakeClock::new();
    let world = World::by(Clock::of(clock.source())).await;
    let signer = world.mcias.key("k1");
    let token = signer.sign(&claims("ada", "t1")).unwrap();
    world.live(true).await;
    assert!(world.client.authenticate(&token).await.is_ok());
    assert_eq!(world.mcias.checks.load(Relaxed), 0);
    // The stream says nothing for so long.
    clock.advance(Duration::from_secs(26));
    assert!(world.client.authenticate(&token).await.is_ok());
    assert_eq!(world.mcias.checks.load(Relaxed), 1, "it is asked for");
    for (description, token, by) in [
        ("over", &token, 2 * 3600),
        ("of yesterday", &token, 24 * 3600),
    ] {
        clock.set_ahead(Duration::from_secs(by));
        let refused = world.client.authenticate(token).await;
        assert_eq!(refused, Err(AuthError::Invalid("expired")), "{description}");
        clock.set_back(Duration::from_secs(by));
    }
    clock.set_back(Duration::from_secs(60));
    assert_eq!(
        world.client.authenticate(&token).await,
        Err(AuthError::Invalid("not valid yet")),
        "of the future"
    );
}

#[tokio::test]
async fn without_the_stream_each_token_is_asked_for_once() {
    let world = World::new().await;
    *world.mcias.mute.lock().unwrap() = true;
    // Its end: a listener that misses events is cut.
    world.live(false).await;
    let signer = world.mcias.key("k1");
    world.mcias.revoked.lock().unwrap().push("t2".to_owned());
    let token = |id| signer.sign(&claims("ada", id)).unwrap();
    let stopped = async || (!world.client.is_live()).then_some(());
    wait_for_async("no stream", stopped).await.unwrap();
    for _ in 0..3 {
        assert!(world.client.authenticate(&token("t1")).await.is_ok());
        assert_eq!(
            world.client.authenticate(&token("t2")).await,
            Err(AuthError::Invalid("revoked"))
        );
    }
    assert_eq!(
        world.mcias.checks.load(Relaxed),
        2,
        "once each: the same token is the same text"
    );
}

#[tokio::test]
async fn an_account_is_asked_for_once_until_something_is_revoked() {
    let clock = FakeClock::new();
    let world = World::by(Clock::of(clock.source())).await;
    world.live(true).await;
    let is_active = async |id| world.client.is_active(id).await;
    let checks = || world.mcias.checks.load(Relaxed);
    assert_eq!(is_active("1").await, Ok(true));
    world.mcias.disabled.lock().unwrap().push("1".to_owned());
    assert_eq!((is_active("1").await, checks()), (Ok(true), 1), "as told");
    assert_eq!(is_active("2").await, Ok(true), "another");
    world.mcias.revoke("t1");
    let is = async || (is_active("1").await == Ok(false)).then_some(());
    wait_for_async("the account", is).await.unwrap();
    world.mcias.disabled.lock().unwrap().clear();
    assert_eq!(is_active("1").await, Ok(false), "as told");
    clock.advance(Duration::from_secs(31));
    assert_eq!(is_active("1").await, Ok(true), "after a while");
    // Nobody answers any more, once connections have ended.
    world.server.token().cancel();
    let nobody = async || {
        clock.advance(Duration::from_secs(31));
        matches!(is_active("1").await, Err(AuthError::Unavailable(_))).then_some(())
    };
    wait_for_async("nobody to ask", nobody).await.unwrap();
}

#[tokio::test]
async fn what_was_revoked_stays_so_when_the_stream_is_cut() {
    let world = World::new().await;
    let signer = world.mcias.key("k1");
    world.live(true).await;
    let token = signer.sign(&claims("ada", "t1")).unwrap();
    assert!(world.client.authenticate(&token).await.is_ok());
    world.mcias.revoke("t1");
    let refused = Err(AuthError::Invalid("revoked"));
    let is = async || (world.client.authenticate(&token).await == refused).then_some(());
    wait_for_async("the revocation", is).await.unwrap();
    // Nobody answers any more, and it need not be asked for.
    world.server.token().cancel();
    world.live(false).await;
    assert_eq!(world.client.authenticate(&token).await, refused);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_signs() {
    let world = World::new().await;
    let before = world.mcias.key("k1");
    let before = before.sign(&claims("ada", "t0")).unwrap();
    world.live(true).await;
    assert!(world.client.authenticate(&before).await.is_ok());
    let signer = world.mcias.key("k2");
    world.mcias.keys.lock().unwrap().remove("k1");
    let token = signer.sign(&claims("ada", "t1")).unwrap();
    let accepted = async || world.client.authenticate(&token).await.ok();
    wait_for_async("the new key", accepted).await.unwrap();
    assert_eq!(
        world.client.authenticate(&before).await,
        Err(AuthError::Invalid("an unknown key")),
        "it was taken before, by a key that is gone"
    );
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let taken = world.client.authenticate(&changed).await;
        assert!(taken.is_err(), "character {at} of {changed}");
    }
    let stranger = Signer::new(
        "k3".to_owned(),
        Ed25519KeyPair::generate()
            .unwrap()
            .to_pkcs8v1()
            .unwrap()
            .as_ref(),
    );
    let foreign = stranger.sign(&claims("ada", "t1")).unwrap();
    let refused = world.client.authenticate(&foreign).await;
    assert_eq!(refused, Err(AuthError::Invalid("an unknown key")));
    let imitated = Signer::new(
        "k2".to_owned(),
        Ed25519KeyPair::generate()
            .unwrap()
            .to_pkcs8v1()
            .unwrap()
            .as_ref(),
    );
    let forged = imitated.sign(&claims("ada", "t1")).unwrap();
    assert!(matches!(
        world.client.authenticate(&forged).await,
        Err(AuthError::Invalid(_))
    ));
}

#[tokio::test]
async fn what_cannot_be_found_out_is_refused() {
    let world = World::new().await;
    let signer = world.mcias.key("k1");
    world.live(true).await;
    let token = signer.sign(&claims("ada", "t1")).unwrap();
    assert!(world.client.authenticate(&token).await.is_ok());
    *world.mcias.mute.lock().unwrap() = true;
    world.server.token().cancel();
    let refused = async || {
        matches!(
            world.client.authenticate(&token).await,
            Err(AuthError::Unavailable(_))
        )
        .then_some(())
    };
    wait_for_async("no MCIAS", refused).await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_rotated_is_taken_without_a_restart() {
    let world = World::new().await;
    let signer = world.mcias.key("k1");
    world.live(true).await;
    "next".clone_into(&mut world.mcias.own.lock().unwrap());
    write_token(world.directory.path(), "next");
    // Ends the stream: more than a listener may be behind.
    for event in 0..100 {
        world.mcias.revoke(&format!("t{event}"));
    }
    let again = async || (world.mcias.streams.load(Relaxed) > 1).then_some(());
    wait_for_async("another stream", again).await.unwrap();
    world.live(true).await;
    let token = signer.sign(&claims("ada", "good")).unwrap();
    assert!(world.client.authenticate(&token).await.is_ok());
}

#[tokio::test]
async fn what_it_asks_with_and_whom_is_looked_at_first() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let token_file = write_token(directory.path(), "own");
    let ca_cert = directory.path().join("ca.pem");
    std::fs::write(&ca_cert, Ca::new().unwrap().pem()).unwrap();
    for (description, server_url, mode, said) in [
        ("all is well", "https://localhost:1", 0o600, None),
        (
            "the group may read the token",
            "https://localhost:1",
            0o640,
            None,
        ),
        (
            "others may read the token",
            "https://localhost:1",
            0o644,
            Some("token_file: others have access"),
        ),
        (
            "no TLS",
            "http://localhost:1",
            0o600,
            Some("server_url: \"http://localhost:1\" is no server"),
        ),
        ("the usual port", "https://localhost", 0o600, None),
    ] {
        std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = Config {
            server_url: server_url.to_owned(),
            ca_cert: ca_cert.clone(),
            service_name: "notes".to_owned(),
            token_file: token_file.clone(),
        };
        let error = Client::new(&config, Clock::default())
            .err()
            .map(|e: ClientError| e.to_string());
        assert_eq!(error.is_some(), said.is_some(), "{description}: {error:?}");
        let error = error.unwrap_or_default();
        assert!(error.contains(said.unwrap_or_default()), "{error}");
    }
}

#[tokio::test]
async fn mcias_is_offered_tls_1_3_alone() {
    use rustls::{
        Error as Tls, PeerIncompatible, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        version::TLS12,
    };
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new().unwrap();
    let ca_cert = directory.path().join("ca.pem");
    std::fs::write(&ca_cert, ca.pem()).unwrap();
    let leaf = ca.issue(&["localhost"]).unwrap();
    let chain = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        server_url: format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        ),
        ca_cert,
        service_name: "notes".to_owned(),
        token_file: write_token(directory.path(), "own"),
    };
    let client = Client::new(&config, Clock::default()).unwrap();
    let watcher = Shutdown::new();
    watcher.spawn("revocations", client.watch(watcher.token().clone()));
    let (tcp, _) = listener.accept().await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let error = acceptor.accept(tcp).await.expect_err("TLS 1.2 was offered");
    let error = error.get_ref().and_then(|e| e.downcast_ref::<Tls>());
    assert!(
        matches!(
            error,
            Some(Tls::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled
            ))
        ),
        "{error:?}"
    );
    watcher.token().cancel();
}
