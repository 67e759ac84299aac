//! Who may do what behind the seal.

mod accounts;
mod put;
mod stored;

use mc_proto::metacrypt::v1::{
    CanIRequest, CreateKeyRequest, CreateMountRequest, CreateRuleRequest, DeleteRuleRequest,
    EncryptRequest, ExplainRequest, GetKeyRequest, KeyAlgorithm, ListKeysRequest, ListRulesRequest,
    Plaintext, RotateKeyRequest, Rule, TransitKey, TrimKeyRequest, UpdateKeyRequest,
};
use tonic::Code;

use crate::world::{Clients, World};

/// A mount `vault` of transit, with these keys that encrypt.
pub(crate) async fn vault(admin: &mut Clients, keys: &[&str]) {
    let request = CreateMountRequest {
        name: "vault".to_owned(),
        engine: "transit".to_owned(),
    };
    admin.system.create_mount(request).await.unwrap();
    for name in keys {
        let request = CreateKeyRequest {
            mount: "vault".to_owned(),
            name: (*name).to_owned(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
            ..CreateKeyRequest::default()
        };
        admin.transit.create_key(request).await.unwrap();
    }
}

pub(crate) fn allow(name: &str, actions: &[&str], resources: &[&str]) -> Rule {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Rule {
        name: name.to_owned(),
        accounts: vec!["ada".to_owned()],
        actions: owned(actions),
        resources: owned(resources),
        ..Rule::default()
    }
}

pub(crate) async fn put(admin: &mut Clients, rule: Rule) {
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: false,
    };
    admin.system.create_rule(request).await.unwrap();
}

pub(crate) fn encrypt(mount: &str, name: &str) -> EncryptRequest {
    EncryptRequest {
        mount: mount.to_owned(),
        name: name.to_owned(),
        plaintexts: vec![Plaintext::default()],
    }
}

