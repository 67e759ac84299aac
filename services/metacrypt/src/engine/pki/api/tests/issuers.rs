//! A CA is not its name.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use mc_proto::metacrypt::v1::{
    DeleteIssuerRequest, DeletePkiProfileRequest, GetIssuerRequest, ListCertificatesRequest,
    SetDefaultRequest, SetUrlsRequest, UpdateIssuerRequest,
};
use mcdsl::audit::Detail;
use tower::ServiceExt as _;

use super::{
    super::{
        urls,
        wanted::{Key, Wanted},
    },
    *,
};
use crate::{
    barrier::Items,
    engine::pki::{
        PROFILES, action,
        name::Names,
        pem,
        ready::Ready,
        store::{StoredIssuer, as_if_held, as_if_revoked},
    },
    entered::{Entered, identity},
};

fn delete(confirm: &str) -> DeleteIssuerRequest {
    DeleteIssuerRequest {
        mount: "ca".to_owned(),
        name: "services".to_owned(),
        confirm: confirm.to_owned(),
    }
}

async fn get(api: &Api, admin: &Caller, name: &str) -> PkiIssuer {
    let request = GetIssuerRequest {
        mount: "ca".to_owned(),
        name: name.to_owned(),
    };
    api_issuers::get_issuer(api, admin, request).await.unwrap()
}

async fn set_default(api: &Api, who: &Caller, issuer: &str) -> Result<PkiIssuer, EngineError> {
    let request = SetDefaultRequest {
        mount: "ca".to_owned(),
        issuer: issuer.to_owned(),
    };
    super::super::default::set(api, who, request).await
}

#[tokio::test]
async fn what_is_done_to_an_old_ca_is_not_done_to_the_one_that_has_its_name_now() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let old = get(&api, &admin, "services").await;
    let leaf = issue(&api, &admin).await;
    // It is needed while something of it is valid, whoever says that it is meant.
    for confirm in ["", "services"] {
        let refused = api_issuers::delete_issuer(&api, &admin, delete(confirm)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("disable it instead"), "{refused}");
    }
    assert!(revoke(&api, &admin, &leaf).await.unwrap().revoked.is_some());
    assert_eq!(list(&world).await.1, 1);
    // By a clock that is ahead for a moment nothing has ended.
    world.clock.set_ahead(365 * 24 * HOUR);
    let refused = api_issuers::delete_issuer(&api, &admin, delete("services")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("disable it instead"), "{refused}");
    world.clock.set_back(365 * 24 * HOUR);
    world.clock.advance(3 * HOUR);
    let refused = api_issuers::delete_issuer(&api, &admin, delete("")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("the profile \"web\""), "{refused}");
    let deleted = api_issuers::delete_issuer(&api, &admin, delete("services")).await;
    deleted.unwrap();
    let new = services(&api, &admin).await;
    assert_ne!(new.serial, old.serial);
    assert_eq!(list(&world).await.1, 0, "what the old one revoked");
    // The old one's certificate is still the root's to revoke.
    let revoked = revoke(&api, &admin, &old.serial).await.unwrap();
    assert_eq!((&*revoked.ca, &*revoked.issuer), ("services", "root"));
    let now = get(&api, &admin, "services").await;
    assert!(!now.disabled && now.revoked.is_none(), "{now:?}");
    let leaf = issue(&api, &admin).await;
    let request = ListCertificatesRequest {
        mount: "ca".to_owned(),
        issuer: "services".to_owned(),
        ..ListCertificatesRequest::default()
    };
    let listed = super::super::inventory::list_certificates(&api, &admin, request);
    let listed = listed.await.unwrap().certificates;
    let serials: Vec<_> = listed.iter().map(|one| &*one.serial).collect();
    assert_eq!(serials, [&*leaf], "those of the one that has the name");
}

