//! Who may do what behind the seal.

use mc_proto::metacrypt::v1::{
    AuditHashRequest, CreateKeyRequest, CreateMountRequest, CreateRuleRequest, DeleteMountRequest,
    DeleteRuleRequest, EncryptRequest, ExplainRequest, GetKeyRequest, GetSealStatusRequest,
    KeyAlgorithm, ListKeysRequest, ListMountsRequest, ListRulesRequest, Plaintext,
    ReplaceRulesRequest, Rule, SealRequest,
};
use mc_testkit::wait_for;
use tonic::Code;

use crate::world::{Clients, World, by};

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
async fn mounts_and_rules_that_cannot_be_are_refused_by_name() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut ada = world.clients(&world.user().await).await;
    for (name, engine, code, said) in [
        ("Vault", "transit", Code::InvalidArgument, "name:"),
        ("a/b", "transit", Code::InvalidArgument, "name:"),
        ("", "transit", Code::InvalidArgument, "name:"),
        ("vault", "magic", Code::InvalidArgument, "there are: "),
        ("system", "transit", Code::AlreadyExists, "system"),
    ] {
        let request = CreateMountRequest {
            name: name.to_owned(),
            engine: engine.to_owned(),
        };
        let refused = admin
            .system
            .create_mount(request.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{name} {engine}: {refused:?}");
        assert!(refused.message().contains(said), "{refused:?}");
        let refused = ada.system.create_mount(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    for (description, rule, said) in [
        (
            "nobody",
            Rule {
                accounts: vec![],
                ..allow("r", &["**"], &["**"])
            },
            "subjects",
        ),
        ("no action", allow("r", &[], &["**"]), "actions"),
        ("no resource", allow("r", &["**"], &[]), "resources"),
        (
            "a bad pattern",
            allow("r", &["**"], &["a/**/b"]),
            "resources",
        ),
        (
            "a long one",
            Rule {
                comment: "x".repeat(70_000),
                ..allow("r", &["**"], &["**"])
            },
            "rule: 70",
        ),
        (
            "an action that nobody can ask for",
            allow("r", &["transit:encrpyt"], &["**"]),
            "actions: \"transit:encrpyt\" covers nothing that can be done (did you mean \"transit:encrypt\"?); there are: transit:create",
        ),
        (
            "an engine that there is not",
            allow("r", &["transit:*", "tranist:*"], &["**"]),
            "there are: mount:*, ",
        ),
        ("no name", allow("", &["**"], &["**"]), "name"),
        ("a path for a name", allow("a/b", &["**"], &["**"]), "name"),
    ] {
        let request = CreateRuleRequest {
            rule: Some(rule),
            replace: true,
        };
        let refused = admin.system.create_rule(request).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{description}: {refused:?}"
        );
        assert!(
            refused.message().contains(said),
            "{description}: {refused:?}"
        );
    }
    put(&mut admin, allow("r", &["**"], &["**"])).await;
    let again = CreateRuleRequest {
        rule: Some(allow("r", &["**"], &["**"])),
        replace: false,
    };
    let refused = admin.system.create_rule(again).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    vault(&mut admin, &["a"]).await;
    let shown = |list: mc_proto::metacrypt::v1::ListMountsResponse| -> Vec<String> {
        list.mounts.into_iter().map(|mount| mount.name).collect()
    };
    let list = ada.system.list_mounts(ListMountsRequest {}).await.unwrap();
    assert_eq!(shown(list.into_inner()), ["system", "vault"]);
    for (name, confirm, code, said) in [
        (
            "system",
            "",
            Code::FailedPrecondition,
            "own, with the policy",
        ),
        ("nothing", "nothing", Code::NotFound, "no mount"),
        (
            "vault",
            "",
            Code::FailedPrecondition,
            "not deletable, like \"a\"",
        ),
        ("vault", "a", Code::InvalidArgument, "confirm:"),
    ] {
        let request = DeleteMountRequest {
            name: name.to_owned(),
            confirm: confirm.to_owned(),
        };
        let refused = admin.system.delete_mount(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {refused:?}");
        assert!(refused.message().contains(said), "{name}: {refused:?}");
    }
    admin.transit.encrypt(encrypt("vault", "a")).await.unwrap();
    let request = DeleteMountRequest {
        name: "vault".to_owned(),
        confirm: "vault".to_owned(),
    };
    admin.system.delete_mount(request).await.unwrap();
    let gone = admin
        .transit
        .encrypt(encrypt("vault", "a"))
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let db = rusqlite::Connection::open(world.root.path().join("metacrypt.db")).unwrap();
    let left = || -> Option<()> {
        let sql = "SELECT count(*) FROM item JOIN mount ON mount.number = item.mount WHERE mount.name IS NULL OR mount.name = 'vault'";
        let left: i64 = db.query_row(sql, [], |row| row.get(0)).unwrap();
        (left == 0).then_some(())
    };
    wait_for("what it had to be deleted", left).unwrap();
}

/// As somebody does who may write the file and cannot open the seal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_were_taken_away_or_put_back_are_found_out() {
    const FIND: &str = "(SELECT number FROM mount WHERE name = 'system') AND path = 'policy'";
    let world = World::open().await;
    let token = world.token("admin", &world.mcias.password).await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let mut ada = world.clients(&world.user().await).await;
    let db = rusqlite::Connection::open(world.root.path().join("metacrypt.db")).unwrap();
    let change = |sql: String| db.execute(&sql, []).unwrap();
    put(&mut admin, allow("all", &["**"], &["**"])).await;
    change(format!(
        "CREATE TEMP TABLE old AS SELECT value FROM item WHERE mount = {FIND}"
    ));
    let mut deny = allow("deny", &["**"], &["vault/keys/app"]);
    deny.deny = true;
    put(&mut admin, deny).await;
    let mut client = world.client().await;
    for (description, sql, said) in [
        ("as it is", String::new(), ""),
        (
            "the ones of before",
            format!("UPDATE item SET value = (SELECT value FROM old) WHERE mount = {FIND}"),
            "of change 1, and the audit log's last is 2",
        ),
        (
            "another text",
            format!("UPDATE item SET value = zeroblob(200) WHERE mount = {FIND}"),
            "changed by somebody else",
        ),
        (
            "none",
            format!("DELETE FROM item WHERE mount = {FIND}"),
            "of change 0, and the audit log's last is 2",
        ),
    ] {
        if !sql.is_empty() {
            change(sql);
        }
        client.seal(by(&token, SealRequest {})).await.unwrap();
        world.unseal().await;
        let status = client.get_seal_status(GetSealStatusRequest {}).await;
        let status = status.unwrap().into_inner();
        assert_eq!(status.policy_unusable, !said.is_empty(), "{description}");
        let list = admin.system.list_rules(ListRulesRequest {}).await;
        let list = list.unwrap().into_inner();
        assert!(list.unusable.contains(said), "{description}: {list:?}");
        let refused = ada.transit.encrypt(encrypt("vault", "app")).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        admin
            .transit
            .encrypt(encrypt("vault", "app"))
            .await
            .unwrap();
        if !said.is_empty() {
            let request = CreateRuleRequest {
                rule: Some(allow("more", &["**"], &["**"])),
                replace: true,
            };
            let refused = admin.system.create_rule(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
            assert!(refused.message().contains("ReplaceRules"), "{refused:?}");
        }
    }
    let tool = world.run(&["status"], "");
    let warned = String::from_utf8_lossy(&tool.stderr).contains("the policy cannot be used");
    assert!(warned, "{tool:?}");
    let request = ReplaceRulesRequest {
        rules: vec![allow("app", &["transit:encrypt"], &["vault/keys/app"])],
    };
    admin.system.replace_rules(request).await.unwrap();
    ada.transit.encrypt(encrypt("vault", "app")).await.unwrap();
    client.seal(by(&token, SealRequest {})).await.unwrap();
    world.unseal().await;
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    assert!(!status.unwrap().into_inner().policy_unusable);
    ada.transit.encrypt(encrypt("vault", "app")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_a_plaintext_to_who_has_it_alone() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let plaintext = |text: &str| Plaintext {
        plaintext: text.into(),
        ..Plaintext::default()
    };
    // At the end of a batch.
    let mut plaintexts = vec![plaintext("other"); 40];
    plaintexts[39] = plaintext("4711-0815");
    for plaintexts in [plaintexts.clone(), plaintexts, vec![plaintext("other")]] {
        let request = EncryptRequest {
            plaintexts,
            ..encrypt("vault", "app")
        };
        admin.transit.encrypt(request).await.unwrap();
    }
    let request = || AuditHashRequest {
        input: b"4711-0815".to_vec(),
        before: 0,
    };
    for wanted in [
        ["/Encrypt", "/Encrypt"].as_slice(),
        &["/AuditHash", "/Encrypt", "/Encrypt"],
    ] {
        let found = admin.system.audit_hash(request()).await.unwrap();
        let found = found.into_inner();
        let actions = found.entries.iter().map(|entry| &*entry.action);
        let same = actions
            .clone()
            .zip(wanted)
            .all(|(is, wanted)| is.ends_with(wanted));
        assert!(same && actions.count() == wanted.len(), "{found:?}");
        assert_eq!(found.before, 0);
        let encrypted = &found.entries[found.entries.len() - 2..];
        assert_ne!(
            encrypted[0].detail, encrypted[1].detail,
            "nobody compares them"
        );
    }
    let older = AuditHashRequest {
        before: 1,
        ..request()
    };
    let found = admin.system.audit_hash(older).await.unwrap();
    assert!(found.into_inner().entries.is_empty());
    let nothing = AuditHashRequest::default();
    let refused = admin.system.audit_hash(nothing).await.unwrap_err();
    assert!(refused.message().contains("input"), "{refused:?}");
    let rows = world.audit();
    assert!(!rows.iter().any(|row| row.3.contains("4711-0815")));
}
