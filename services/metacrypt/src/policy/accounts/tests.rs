use std::{net::TcpListener, slice};

use mc_proto::metacrypt::v1::{
    CreateRuleRequest, ExplainRequest, ListRulesRequest, ReplaceRulesRequest, Rule,
    system_server::System as _,
};
use mcdsl::audit::Detail;
use tonic::{Code, Request, Status};

use super::*;
use crate::{
    api::Api,
    policy::{CHANGES, parse},
    testing::{World, asks_at, caller},
};

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

/// Each by itself and all in the place of the others.
async fn put(api: &Api, rule: Rule, whole: bool) -> Result<(), Status> {
    if whole {
        let rules = vec![rule];
        let all = ReplaceRulesRequest {
            rules,
            version: None,
        };
        let put = api.replace_rules(by(CHANGES[2], all));
        return put.await.map(drop);
    }
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: true,
    };
    let put = api.create_rule(by(CHANGES[0], request));
    put.await.map(drop)
}

/// Has this rule in force, whoever there is.
async fn has(world: &World, rule: &Rule) {
    let (by, rule) = (caller("root", "admin", CHANGES[2]), parse(rule.clone()));
    let all = move |all: &mut Vec<_>| {
        *all = vec![rule];
        Ok(())
    };
    let changed = world.metacrypt.change_policy(&by, true, Detail::new(), all);
    changed.await.unwrap();
}

async fn rules(api: &Api) -> Vec<Rule> {
    let list = api.list_rules(by("/test/List", ListRulesRequest {})).await;
    list.unwrap().into_inner().rules
}

#[tokio::test]
async fn while_mcias_is_away_only_accounts_that_the_rule_has_already_are_put() {
    let world = World::vault().await;
    let api = world.away();
    let denies = rule("r", true, &["ada", "zoe"]);
    let allows = rule("r", false, &["ada#1", "zoe#1"]);
    let bare = rule("r", false, &["ada"]);
    let other = rule("other", true, &["ada", "zoe"]);
    for (description, before, next, asked) in [
        ("a new name", &denies, rule("r", true, &["bob"]), "bob"),
        ("with its id", &denies, rule("r", true, &["bob#1"]), "bob"),
        (
            "beside others",
            &denies,
            rule("r", true, &["ada", "bob", "zoe"]),
            "bob",
        ),
        (
            "what is allowed to a new id",
            &allows,
            rule("r", false, &["bob#1"]),
            "bob",
        ),
        ("to a name", &allows, rule("r", false, &["zoe"]), "zoe"),
        (
            "to a name that was denied",
            &denies,
            rule("r", false, &["ada"]),
            "ada",
        ),
        (
            "to a name of before",
            &bare,
            rule("r", false, &["ada"]),
            "ada",
        ),
        ("of another rule", &other, denies.clone(), "ada"),
        ("the same", &denies, denies.clone(), ""),
        ("less", &denies, rule("r", true, &["zoe"]), ""),
        ("what is allowed to ids", &allows, allows.clone(), ""),
        (
            "what is denied to them",
            &allows,
            rule("r", true, &["ada#1"]),
            "ada",
        ),
        ("everybody", &denies, rule("r", true, &[]), ""),
    ] {
        for whole in [false, true] {
            has(&world, before).await;
            let told = put(&api, next.clone(), whole).await;
            if asked.is_empty() {
                told.unwrap();
                assert_eq!(rules(&api).await, slice::from_ref(&next), "{description}");
                continue;
            }
            let refused = told.expect_err(description);
            assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
            let said = format!("MCIAS does not say whose name \"{asked}\" is");
            let told = refused.message();
            assert!(
                told.starts_with(&said) && told.ends_with("try again"),
                "{description}: {told}"
            );
            assert_eq!(rules(&api).await, slice::from_ref(before), "{description}");
        }
    }
}

/// Nobody can tell what a policy that somebody else changed had.
#[tokio::test]
async fn in_the_place_of_a_policy_that_cannot_be_used_accounts_are_taken_as_they_are() {
    let world = World::vault().await;
    let api = world.away();
    has(&world, &rule("all", false, &[])).await;
    let gone = "DELETE FROM item WHERE mount = (SELECT number FROM mount WHERE name = 'system') AND path = 'policy'";
    world.db().execute(gone, []).unwrap();
    put(&api, rule("more", false, &[]), false)
        .await
        .unwrap_err();
    let bare = put(&api, rule("r", false, &["ada"]), true).await;
    assert_eq!(bare.unwrap_err().code(), Code::Unavailable);
    let [denies, allows] = [
        rule("d", true, &["ada", "zoe"]),
        rule("a", false, &["ada#1"]),
    ];
    let all = ReplaceRulesRequest {
        rules: vec![denies.clone(), allows.clone()],
        version: None,
    };
    api.replace_rules(by(CHANGES[2], all)).await.unwrap();
    assert_eq!(rules(&api).await, [denies, allows]);
}

#[tokio::test]
async fn mcias_is_asked_for_so_many_names_and_for_so_long() {
    let world = World::vault().await;
    let api = world.away();
    for (number, code) in [(256, Code::Unavailable), (257, Code::InvalidArgument)] {
        let names: Vec<_> = (0..number).map(|n| format!("n{n}")).collect();
        let parts = names.chunks(64).enumerate();
        let rules = parts.map(|(n, names)| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            rule(&format!("r{n}"), true, &names)
        });
        let rules = rules.collect();
        let all = ReplaceRulesRequest {
            rules,
            version: None,
        };
        let put = api.replace_rules(by(CHANGES[2], all));
        let refused = put.await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        let many = refused.message().contains("257 accounts, more than 256");
        assert_eq!(many, number == 257, "{refused:?}");
    }
    // Nobody says anything there.
    let silent = TcpListener::bind(("localhost", 0)).unwrap();
    let mcias = asks_at(silent.local_addr().unwrap().port());
    let said = Said::of(&mcias, &BTreeSet::from(["ada"]), Duration::ZERO).await;
    let told = said.err().unwrap().to_string();
    assert!(told.contains("takes too long"), "{told}");
}

#[tokio::test]
async fn while_mcias_is_away_nothing_is_explained_of_an_account() {
    let world = World::vault().await;
    let api = world.away();
    for account in ["ada", "ada#1"] {
        let request = ExplainRequest {
            account: account.to_owned(),
            action: "transit:read".to_owned(),
            resource: "vault/keys/app".to_owned(),
            ..ExplainRequest::default()
        };
        let refused = api.explain(by("/test/Explain", request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
}