#[tokio::test]
async fn an_issuer_that_is_revoked_is_that_and_no_default() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    assert!(set_default(&api, &admin, "services").await.unwrap().default);
    let serial = get(&api, &admin, "services").await.serial;
    revoke(&api, &admin, &serial).await.unwrap();
    let now = get(&api, &admin, "services").await;
    assert!(now.revoked.is_some() && now.disabled && !now.default);
    assert!(get(&api, &admin, "root").await.default, "its CRL says so");
    let enable = UpdateIssuerRequest {
        mount: "ca".to_owned(),
        name: "services".to_owned(),
        disabled: Some(false),
    };
    for refused in [
        set_default(&api, &admin, "services").await,
        api_issuers::update_issuer(&api, &admin, enable).await,
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("revoked, for ever"), "{refused}");
    }
    let refused = try_issue(&api, &admin).await.unwrap_err().to_string();
    assert!(refused.contains("\"services\" is revoked"), "{refused}");
}

async fn root(api: &Api, who: &Caller, name: &str) -> PkiIssuer {
    let request = CreateRootRequest {
        mount: "ca".to_owned(),
        name: name.to_owned(),
        key_algorithm: CertificateKey::Ed25519.into(),
        common_name: name.to_owned(),
        ..CreateRootRequest::default()
    };
    let made = api_issuers::create_root(api, who, request).await;
    made.unwrap()
}

/// What anybody gets who asks for the root to trust.
async fn told(world: &World) -> (StatusCode, String) {
    let routes = (KIND.http)(&Api(Arc::clone(&world.metacrypt)));
    let request = Request::get("/ca/ca").body(Body::empty()).unwrap();
    let answer = routes.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn who_may_change_cas_of_his_own_does_not_change_the_default_of_all() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    allow(&api, "team", "ada", &["pki:*"], &["ca/issuers/team-*"]).await;
    let ada = caller("ada", "user", "/test/Pki");
    for name in ["team-a", "team-b"] {
        assert!(!root(&api, &ada, name).await.default);
    }
    for name in ["team-a", "root"] {
        let refused = set_default(&api, &ada, name).await.unwrap_err().to_string();
        assert!(
            refused.ends_with("pki:set-default on ca/default"),
            "{refused}"
        );
    }
    assert!(get(&api, &admin, "root").await.default);
    assert!(set_default(&api, &admin, "team-a").await.unwrap().default);
    assert!(!get(&api, &admin, "root").await.default, "one of all");
    let request = DeleteIssuerRequest {
        name: "team-a".to_owned(),
        ..delete("")
    };
    let refused = api_issuers::delete_issuer(&api, &ada, request).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("it is the default"), "{refused}");
}

#[tokio::test]
async fn the_first_ca_is_the_default_of_all_if_who_makes_it_may_say_so() {
    let world = World::open().await;
    world.metacrypt.mount("ca", "pki", nothing()).await.unwrap();
    let api = Api(Arc::clone(&world.metacrypt));
    allow(&api, "team", "ada", &["pki:*"], &["ca/issuers/team-*"]).await;
    allow(
        &api,
        "cas",
        "bob",
        &["pki:create-issuer"],
        &["ca/issuers/*"],
    )
    .await;
    allow(
        &api,
        "default",
        "bob",
        &["pki:set-default"],
        &["ca/default"],
    )
    .await;
    let (ada, bob) = (
        caller("ada", "user", "/test/Pki"),
        caller("bob", "user", "/test/Pki"),
    );
    assert!(!root(&api, &ada, "team-a").await.default);
    let (status, said) = told(&world).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let wanted = "there is no default CA (SetDefault says which one is it) of the mount \\\"ca\\\"";
    assert!(said.contains(wanted), "{said}");
    assert!(root(&api, &bob, "root").await.default);
    let (.., detail) = world.audit().pop().unwrap();
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(detail["default_by"], "rule default");
    assert_eq!(told(&world).await.0, StatusCode::OK);
    assert!(!root(&api, &bob, "another").await.default);
    set_default(&api, &bob, "another").await.unwrap();
    let refused = set_default(&api, &bob, "nothing").await.unwrap_err();
    assert!(refused.to_string().contains("there is no CA"), "{refused}");
}

