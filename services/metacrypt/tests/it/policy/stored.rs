//! Rules as the database has them.

use mc_proto::metacrypt::v1::{
    CreateRuleRequest, GetSealStatusRequest, ListRulesRequest, ReplaceRulesRequest, SealRequest,
};
use tonic::Code;

use super::{allow, encrypt, put, vault};
use crate::world::{World, by};

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
        version: None,
    };
    admin.system.replace_rules(request).await.unwrap();
    ada.transit.encrypt(encrypt("vault", "app")).await.unwrap();
    client.seal(by(&token, SealRequest {})).await.unwrap();
    world.unseal().await;
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    assert!(!status.unwrap().into_inner().policy_unusable);
    ada.transit.encrypt(encrypt("vault", "app")).await.unwrap();
}
