//! What is public of revocations, and the inventory.

use axum::{body::Body, http::Request};
use mc_proto::metacrypt::v1::ListCertificatesRequest;
use mcdsl::{audit::Detail, server::Source};
use serde_json::json;
use tower::ServiceExt as _;

use super::{super::inventory::list_certificates, *};
use crate::engine::{MAX_LOOKED_AT, pki::public};

#[tokio::test]
async fn a_long_list_keeps_nobody_from_revoking() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let serial = issue(&api, &admin).await;
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let fill = |items: &crate::barrier::Items<'_>, at: &crate::entered::Entered| {
        let issuer = ready::issuer(at.mount(), items, "services")?;
        let full = json!({"crl_number": 1, "revoked": 100_000, "ends_s": 0});
        Ok(items.put(&format!("state/{}", issuer.id()), &full)?)
    };
    at.change(Detail::new(), fill, |(), _| ()).await.unwrap();
    revoke(&api, &admin, &serial).await.unwrap();
    assert_eq!(list(&world).await.1, 1);
}

#[tokio::test]
async fn no_account_has_certificates_without_end() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let fill = |items: &crate::barrier::Items<'_>, _: &crate::entered::Entered| {
        let held = items.names("holds/", "", 2)?;
        // As before there was more than a number.
        items.delete(&held[0])?;
        Ok(items.put(&held[0].replace("holds", "held"), &999_999u64)?)
    };
    at.change(Detail::new(), fill, |(), _| ()).await.unwrap();
    issue(&api, &admin).await;
    let refused = try_issue(&api, &admin).await.unwrap_err().to_string();
    assert!(
        refused.contains("certificates of this account"),
        "{refused}"
    );
}

#[tokio::test]
async fn lists_are_made_once_for_all_and_none_is_of_the_future() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let first = served(&world, "services").await;
    let (one, other) = tokio::join!(served(&world, "services"), served(&world, "services"));
    assert!(Arc::ptr_eq(&first, &one) && Arc::ptr_eq(&one, &other));
    let serial = issue(&api, &admin).await;
    world.clock.set_ahead(2 * 24 * HOUR);
    let ahead = list(&world).await;
    let (now, of) = (world.clock.now(), served(&world, "services").await.made_at);
    assert_eq!(of, now);
    world.clock.set_back(2 * 24 * HOUR);
    revoke(&api, &admin, &serial).await.unwrap();
    let back = list(&world).await;
    assert!(back.0 > ahead.0, "numbers go on: {ahead:?} {back:?}");
    assert_eq!(back.1, 1);
    let parsed = served(&world, "services").await;
    let parsed: CertificateList = CertificateList::from_der(&parsed.der).unwrap();
    let this_update = parsed.tbs_cert_list.this_update.to_unix_duration();
    let early = seconds(world.clock.now()) - this_update.as_secs();
    assert_eq!(early, 60, "clocks differ");
}

#[tokio::test]
async fn lists_say_how_long_they_may_be_kept() {
    let world = World::open().await;
    let (api, _) = ca(&world).await;
    for (path, wanted) in [
        ("/ca/crl", Some("public, max-age=300, must-revalidate")),
        (
            "/ca/issuer/services/crl",
            Some("public, max-age=300, must-revalidate"),
        ),
        // What is no request is told so to him alone.
        ("/ca/issuer/services/ocsp/AAAA", None),
        ("/ca/issuer/nothing/crl", None),
    ] {
        let request = Request::get(path).extension(Source([192, 0, 2, 1].into()));
        let request = request.body(Body::empty()).unwrap();
        let answer = public::routes(&api).oneshot(request).await.unwrap();
        let told = answer.headers().get("cache-control");
        let told = told.map(|value| value.to_str().unwrap());
        assert_eq!(told, wanted, "{path}");
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_not_opened() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let serial = issue(&api, &admin).await;
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let path = format!("certificates/{serial}");
    // What cannot be read at all: a list that opened it would fail.
    let spoil = move |items: &crate::barrier::Items<'_>, _: &crate::entered::Entered| {
        Ok(items.put(&path, &"no certificate")?)
    };
    at.change(Detail::new(), spoil, |(), _| ()).await.unwrap();
    let request = |after: &str| ListCertificatesRequest {
        mount: "ca".to_owned(),
        after: after.to_owned(),
        limit: 1,
        ..ListCertificatesRequest::default()
    };
    let eve = caller("eve", "user", "/test/Pki");
    let listed = list_certificates(&api, &eve, request("")).await.unwrap();
    assert!(listed.certificates.is_empty() && listed.next.is_empty());
    assert!(
        list_certificates(&api, &admin, request("")).await.is_err(),
        "what may be read is opened"
    );
    for after in ["expiry/", &format!("certificates/{serial}"), "AAAA"] {
        let refused = list_certificates(&api, &admin, request(after)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("after: "), "{after}: {refused}");
    }
}

/// A list is made in parts, and whether there is another tells of what was looked at.
#[tokio::test]
async fn how_a_list_goes_on_says_nothing_of_what_may_not_be_read() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    issue(&api, &admin).await;
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let fill = |items: &crate::barrier::Items<'_>, _: &crate::entered::Entered| {
        let of_a_profile = |path: &String| path.contains("/profiles/");
        let paths = items.names("expiry/", "", 10)?;
        let path = paths.into_iter().find(of_a_profile).unwrap();
        let (place, serial) = path.rsplit_once('/').unwrap();
        for number in 0..=MAX_LOOKED_AT {
            let serial = format!("{}{number:04}", &serial[..serial.len() - 4]);
            items.put(&format!("{place}/{serial}"), &())?;
        }
        Ok(())
    };
    at.change(Detail::new(), fill, |(), _| ()).await.unwrap();
    allow(&api, "own", "ada", &["pki:read"], &["ca/profiles/own"]).await;
    allow(&api, "no", "eve", &["pki:issue"], &["ca/profiles/web"]).await;
    for (who, mount, issuer, more) in [
        ("eve", "ca", "", false),
        ("eve", "ca", "services", false),
        ("ada", "ca", "", true),
        ("ada", "ca", "services", true),
        ("ada", "ca", "none", true),
        ("ada", "none", "", false),
    ] {
        let request = ListCertificatesRequest {
            mount: mount.to_owned(),
            issuer: issuer.to_owned(),
            ..ListCertificatesRequest::default()
        };
        let reader = caller(who, "user", "/test/Pki");
        let listed = list_certificates(&api, &reader, request).await.unwrap();
        assert!(listed.certificates.is_empty(), "{who} {mount} {issuer}");
        assert_eq!(!listed.next.is_empty(), more, "{who} {mount} {issuer}");
    }
}