#[tokio::test]
async fn who_has_many_certificates_makes_the_list_long_for_himself_alone() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let bob = caller("bob", "admin", "/test/Pki");
    let more = async |like: &str, count: usize| {
        let like = like.parse().unwrap();
        let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
        at.keep(move |items, _| as_if_held(items, &like, count))
            .await
            .unwrap();
    };
    let refused = async |who: &Caller, most: usize| {
        let refused = try_issue(&api, who).await.unwrap_err().to_string();
        let told = format!("{most} certificates of this account by \"services\"");
        assert!(refused.contains(&told), "{refused}");
        refused
    };
    // What is revoked is always written, so that what could be is bounded: before anything is.
    let leaf = issue(&api, &admin).await;
    more(&leaf, 49_998).await;
    let last = issue(&api, &admin).await;
    refused(&admin, 50_000).await;
    for serial in [&leaf, &last] {
        revoke(&api, &admin, serial).await.unwrap();
    }
    refused(&admin, 50_000).await;
    let his = issue(&api, &bob).await;
    // Two accounts have made it long, by all that they may have.
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let long = |items: &crate::barrier::Items<'_>, _: &crate::entered::Entered| {
        let id = StoredIssuer::get(items, "services")?.id;
        as_if_revoked(items, &id, 99_998)
    };
    at.keep(long).await.unwrap();
    drop(at);
    issue(&api, &bob).await;
    more(&his, 9_997).await;
    issue(&api, &bob).await;
    let told = refused(&bob, 10_000).await;
    assert!(told.contains("its CRL has 100000 entries"), "{told}");
    // Ended, they are in the list for three days more.
    world.clock.advance(72 * HOUR);
    refused(&admin, 10_000).await;
    world.clock.advance(24 * HOUR);
    issue(&api, &admin).await;
}

/// What certificates are made by is kept in memory: of each thing that changes it, the next certificate knows.
#[tokio::test]
async fn what_is_issued_is_by_what_is_in_force() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let kept = || {
        let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
        Ready::of(at.mount()).unwrap().ground("web").0.is_some()
    };
    let disable = |disabled| UpdateIssuerRequest {
        mount: "ca".to_owned(),
        name: "services".to_owned(),
        disabled: Some(disabled),
    };
    let base = |base: &str| SetUrlsRequest {
        mount: "ca".to_owned(),
        base: base.to_owned(),
    };
    for (description, wanted) in [
        ("as it was", "issued"),
        ("the profile has another name", "names"),
        ("the name is back", "issued"),
        ("the issuer is disabled", "disabled"),
        ("it is enabled", "issued"),
        ("there are addresses", "http://pki.example.org/v1/pki/ca/"),
        ("other addresses", "http://other.example.org/v1/pki/ca/"),
        ("the profile is deleted", "no profile"),
        ("there is one again", "issued"),
        ("the issuer is revoked", "revoked"),
    ] {
        match description {
            "the profile has another name" => {
                let put = profiles::put_profile(&api, &admin, web("example.com"));
                put.await.unwrap();
            }
            "the name is back" | "there is one again" => {
                let put = profiles::put_profile(&api, &admin, web("example.org"));
                put.await.unwrap();
            }
            "the issuer is disabled" | "it is enabled" => {
                let disabled = description == "the issuer is disabled";
                let update = api_issuers::update_issuer(&api, &admin, disable(disabled));
                update.await.unwrap();
            }
            "there are addresses" | "other addresses" => {
                let host = wanted.trim_end_matches("/v1/pki/ca/");
                urls::set(&api, &admin, base(host)).await.unwrap();
            }
            "the profile is deleted" => {
                let request = DeletePkiProfileRequest {
                    mount: "ca".to_owned(),
                    name: "web".to_owned(),
                };
                let delete = profiles::delete_profile(&api, &admin, request);
                delete.await.unwrap();
            }
            "the issuer is revoked" => {
                let serial = get(&api, &admin, "services").await.serial;
                revoke(&api, &admin, &serial).await.unwrap();
            }
            _ => {}
        }
        assert!(!kept(), "{description}: what was kept is gone");
        let told = match try_issue(&api, &admin).await {
            Ok(issued) => {
                assert!(kept(), "{description}");
                // From memory, now.
                let again = issue(&api, &admin).await;
                assert_ne!(again, issued.serial);
                revoke(&api, &admin, &again).await.unwrap();
                assert!(kept(), "{description}: a leaf is no issuer");
                let chain = pem::read_chain(&issued.chain).unwrap();
                format!("issued {}", String::from_utf8_lossy(&chain[0]))
            }
            Err(error) => error.to_string(),
        };
        assert!(told.contains(wanted), "{description}: {told}");
    }
}

