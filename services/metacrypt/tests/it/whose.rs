//! Whom a rule is about, and what he is told.

use mc_proto::{
    mcias::v1::DeleteAccountRequest,
    metacrypt::v1::{
        CreateRuleRequest, ExplainRequest, ListRulesRequest, ReplaceRulesRequest, RotateKeyRequest,
        Rule, TransitKey, TrimKeyRequest, UpdateKeyRequest,
    },
};
use tonic::Code;

use crate::{
    policy::{allow, encrypt, listed, put, vault},
    world::{Clients, World},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_allowed_to_an_account_is_not_allowed_to_the_next_of_its_name() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let encrypts = allow("ada", &["transit:encrypt"], &["vault/keys/app"]);
    put(&mut admin, encrypts.clone()).await;
    let denied = Rule {
        deny: true,
        ..allow("not-ada", &["transit:decrypt"], &["vault/**"])
    };
    put(&mut admin, denied).await;
    let unknown = Rule {
        accounts: vec!["nobody".to_owned()],
        ..allow("unknown", &["transit:encrypt"], &["vault/**"])
    };
    for refused in [
        admin
            .system
            .create_rule(CreateRuleRequest {
                rule: Some(unknown.clone()),
                replace: false,
            })
            .await
            .map(drop),
        admin
            .system
            .replace_rules(ReplaceRulesRequest {
                rules: vec![encrypts, unknown],
            })
            .await
            .map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let told = "accounts: MCIAS has no account \"nobody\"";
        assert!(refused.message().starts_with(told), "{refused:?}");
    }
    let rules = admin.system.list_rules(ListRulesRequest {}).await.unwrap();
    let rules = rules.into_inner().rules;
    let account = |name: &str| {
        let rule = rules.iter().find(|rule| rule.name == name).unwrap();
        rule.accounts[0].clone()
    };
    let bound = account("ada");
    assert!(bound.starts_with("ada#"), "{bound}");
    assert_eq!(account("not-ada"), "ada", "whoever has the name");
    let allowed = async |admin: &mut Clients, account: &str| {
        let request = ExplainRequest {
            account: account.to_owned(),
            action: "transit:encrypt".to_owned(),
            resource: "vault/keys/app".to_owned(),
            ..ExplainRequest::default()
        };
        let explained = admin.system.explain(request).await.unwrap();
        explained.into_inner().allowed
    };
    assert!(allowed(&mut admin, "ada").await && allowed(&mut admin, &bound).await);
    let mut ada = world.clients(&world.user().await).await;
    ada.transit.encrypt(encrypt("vault", "app")).await.unwrap();
    let mut mcias = world.mcias.admin().await;
    let request = DeleteAccountRequest {
        name: "ada".to_owned(),
    };
    mcias.accounts.delete_account(request).await.unwrap();
    mcias.person("ada", "user").await;
    let mut next = world.clients(&world.user().await).await;
    let refused = next.transit.encrypt(encrypt("vault", "app")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    assert!(!allowed(&mut admin, "ada").await && allowed(&mut admin, &bound).await);
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
