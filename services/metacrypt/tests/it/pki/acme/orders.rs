//! Orders: what comes of them, and what is refused.

use instant_acme::ChallengeStatus;
use mc_proto::{
    mcias::v1::{RevokeRequest, revoke_request::What},
    metacrypt::v1::{DeleteAcmeKeyRequest, ListAcmeKeysRequest},
};
use mc_testkit::wait_for_async;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_cert::{der::Decode as _, ext::pkix::AuthorityKeyIdentifier};

use super::{requests::Raw, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_obtained_in_every_way_renewed_and_revoked() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let host = acme.names.host;
    use ChallengeType::{Dns01, Http01, TlsAlpn01};
    let mut last = String::new();
    for (description, names, how) in [
        ("a file", vec![dns("a.svc.example.org")], Http01),
        ("a certificate", vec![dns("b.svc.example.org")], TlsAlpn01),
        (
            "texts",
            vec![dns("c.svc.example.org"), dns("*.c.svc.example.org")],
            Dns01,
        ),
        ("an address by a file", vec![Identifier::Ip(host)], Http01),
        (
            "an address by a certificate",
            vec![Identifier::Ip(host)],
            TlsAlpn01,
        ),
    ] {
        let chain = acme.obtain(&account, &names, how).await;
        let chain = chain.unwrap_or_else(|e| panic!("{description}: {e:?}"));
        let count = chain.matches("BEGIN CERTIFICATE").count();
        assert_eq!(count, 2, "{description}: {chain}");
        last = chain;
    }
    let der = CertificateDer::from_pem_slice(last.as_bytes()).unwrap();
    let request = instant_acme::RevocationRequest {
        certificate: &der,
        reason: Some(instant_acme::RevocationReason::Superseded),
    };
    let other = acme.account().await;
    assert_eq!(kind(other.revoke(&request).await), "unauthorized");
    let (one, other) = tokio::join!(account.revoke(&request), account.revoke(&request));
    let (done, refused) = match one {
        Ok(()) => (Ok(()), other),
        refused => (other, refused),
    };
    done.unwrap();
    assert_eq!(kind(refused), "alreadyRevoked", "of two at once");
    assert_eq!(kind(account.revoke(&request).await), "alreadyRevoked");
    let rows = acme.ca.world.audit();
    for (action, count) in [
        ("acme.new-account", 2),
        ("acme.new-order", 5),
        ("acme.finalize", 5),
        ("acme.revoke-cert", 4),
    ] {
        let found = rows.iter().filter(|row| row.0 == action).count();
        assert_eq!(found, count, "{action}: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_bound_by_a_key_that_is_used_once() {
    let acme = Acme::new().await;
    let made = acme.key().await;
    let id = made.key.unwrap().id;
    assert_eq!(kind(acme.bind(None).await), "externalAccountRequired");
    let other = acme.key().await;
    assert_eq!(
        kind(acme.create(&id, &other.hmac_key).await),
        "unauthorized"
    );
    assert_eq!(
        kind(acme.create("none", &made.hmac_key).await),
        "unauthorized"
    );
    let (mut account, _) = acme.create(&id, &made.hmac_key).await.unwrap();
    assert_eq!(
        kind(acme.create(&id, &made.hmac_key).await),
        "unauthorized",
        "twice"
    );
    drop(account.update_key().await.unwrap());
    account
        .update_contacts(&["mailto:other@example.org"])
        .await
        .unwrap();
    assert_eq!(
        kind(account.update_contacts(&["tel:1"]).await),
        "unsupportedContact"
    );
    let mut keys = keys(&acme.ca, &acme.token).await;
    let request = ListAcmeKeysRequest {
        mount: MOUNT.to_owned(),
        after: String::new(),
    };
    let listed = keys
        .list_acme_keys(request)
        .await
        .unwrap()
        .into_inner()
        .keys;
    assert_eq!(listed.len(), 2);
    let used: Vec<_> = listed.iter().filter(|key| key.acme_account_valid).collect();
    assert!(used.len() == 1 && used[0].id == id, "{listed:?}");
    // Its end is the account's.
    let request = DeleteAcmeKeyRequest {
        mount: MOUNT.to_owned(),
        id,
    };
    keys.delete_acme_key(request).await.unwrap();
    let names = [dns("a.svc.example.org")];
    let refused = account.new_order(&NewOrder::new(&names)).await;
    assert_eq!(kind(refused), "accountDoesNotExist");
    let ended = acme.account().await;
    let again = ended.clone();
    ended.deactivate().await.unwrap();
    let refused = again.new_order(&NewOrder::new(&names)).await;
    assert_eq!(kind(refused), "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_issued_is_not_ordered() {
    let mut acme = Acme::new().await;
    let account = acme.account().await;
    for (description, name, wanted) in [
        ("another name", dns("example.com"), "rejectedIdentifier"),
        ("no name", dns("a_b.svc.example.org"), "rejectedIdentifier"),
        (
            "a wildcard of an exact one",
            dns("*.example.org"),
            "rejectedIdentifier",
        ),
        ("an address as a name", dns("127.0.0.1"), "malformed"),
        (
            "another network",
            Identifier::Ip([10, 0, 0, 1].into()),
            "rejectedIdentifier",
        ),
    ] {
        let names = [dns("example.org"), name];
        let refused = account.new_order(&NewOrder::new(&names)).await;
        assert_eq!(kind(refused), wanted, "{description}");
    }
    let names = [dns("example.org")];
    let refused = account
        .new_order(&NewOrder::new(&names).profile("none"))
        .await;
    assert_eq!(kind(refused), "invalidProfile");
    let mut order = account
        .new_order(&NewOrder::new(&names).profile("web"))
        .await
        .unwrap();
    let same = account.new_order(&NewOrder::new(&names)).await.unwrap();
    assert_eq!(same.url(), order.url(), "what is open is not made twice");
    let other = acme.account().await;
    let theirs = other.order(order.url().to_owned()).await;
    assert_eq!(kind(theirs), "malformed", "another's order");
    assert_eq!(kind(order.finalize().await), "orderNotReady");
    // Nobody shows it: the file is not there.
    let mut all = order.authorizations();
    let mut one = all.next().await.unwrap().unwrap();
    one.challenge(ChallengeType::Http01)
        .unwrap()
        .set_ready()
        .await
        .unwrap();
    let failed = order.poll_ready(&RetryPolicy::default()).await;
    assert_eq!(kind(failed), "incorrectResponse");
    // The policy is asked again when it is finalized.
    let mut order = account.new_order(&NewOrder::new(&names)).await.unwrap();
    acme.show(&mut order, ChallengeType::Http01).await.unwrap();
    order.poll_ready(&RetryPolicy::default()).await.unwrap();
    // What its common name says is one of its names (RFC 8555 §7.4).
    let mut params = rcgen::CertificateParams::new(["example.org".to_owned()]).unwrap();
    let common = rcgen::DnType::CommonName;
    params.distinguished_name.push(common, "www.example.org");
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = params.serialize_request(&key).unwrap();
    assert_eq!(kind(order.finalize_csr(csr.der()).await), "badCSR");
    acme.allow(&["pki:read"], "ca/profiles/web").await;
    assert_eq!(kind(order.finalize().await), "unauthorized");
    let refused = account.new_order(&NewOrder::new(&names)).await;
    assert_eq!(kind(refused), "unauthorized");
}

/// Killed while it looks at what shows a name: nobody says again that he is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_goes_on_after_a_restart() {
    let mut raw = Raw::new().await;
    let account = raw.acme.account().await;
    let (looked_at, open) = ([dns("a.svc.example.org")], [dns("b.svc.example.org")]);
    let mut looked_at = account.new_order(&NewOrder::new(&looked_at)).await.unwrap();
    let mut open = account.new_order(&NewOrder::new(&open)).await.unwrap();
    let payload = r#"{"onlyReturnExisting": true}"#;
    let mine = || raw.sign(&raw.header("new-account"), payload);
    let (used, unused) = (mine(), mine());
    let known = (400, "accountDoesNotExist".to_owned());
    assert_eq!(raw.post("new-account", &used), known);
    let hold = raw.acme.names.hold();
    let shown = raw.acme.show(&mut looked_at, ChallengeType::Http01).await;
    shown.unwrap();
    // One is for those who come.
    wait_for_async("it to be looked at", async || {
        (hold.receiver_count() > 1).then_some(())
    })
    .await
    .unwrap();
    let mut same = account.order(looked_at.url().to_owned()).await.unwrap();
    let mut all = same.authorizations();
    let mut one = all.next().await.unwrap().unwrap();
    let challenge = one.challenge(ChallengeType::Http01).unwrap();
    assert_eq!(challenge.status, ChallengeStatus::Processing);
    let world = &mut raw.acme.ca.world;
    world.metacrypt.take().unwrap().kill9().unwrap();
    drop(hold);
    world.start();
    world.unseal().await;
    let chain = raw.acme.finish(&mut looked_at).await.unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    let shown = raw.acme.show(&mut open, ChallengeType::Http01).await;
    shown.unwrap();
    let chain = raw.acme.finish(&mut open).await.unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(raw.post("new-account", &used).1, "badNonce", "it was used");
    assert_eq!(raw.post("new-account", &unused), known, "it was not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_nonces_cost_no_order() {
    let acme = Acme::reached(Through::SpentNonces).await;
    let account = acme.account().await;
    for n in 0..10 {
        let names = [dns(&format!("n{n}.svc.example.org"))];
        let chain = acme.obtain(&account, &names, ChallengeType::Http01).await;
        assert_eq!(chain.unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    }
    assert!(acme.spent.unwrap().refused() > 0);
}

/// What a certificate is named by (RFC 9773 §4.1).
fn named(der: &[u8]) -> instant_acme::CertificateIdentifier<'static> {
    let certificate = x509_cert::Certificate::from_der(der).unwrap();
    let tbs = certificate.tbs_certificate();
    let (_, above) = tbs
        .get_extension::<AuthorityKeyIdentifier>()
        .unwrap()
        .unwrap();
    let text = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    instant_acme::CertificateIdentifier {
        authority_key_identifier: text(above.key_identifier.unwrap().as_bytes()).into(),
        serial: text(tbs.serial_number().as_bytes()).into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_to_renew_and_what_replaces_what() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let names = [dns("a.svc.example.org")];
    let chain = acme.obtain(&account, &names, ChallengeType::Http01).await;
    let der = CertificateDer::from_pem_slice(chain.unwrap().as_bytes()).unwrap();
    let id = named(&der);
    let window = || {
        let path = format!("{MOUNT}/acme/renewal-info/{id}");
        let (status, kind, body) = acme.ca.get(&path, None);
        assert_eq!((status, &*kind), (200, "application/json"));
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let end = value["suggestedWindow"]["end"].as_str().unwrap();
        let text = std::process::Command::new("date")
            .args(["+%s", "-d", end])
            .output();
        let text = String::from_utf8(text.unwrap().stdout).unwrap();
        text.trim().parse::<u64>().unwrap()
    };
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_secs()
    };
    assert!(window() > now(), "not yet");
    let other = [dns("b.svc.example.org")];
    let refused = account
        .new_order(&NewOrder::new(&other).replaces(id.clone()))
        .await;
    assert_eq!(kind(refused), "malformed", "it has none of its names");
    let theirs = acme.account().await;
    let refused = theirs
        .new_order(&NewOrder::new(&names).replaces(id.clone()))
        .await;
    assert_eq!(kind(refused), "malformed", "another's");
    let order = NewOrder::new(&names).replaces(id.clone());
    let mut order = account.new_order(&order).await.unwrap();
    acme.show(&mut order, ChallengeType::Http01).await.unwrap();
    acme.finish(&mut order).await.unwrap();
    let refused = account
        .new_order(&NewOrder::new(&names).replaces(id.clone()))
        .await;
    assert_eq!(kind(refused), "alreadyReplaced");
    let request = instant_acme::RevocationRequest {
        certificate: &der,
        reason: None,
    };
    account.revoke(&request).await.unwrap();
    assert!(window() < now(), "at once");
    for path in ["none", "a.b", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"] {
        let path = format!("{MOUNT}/acme/renewal-info/{path}");
        assert_eq!(acme.ca.get(&path, None).0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mcias_revokes_ends_the_account() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let names = [dns("a.svc.example.org")];
    account.new_order(&NewOrder::new(&names)).await.unwrap();
    let mut admin = acme.ca.world.mcias.admin().await;
    let request = RevokeRequest {
        what: Some(What::Account("ada".to_owned())),
        issued_until: None,
    };
    admin.accounts.revoke(request).await.unwrap();
    // It is told over a stream.
    wait_for_async("the account to end", async || {
        let refused = account.new_order(&NewOrder::new(&names)).await;
        (kind(refused) == "unauthorized").then_some(())
    })
    .await
    .unwrap();
}

/// MCIAS tells of a revocation as long as tokens from before it could be valid; whoever was sealed or away until later asks for the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_mcias_does_not_let_in_gets_nothing() {
    let acme = Acme::new().await;
    let account = acme.account().await;
    let unused = acme.key().await;
    let names = [dns("a.svc.example.org")];
    account.new_order(&NewOrder::new(&names)).await.unwrap();
    let mut admin = acme.ca.world.mcias.admin().await;
    admin.person("bob", "user").await;
    for (status, refused) in [("disabled", true), ("locked", true), ("active", false)] {
        let db = acme.ca.world.mcias.database();
        let sql = "UPDATE account SET status = ?1 WHERE name = 'ada'";
        db.execute(sql, [status]).unwrap();
        // Somebody else's: what is known of accounts is asked for again.
        let revoke = RevokeRequest {
            what: Some(What::Account("bob".to_owned())),
            issued_until: None,
        };
        admin.accounts.revoke(revoke).await.unwrap();
        wait_for_async(status, async || {
            let ordered = account.new_order(&NewOrder::new(&names)).await;
            (ordered.is_err() == refused).then_some(())
        })
        .await
        .unwrap();
        let id = &unused.key.as_ref().unwrap().id;
        if refused {
            let made = acme.create(id, &unused.hmac_key).await;
            assert_eq!(kind(made), "unauthorized", "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_orders_at_once() {
    const MANY: usize = 1000;
    let acme = std::sync::Arc::new(Acme::new().await);
    let account = acme.account().await;
    let begin = std::time::Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..MANY {
        let (acme, account) = (std::sync::Arc::clone(&acme), account.clone());
        all.spawn(async move {
            let names = [dns(&format!("n{n}.svc.example.org"))];
            let mut order = account.new_order(&NewOrder::new(&names)).await?;
            acme.show(&mut order, ChallengeType::Http01).await?;
            let patient = RetryPolicy::new()
                .backoff(1.2)
                .timeout(std::time::Duration::from_secs(300));
            order.poll_ready(&patient).await?;
            order.finalize().await?;
            order.poll_certificate(&patient).await
        });
    }
    let mut serials = std::collections::BTreeSet::new();
    while let Some(done) = all.join_next().await {
        serials.insert(done.unwrap().unwrap());
    }
    assert_eq!(serials.len(), MANY);
    let rate = MANY as f64 / begin.elapsed().as_secs_f64();
    eprintln!("{rate:.0} orders/s");
}