/// What is done between signing and storing.
enum Change {
    Nothing,
    Profile(&'static str),
    NoProfile,
    Disabled,
    Revoked,
}

/// What is signed and not stored yet is looked at again.
#[tokio::test]
async fn nothing_is_stored_that_was_signed_by_what_is_gone_since() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    for (description, change, wanted) in [
        ("nothing is changed", Change::Nothing, None),
        (
            "the profile is written as it was",
            Change::Profile("example.org"),
            None,
        ),
        (
            "the profile is another one",
            Change::Profile("example.com"),
            Some("profile was changed meanwhile"),
        ),
        ("the profile is gone", Change::NoProfile, Some("no profile")),
        ("the issuer is disabled", Change::Disabled, Some("disabled")),
        ("the issuer is revoked", Change::Revoked, Some("is revoked")),
    ] {
        profiles::put_profile(&api, &admin, web("example.org"))
            .await
            .unwrap();
        let on = [PROFILES, "web"];
        let at = world
            .metacrypt
            .enter(&admin, &KIND, action::ISSUE, "ca", &on)
            .unwrap();
        let signed = Wanted {
            profile: "web".to_owned(),
            names: Names::parse(&["example.org".to_owned()]).unwrap(),
            key: Key::New(None),
            ttl_s: 0,
            renews: None,
            account: identity(&admin).unwrap().into(),
        };
        let (signed, ground) = signed.found(&at).await.unwrap();
        let (signed, made) = signed.make(&at, ground).await.unwrap();
        let disabled = |disabled| UpdateIssuerRequest {
            mount: "ca".to_owned(),
            name: "services".to_owned(),
            disabled: Some(disabled),
        };
        match change {
            Change::Nothing => {}
            Change::Profile(dns) => {
                let put = profiles::put_profile(&api, &admin, web(dns));
                put.await.unwrap();
            }
            Change::NoProfile => {
                let request = DeletePkiProfileRequest {
                    mount: "ca".to_owned(),
                    name: "web".to_owned(),
                };
                let delete = profiles::delete_profile(&api, &admin, request);
                delete.await.unwrap();
            }
            Change::Disabled => {
                let update = api_issuers::update_issuer(&api, &admin, disabled(true));
                update.await.unwrap();
            }
            Change::Revoked => {
                let serial = get(&api, &admin, "services").await.serial;
                revoke(&api, &admin, &serial).await.unwrap();
            }
        }
        let store = move |items: &Items<'_>, at: &Entered| made.store(items, at, signed);
        let stored = at.record(Detail::new(), store).await;
        let told = stored.err().map(|error| error.to_string());
        let fits = match (&told, wanted) {
            (Some(told), Some(wanted)) => told.contains(wanted),
            (told, wanted) => told.is_none() && wanted.is_none(),
        };
        assert!(fits, "{description}: {told:?}");
        if matches!(change, Change::Disabled) {
            let update = api_issuers::update_issuer(&api, &admin, disabled(false));
            update.await.unwrap();
        }
    }
}
