//! What somebody tried who means harm, or whose account was ended.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use mc_proto::{
    mcias::v1::{RevokeRequest, revoke_request::What},
    metacrypt::v1::{ListAcmeKeysRequest, SealRequest},
};
use mc_testkit::wait_for_async;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{requests::Raw, *};
use crate::world::by;

/// Well below the time after which a body that stalls is given up, or that would be what let the seal close.
const UNSTALLED: Duration = Duration::from_secs(15);

async fn revoke(acme: &Acme, what: What) {
    let mut admin = acme.ca.world.mcias.admin().await;
    let request = RevokeRequest {
        what: Some(what),
        issued_until: None,
    };
    admin.accounts.revoke(request).await.unwrap();
}

/// newAccount with a key of ours.
fn bind(raw: &Raw, made: &CreateAcmeKeyResponse) -> (u16, String) {
    let secret = BASE64URL_NOPAD.decode(made.hmac_key.as_bytes()).unwrap();
    let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let id = &made.key.as_ref().unwrap().id;
    let url = raw.url("new-account");
    let protected = text(&json!({"alg": "HS256", "kid": id, "url": url}));
    let payload = text(&raw.jwk());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let tag = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
    let signature = BASE64URL_NOPAD.encode(tag.as_ref());
    let binding = json!({"protected": protected, "payload": payload, "signature": signature});
    let payload = json!({"externalAccountBinding": binding}).to_string();
    let body = raw.sign(&raw.header("new-account"), &payload);
    raw.post("new-account", &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_mcias_ended_is_revived_by_another_key_of_its_owner() {
    let mut raw = Raw::new().await;
    let made = raw.acme.key().await;
    assert_eq!(bind(&raw, &made).0, 201);
    let mine = |raw: &Raw| {
        let payload = r#"{"onlyReturnExisting": true}"#;
        let body = raw.sign(&raw.header("new-account"), payload);
        raw.post("new-account", &body).0
    };
    assert_eq!(mine(&raw), 200);
    revoke(&raw.acme, What::Account("ada".to_owned())).await;
    wait_for_async("the account to end", async || {
        (mine(&raw) == 403).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(bind(&raw, &made).0, 403, "the same key");
    // Tokens count seconds.
    wait_for_async("another key", async || {
        raw.acme.token = raw.acme.ca.world.user().await;
        let request = CreateAcmeKeyRequest {
            mount: MOUNT.to_owned(),
            ..CreateAcmeKeyRequest::default()
        };
        let mut keys = keys(&raw.acme.ca, &raw.acme.token).await;
        let made = keys.create_acme_key(request).await.ok()?.into_inner();
        (bind(&raw, &made).0 == 200).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(mine(&raw), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_nobody_used_ends_with_the_session_that_made_it() {
    let acme = Acme::new().await;
    let made = acme.key().await;
    let payload = acme.token.split('.').nth(1).unwrap();
    let claims = BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let session = claims["sid"].as_str().unwrap().to_owned();
    revoke(&acme, What::Token(session)).await;
    wait_for_async("the session to end", async || {
        let request = ListAcmeKeysRequest {
            mount: MOUNT.to_owned(),
            after: String::new(),
        };
        let mut keys = keys(&acme.ca, &acme.token).await;
        keys.list_acme_keys(request).await.err().map(drop)
    })
    .await
    .unwrap();
    let id = made.key.unwrap().id;
    let refused = acme.create(&id, &made.hmac_key).await;
    assert_eq!(kind(refused), "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_slowly_does_not_keep_the_seal_open() {
    let acme = Acme::new().await;
    let url = acme.directory.replace("directory", "new-account");
    let mut slow = Command::new("curl")
        .args(["--verbose", "--http1.1", "--silent", "--request", "POST"])
        .args(["--header", "content-type: application/jose+json"])
        .args(["--header", "expect: 100-continue"])
        .args(["--expect100-timeout", "60", "--upload-file", "-"])
        .arg("--cacert")
        .arg(acme.ca.file("ca.pem"))
        .arg(&url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(slow.stderr.take().unwrap()).lines();
    let mut stdin = slow.stdin.take().unwrap();
    stdin.write_all(b"{").unwrap();
    // The service waits for the rest.
    assert!(lines.any(|line| line.unwrap().contains("100 Continue")));
    let token = acme.ca.world.token("admin", &acme.ca.world.mcias.password);
    let token = token.await;
    let mut client = acme.ca.world.client().await;
    let sealed = client.seal(by(&token, SealRequest {}));
    let sealed = tokio::time::timeout(UNSTALLED, sealed).await;
    slow.kill().unwrap();
    slow.wait().unwrap();
    sealed.expect("it is sealed meanwhile").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_for_the_same_are_one_however_they_are_asked_for() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let names = [dns("a.svc.example.org")];
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let account = account.clone();
        let names = names.clone();
        all.spawn(async move {
            let order = account.new_order(&NewOrder::new(&names)).await;
            order.unwrap().url().to_owned()
        });
    }
    let urls: BTreeSet<_> = all.join_all().await.into_iter().collect();
    assert_eq!(urls.len(), 1, "{urls:?}");
    let before = acme.ca.world.audit().len();
    for _ in 0..3 {
        account.new_order(&NewOrder::new(&names)).await.unwrap();
    }
    assert_eq!(acme.ca.world.audit().len(), before, "nothing was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_all_names_of_a_certificate_may_revoke_it() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let names = [dns("a.svc.example.org"), dns("b.svc.example.org")];
    let chain = acme.obtain(&account, &names, ChallengeType::Http01).await;
    let der = CertificateDer::from_pem_slice(chain.unwrap().as_bytes()).unwrap();
    let request = instant_acme::RevocationRequest {
        certificate: &der,
        reason: None,
    };
    let other = acme.account().await;
    let show = async |names: &[Identifier]| {
        let mut order = other.new_order(&NewOrder::new(names)).await.unwrap();
        acme.show(&mut order, ChallengeType::Http01).await.unwrap();
        order.poll_ready(&RetryPolicy::default()).await.unwrap();
    };
    show(&names[..1]).await;
    assert_eq!(kind(other.revoke(&request).await), "unauthorized", "one");
    show(&names).await;
    other.revoke(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirections_lead_to_networks_of_the_profile_for_names_of_the_order_alone() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let names = [dns("a.svc.example.org"), dns("b.svc.example.org")];
    for (to, wanted) in [
        ("b.svc.example.org", "none"),
        ("c.svc.example.org", "incorrectResponse"),
    ] {
        let mut order = account.new_order(&NewOrder::new(&names)).await.unwrap();
        {
            let mut all = order.authorizations();
            while let Some(one) = all.next().await {
                let mut one = one.unwrap();
                let challenge = one.challenge(ChallengeType::Http01).unwrap();
                let path = format!("/.well-known/acme-challenge/{}", challenge.token);
                if challenge.identifier().to_string() == "a.svc.example.org" {
                    let to = format!("http://{to}{path}");
                    acme.names.redirection(&challenge.token, &to);
                }
            }
        }
        // The first that fails may end the order before the second is shown.
        let shown = acme.show(&mut order, ChallengeType::Http01).await;
        assert!(wanted != "none" || shown.is_ok(), "to {to}: {shown:?}");
        let ready = order.poll_ready(&RetryPolicy::default()).await;
        assert_eq!(kind(ready), wanted, "to {to}");
        if wanted == "none" {
            order.finalize().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_the_profile_does_not_allow_are_not_looked_at() {
    let mut acme = Acme::new().await;
    let account = acme.account().await;
    acme.ca
        .put(PkiProfile {
            ip_networks: vec!["127.0.0.0/8".to_owned()],
            acme: Some(AcmeRules::default()),
            ..profile("services")
        })
        .await;
    for how in [ChallengeType::Http01, ChallengeType::TlsAlpn01] {
        for name in [dns("a.svc.example.org"), Identifier::Ip(acme.names.host)] {
            let mut order = account.new_order(&NewOrder::new(&[name])).await.unwrap();
            acme.show(&mut order, how.clone()).await.unwrap();
            let ready = order.poll_ready(&RetryPolicy::default()).await;
            // As if it were not there: who cannot ask there himself learns nothing of it.
            assert_eq!(kind(ready), "incorrectResponse", "{how:?}");
        }
    }
}