pub(crate) async fn listed(clients: &mut Clients) -> Vec<String> {
    let request = ListKeysRequest {
        mount: "vault".to_owned(),
        ..ListKeysRequest::default()
    };
    let list = clients.transit.list_keys(request).await.unwrap();
    list.into_inner()
        .keys
        .into_iter()
        .map(|key| key.name)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_allows_is_denied_and_a_deny_holds_for_lists() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut ada = world.clients(&world.user().await).await;
    vault(&mut admin, &["app-1", "app-2", "other"]).await;
    for (description, mount, name) in [
        ("a key that there is", "vault", "app-1"),
        ("a key that there is not", "vault", "nothing"),
        ("a mount that there is not", "nothing", "app-1"),
        ("the core's own mount", "system", "app-1"),
    ] {
        let refused = ada.transit.encrypt(encrypt(mount, name)).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::PermissionDenied,
            "{description}: {refused:?}"
        );
    }
    for (description, mount, name) in [
        ("a mount that there is not", "nothing", "app-1"),
        ("a mount of another kind", "system", "app-1"),
        ("a key that there is not", "vault", "nothing"),
    ] {
        let refused = admin
            .transit
            .encrypt(encrypt(mount, name))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{description}: {refused:?}");
    }
    for name in ["", "a/b", "..", ".", "%2e", "a b", "é", "*"] {
        let refused = admin
            .transit
            .encrypt(encrypt("vault", name))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}: {refused:?}");
    }
    assert_eq!(listed(&mut ada).await, [""; 0]);
    let rule = allow(
        "ada",
        &["transit:encrypt", "transit:read"],
        &["vault/keys/app-*"],
    );
    put(&mut admin, rule).await;
    ada.transit
        .encrypt(encrypt("vault", "app-1"))
        .await
        .unwrap();
    let refused = ada
        .transit
        .encrypt(encrypt("vault", "other"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(listed(&mut ada).await, ["app-1", "app-2"]);
    let mut deny = allow("not-2", &["**"], &["vault/keys/app-2"]);
    (deny.deny, deny.priority) = (true, 1);
    put(&mut admin, deny).await;
    assert_eq!(
        listed(&mut ada).await,
        ["app-1"],
        "a list obeys what reading one does"
    );
    let read = GetKeyRequest {
        mount: "vault".to_owned(),
        name: "app-2".to_owned(),
    };
    let refused = ada.transit.get_key(read.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    admin.transit.get_key(read).await.unwrap();
    // It stays so over a seal.
    world
        .client()
        .await
        .seal(crate::world::by(
            &world.token("admin", &world.mcias.password).await,
            mc_proto::metacrypt::v1::SealRequest {},
        ))
        .await
        .unwrap();
    let sealed = ada
        .transit
        .encrypt(encrypt("vault", "app-1"))
        .await
        .unwrap_err();
    assert_eq!(sealed.code(), Code::Unavailable, "{sealed:?}");
    world.unseal().await;
    assert_eq!(listed(&mut ada).await, ["app-1"]);
    let request = DeleteRuleRequest {
        name: "ada".to_owned(),
    };
    admin.system.delete_rule(request.clone()).await.unwrap();
    assert_eq!(listed(&mut ada).await, [""; 0]);
    let gone = admin.system.delete_rule(request).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let rows = world.audit();
    let bypass = |row: &(String, String, String, String)| {
        row.0.ends_with("/GetKey") && row.1 == "vault/keys/app-2" && row.3.contains("admin bypass")
    };
    assert!(rows.iter().any(bypass), "{rows:?}");
    let by_rule = |row: &(String, String, String, String)| {
        row.0.ends_with("/Encrypt") && row.2 == "OK" && row.3.contains("rule ada")
    };
    assert!(rows.iter().any(by_rule), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_says_what_would_be() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut ada = world.clients(&world.user().await).await;
    vault(&mut admin, &["app", "web", "log"]).await;
    put(
        &mut admin,
        allow("app", &["transit:*"], &["vault/keys/app"]),
    )
    .await;
    put(
        &mut admin,
        allow("web", &["transit:encrypt"], &["vault/**"]),
    )
    .await;
    let mut deny = allow("no-log", &["**"], &["vault/keys/log"]);
    deny.deny = true;
    put(&mut admin, deny).await;
    for key in ["app", "web", "log"] {
        let asked = ExplainRequest {
            account: "ada".to_owned(),
            roles: vec!["user".to_owned()],
            action: "transit:encrypt".to_owned(),
            resource: format!("vault/keys/{key}"),
            ..ExplainRequest::default()
        };
        let explained = admin
            .system
            .explain(asked.clone())
            .await
            .unwrap()
            .into_inner();
        let done = ada.transit.encrypt(encrypt("vault", key)).await;
        assert_eq!(
            explained.allowed,
            done.is_ok(),
            "{key}: {explained:?} {done:?}"
        );
        assert_eq!(explained.why.len(), 3, "{explained:?}");
        let can = CanIRequest {
            action: "transit:encrypt".to_owned(),
            resource: format!("vault/keys/{key}"),
        };
        let can = ada.system.can_i(can).await.unwrap().into_inner();
        assert_eq!(explained.allowed, can.allowed, "{key}");
        let read = ExplainRequest {
            action: "transit:read".to_owned(),
            ..asked
        };
        let explained = admin.system.explain(read).await.unwrap().into_inner();
        let request = GetKeyRequest {
            mount: "vault".to_owned(),
            name: key.to_owned(),
        };
        let done = ada.transit.get_key(request).await;
        assert_eq!(
            explained.allowed,
            done.is_ok(),
            "{key}: {explained:?} {done:?}"
        );
    }
    for (description, action, resource, told) in [
        ("no mount", "transit:encrypt", "none/keys/a", Ok(false)),
        (
            "a mount of another engine, which is not told",
            "pki:issue",
            "vault/profiles/a",
            Ok(false),
        ),
        ("no action", "transit:x", "vault/keys/a", Err("action: ")),
        (
            "no place",
            "transit:read",
            "vault/kyes/a",
            Err("resource: "),
        ),
        (
            "no name",
            "transit:read",
            "vault/keys/../a",
            Err("resource: "),
        ),
    ] {
        let can = CanIRequest {
            action: action.to_owned(),
            resource: resource.to_owned(),
        };
        match (ada.system.can_i(can).await, told) {
            (Ok(can), told) => assert_eq!(Ok(can.into_inner().allowed), told, "{description}"),
            (Err(refused), Err(told)) => {
                assert!(refused.message().starts_with(told), "{refused:?}");
            }
            (refused, Ok(_)) => panic!("{description}: {refused:?}"),
        }
    }
    let rows = world.audit();
    let row = |on: &str, by: &str| {
        let row = rows
            .iter()
            .find(|row| row.0.ends_with("/CanI") && row.1 == on);
        let row = row.unwrap_or_else(|| panic!("{on}: {rows:?}"));
        assert!(row.3.contains(by), "{row:?}");
    };
    row("vault/keys/app", "transit:encrypt: rule app");
    row("vault/keys/log", "transit:encrypt: rule no-log");
    row("none/keys/a", "transit:encrypt: no rule matches");
    // More than two minutes' rows.
    for _ in 0..130 {
        let can = CanIRequest {
            action: "transit:encrypt".to_owned(),
            resource: "vault/keys/much".to_owned(),
        };
        ada.system.can_i(can).await.unwrap();
    }
    let rows = world.audit();
    let much = rows.iter().filter(|row| row.1 == "vault/keys/much");
    assert!(much.count() < 130, "{rows:?}");
    let names = admin
        .system
        .list_rules(ListRulesRequest {})
        .await
        .unwrap()
        .into_inner();
    let names: Vec<_> = names.rules.into_iter().map(|rule| rule.name).collect();
    assert_eq!(
        names,
        ["no-log", "app", "web"],
        "in the order in which they are asked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_change_a_key_and_not_read_it_is_told_what_he_changed() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let actions = ["transit:update", "transit:rotate", "transit:trim"];
    put(&mut admin, allow("ada", &actions, &["vault/keys/app"])).await;
    let mut ada = world.clients(&world.user().await).await;
    let update = UpdateKeyRequest {
        mount: "vault".to_owned(),
        name: "app".to_owned(),
        ..UpdateKeyRequest::default()
    };
    let refused = ada.transit.update_key(update.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let update = UpdateKeyRequest {
        deletable: Some(true),
        ..update
    };
    let rotate = RotateKeyRequest {
        mount: "vault".to_owned(),
        name: "app".to_owned(),
    };
    let trim = TrimKeyRequest {
        mount: "vault".to_owned(),
        name: "app".to_owned(),
        below: 3,
    };
    for clients in [&mut ada, &mut admin] {
        clients.transit.rotate_key(rotate.clone()).await.unwrap();
    }
    let updated = ada.transit.update_key(update.clone()).await.unwrap();
    let mut wanted = TransitKey {
        name: "app".to_owned(),
        deletable: true,
        ..TransitKey::default()
    };
    assert_eq!(updated.into_inner(), wanted);
    let rotated = ada.transit.rotate_key(rotate.clone()).await.unwrap();
    let rotated = rotated.into_inner();
    let numbers: Vec<_> = rotated.versions.iter().map(|v| v.version).collect();
    assert_eq!(numbers, [4], "the new one alone");
    wanted.deletable = false;
    wanted.versions.clone_from(&rotated.versions);
    assert_eq!(rotated, wanted);
    let update = UpdateKeyRequest {
        min_decryption_version: Some(3),
        ..update
    };
    let updated = ada.transit.update_key(update.clone()).await.unwrap();
    assert_eq!(updated.into_inner().min_decryption_version, 3);
    let trimmed = ada.transit.trim_key(trim.clone()).await.unwrap();
    wanted.versions.clear();
    wanted.removed_versions = vec![1, 2];
    assert_eq!(trimmed.into_inner(), wanted);
    // Who may read it is told all of it.
    let updated = admin.transit.update_key(update).await.unwrap();
    assert_eq!(updated.into_inner().versions.len(), 2);
    let rotated = admin.transit.rotate_key(rotate).await.unwrap().into_inner();
    assert_eq!(rotated.versions.len(), 3);
    let trimmed = admin.transit.trim_key(trim).await.unwrap().into_inner();
    assert!(trimmed.versions.len() == 3 && trimmed.removed_versions.is_empty());
    // Of a list the log says by which rule.
    put(
        &mut admin,
        allow("reads", &["transit:read"], &["vault/keys/*"]),
    )
    .await;
    assert_eq!(listed(&mut ada).await, ["app"]);
    let rows = world.audit();
    let (.., detail) = rows
        .iter()
        .rfind(|row| row.0.ends_with("/ListKeys"))
        .unwrap();
    assert_eq!(detail, r#"{"by":"rule reads"}"#);
}
