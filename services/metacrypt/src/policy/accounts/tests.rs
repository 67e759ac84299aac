use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use mc_proto::metacrypt::v1::{
    CreateRuleRequest, ExplainRequest, ListRulesRequest, ReplaceRulesRequest, Rule,
    system_server::System as _,
};
use mc_testkit::{ca::Ca, port::free};
use mcdsl::{auth::client::Config, clock::Clock};
use tonic::{Code, Request, Status};

use super::*;
use crate::{
    api::Api,
    engine::transit::{KIND, action},
    policy::CHANGES,
    testing::{World, caller},
};

/// Nobody answers where MCIAS is.
fn away(world: &World) -> Api {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let config = Config {
        server_url: format!("https://localhost:{}", free().port()),
        ca_cert: file("ca.pem", &Ca::new().unwrap().pem()),
        service_name: "metacrypt".to_owned(),
        token_file: file("token", "a.b.c"),
    };
    let client = Client::new(&config, Clock::default()).unwrap();
    assert!(world.metacrypt.mcias.set(client).is_ok());
    Api(Arc::clone(&world.metacrypt))
}

fn by<T>(method: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let caller = caller("root", "admin", method);
    request.extensions_mut().insert(caller);
    request
}

fn rule(name: &str, deny: bool, accounts: &[&str]) -> Rule {
    Rule {
        name: name.to_owned(),
        deny,
        anyone: accounts.is_empty(),
        accounts: accounts
            .iter()
            .map(|account| (*account).to_owned())
            .collect(),
        actions: vec!["transit:read".to_owned()],
        resources: vec!["vault/**".to_owned()],
        ..Rule::default()
    }
}

/// Each by itself and all in the place of the others; what is said not to have been checked.
async fn put(api: &Api, rule: Rule, whole: bool) -> Result<Vec<String>, Status> {
    if whole {
        let rules = vec![rule];
        let put = api.replace_rules(by(CHANGES[2], ReplaceRulesRequest { rules }));
        return Ok(put.await?.into_inner().unchecked_accounts);
    }
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: true,
    };
    let put = api.create_rule(by(CHANGES[0], request)).await?.into_inner();
    Ok(put.unchecked_accounts)
}

#[tokio::test]
async fn while_mcias_is_away_a_deny_is_stored_as_it_is_written_and_says_what_was_not_checked() {
    let world = World::vault().await;
    let api = away(&world);
    for (description, deny, accounts, wanted) in [
        ("a deny of a name", true, &["ada"][..], Ok(&["ada"][..])),
        (
            "of names and ids",
            true,
            &["zoe#2", "ada", "ada#1"],
            Ok(&["ada", "ada#1", "zoe#2"]),
        ),
        ("of everybody", true, &[], Ok(&[])),
        (
            "what is allowed to an id",
            false,
            &["ada#1"],
            Ok(&["ada#1"]),
        ),
        ("to everybody", false, &[], Ok(&[])),
        ("to a name", false, &["ada"], Err("\"ada\"")),
        (
            "to an id and a name",
            false,
            &["ada#1", "zoe"],
            Err("\"zoe\""),
        ),
    ] {
        for whole in [false, true] {
            let told = put(&api, rule("r", deny, accounts), whole).await;
            match (told, wanted) {
                (Ok(told), Ok(wanted)) => {
                    assert_eq!(told, wanted, "{description}");
                    let list = api.list_rules(by("/test/List", ListRulesRequest {})).await;
                    let rules = list.unwrap().into_inner().rules;
                    assert_eq!(rules, [rule("r", deny, accounts)], "{description}");
                    let (.., detail) = world
                        .audit()
                        .into_iter()
                        .rfind(|row| row.1 == CHANGES[if whole { 2 } else { 0 }])
                        .unwrap();
                    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
                    let unchecked = match wanted.is_empty() {
                        true => serde_json::Value::Null,
                        false => wanted.into(),
                    };
                    assert_eq!(detail["unchecked"], unchecked, "{description}");
                }
                (Err(refused), Err(name)) => {
                    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                    let said = format!("MCIAS does not say whose name {name} is");
                    let told = refused.message();
                    assert!(
                        told.starts_with(&said) && told.contains("with its id"),
                        "{told}"
                    );
                }
                (told, _) => panic!("{description}: {told:?}"),
            }
        }
    }
}

#[tokio::test]
async fn while_mcias_is_away_a_deny_holds_and_is_explained_by_what_is_written() {
    let world = World::vault().await;
    let api = away(&world);
    put(&api, rule("all", false, &[]), false).await.unwrap();
    put(&api, rule("no-ada", true, &["ada"]), false)
        .await
        .unwrap();
    put(&api, rule("no-zoe", true, &["zoe#id-of-zoe"]), false)
        .await
        .unwrap();
    for sealed in [false, true] {
        if sealed {
            world.metacrypt.close().await;
            world.unseal().await;
        }
        for (who, may) in [("ada", false), ("zoe", false), ("bob", true)] {
            let caller = caller(who, "user", "/test/Transit");
            let entered =
                world
                    .metacrypt
                    .enter(&caller, &KIND, action::READ, "vault", &["keys", "app"]);
            assert_eq!(entered.is_ok(), may, "{who}");
            for (account, answers) in [
                (who.to_owned(), false),
                (format!("{who}#id-of-{who}"), true),
            ] {
                let request = ExplainRequest {
                    account,
                    action: "transit:read".to_owned(),
                    resource: "vault/keys/app".to_owned(),
                    ..ExplainRequest::default()
                };
                let explained = api.explain(by("/test/Explain", request)).await;
                match explained {
                    Ok(explained) if answers => {
                        assert_eq!(explained.into_inner().allowed, may, "{who}")
                    }
                    Err(refused) if !answers => {
                        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                        let said = format!("whose name \"{who}\" is");
                        assert!(refused.message().contains(&said), "{refused:?}");
                    }
                    explained => panic!("{who}: {explained:?}"),
                }
            }
        }
    }
}
