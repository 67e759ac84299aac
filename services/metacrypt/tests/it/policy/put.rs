//! What is no mount and no rule.

use mc_proto::metacrypt::v1::{
    CreateMountRequest, CreateRuleRequest, DeleteMountRequest, ListMountsRequest, ListRulesRequest,
    ReplaceRulesRequest, Rule,
};
use mc_testkit::wait_for;
use tonic::Code;

use super::{allow, encrypt, put, vault};
use crate::world::{Clients, World};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_changed_meanwhile_is_not_replaced() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    put(&mut admin, allow("one", &["**"], &["**"])).await;
    let list = async |admin: &mut Clients| {
        let list = admin.system.list_rules(ListRulesRequest {}).await.unwrap();
        list.into_inner()
    };
    let seen = list(&mut admin).await;
    put(&mut admin, allow("two", &["**"], &["**"])).await;
    let now = list(&mut admin).await;
    for (description, version, code) in [
        ("a version before", Some(seen.version), Code::Aborted),
        ("none that there was", Some(now.version + 1), Code::Aborted),
        ("the last one", Some(now.version), Code::Ok),
        ("whatever is there", None, Code::Ok),
    ] {
        let request = ReplaceRulesRequest {
            rules: seen.rules.clone(),
            version,
        };
        let put = admin.system.replace_rules(request).await;
        assert_eq!(
            put.map_or_else(|e| e.code(), |_| Code::Ok),
            code,
            "{description}"
        );
        let left = list(&mut admin).await.rules;
        let wanted = match code {
            Code::Ok => &seen.rules,
            _ => &now.rules,
        };
        assert_eq!(left, *wanted, "{description}");
    }
}
