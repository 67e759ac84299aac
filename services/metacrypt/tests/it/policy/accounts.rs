//! Whom a rule is about.

use mc_proto::{
    mcias::v1::{DeleteAccountRequest, GetAccountRequest},
    metacrypt::v1::{
        CreateRuleRequest, ExplainRequest, ListRulesRequest, ReplaceRulesRequest, Rule,
    },
};
use mc_testkit::wait_for_async;
use tonic::Code;

use super::{allow, encrypt, put, vault};
use crate::{
    running,
    world::{Clients, World},
};

/// An account's id.
async fn id(mcias: &mut running::Clients, name: &str) -> String {
    let request = GetAccountRequest {
        name: name.to_owned(),
    };
    let found = mcias.accounts.get_account(request).await.unwrap();
    found.into_inner().id
}

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
                version: None,
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
    // Who puts the same again may not know that it is another one.
    let again = async |admin: &mut Clients, account: &str| {
        let rule = allow("ada", &["transit:encrypt"], &["vault/keys/app"]);
        let request = CreateRuleRequest {
            rule: Some(Rule {
                accounts: vec![account.to_owned()],
                ..rule
            }),
            replace: true,
        };
        admin.system.create_rule(request).await.map(drop)
    };
    let new = format!("ada#{}", id(&mut mcias, "ada").await);
    let refused = again(&mut admin, "ada").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(
        refused.message().contains(&format!("say {new:?} if")),
        "{refused:?}"
    );
    again(&mut admin, &new).await.unwrap();
    assert!(allowed(&mut admin, "ada").await && !allowed(&mut admin, &bound).await);
    again(&mut admin, "ada").await.unwrap();
}

/// What a rule was about when it was put may be gone a day later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deny_outlives_its_account_and_is_put_again_with_all_that_is_in_force() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let everybody = Rule {
        anyone: true,
        accounts: Vec::new(),
        ..allow("all", &["transit:*"], &["vault/**"])
    };
    put(&mut admin, everybody).await;
    let deny = Rule {
        deny: true,
        ..allow("not-ada", &["**"], &["vault/**"])
    };
    put(&mut admin, deny.clone()).await;
    let hers = Rule {
        priority: 1,
        ..allow("hers", &["transit:encrypt"], &["vault/keys/app"])
    };
    put(&mut admin, hers.clone()).await;
    let rules = admin.system.list_rules(ListRulesRequest {}).await.unwrap();
    let rules = rules.into_inner().rules;
    let mut mcias = world.mcias.admin().await;
    let old = id(&mut mcias, "ada").await;
    let request = DeleteAccountRequest {
        name: "ada".to_owned(),
    };
    mcias.accounts.delete_account(request).await.unwrap();
    let again = |rule: &Rule| CreateRuleRequest {
        rule: Some(rule.clone()),
        replace: true,
    };
    let all = ReplaceRulesRequest {
        rules: rules.clone(),
        version: None,
    };
    let explain = |account: &str| ExplainRequest {
        account: account.to_owned(),
        roles: vec!["user".to_owned()],
        action: "transit:encrypt".to_owned(),
        resource: "vault/keys/app".to_owned(),
        ..ExplainRequest::default()
    };
    let judged = "; it was judged as a person with the roles user and no tags";
    // Nobody has the name, then somebody else.
    for new in [false, true] {
        if new {
            mcias.person("ada", "user").await;
        }
        admin.system.replace_rules(all.clone()).await.unwrap();
        for rule in &rules {
            admin.system.create_rule(again(rule)).await.unwrap();
        }
        let other = Rule {
            name: "other".to_owned(),
            accounts: vec![format!("ada#{old}")],
            ..deny.clone()
        };
        let nobody = "MCIAS has no account \"ada\"".to_owned();
        let another = match new {
            false => nobody.clone(),
            true => {
                let now = id(&mut mcias, "ada").await;
                format!("the account \"ada\" of MCIAS is \"ada#{now}\", not \"ada#{old}\"")
            }
        };
        // What was allowed to that one, too.
        let turned = Rule {
            name: hers.name.clone(),
            ..other.clone()
        };
        for rule in [&other, &turned] {
            let refused = admin.system.create_rule(again(rule)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
            assert!(refused.message().contains(&another), "{refused:?}");
        }
        if !new {
            // Neither in a deny of another name, nor bound to whoever comes next.
            let bare = Rule {
                name: "other".to_owned(),
                ..deny.clone()
            };
            for rule in [&bare, &hers] {
                let refused = admin.system.create_rule(again(rule)).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
                assert!(refused.message().contains(&nobody), "{refused:?}");
            }
        }
        for (account, allowed, note) in [
            ("ada".to_owned(), false, (!new).then(|| nobody.clone())),
            (format!("ada#{old}"), true, Some(another.clone())),
        ] {
            let explained = admin.system.explain(explain(&account)).await.unwrap();
            let explained = explained.into_inner();
            assert_eq!(explained.allowed, allowed, "{account}: {explained:?}");
            let note = note.map(|note| note + judged);
            assert_eq!(explained.note, note.unwrap_or_default(), "{account}");
        }
        let now = admin.system.list_rules(ListRulesRequest {}).await.unwrap();
        assert_eq!(now.into_inner().rules, rules, "as they were");
    }
    let now = id(&mut mcias, "ada").await;
    let by_id = Rule {
        name: "other".to_owned(),
        accounts: vec![format!("ada#{now}")],
        ..deny
    };
    let put = admin.system.create_rule(again(&by_id)).await.unwrap();
    assert_eq!(put.into_inner().accounts, ["ada"], "whoever has the name");
    let mut next = world.clients(&world.user().await).await;
    let refused = next.transit.encrypt(encrypt("vault", "app")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

/// Nobody can say then which tokens are good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_mcias_no_rule_is_put_or_explained_by_a_token() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let deny = Rule {
        deny: true,
        ..allow("not-ada", &["**"], &["vault/**"])
    };
    put(&mut admin, deny.clone()).await;
    world.mcias.stop().await;
    // It may have the stream for a moment yet.
    let gone = async || {
        let list = admin.system.list_rules(ListRulesRequest {}).await;
        list.is_err().then_some(())
    };
    wait_for_async("MCIAS is known to be away", gone)
        .await
        .unwrap();
    let one = CreateRuleRequest {
        rule: Some(Rule {
            name: "more".to_owned(),
            ..deny
        }),
        replace: false,
    };
    let all = ReplaceRulesRequest::default();
    let explain = ExplainRequest {
        account: "ada".to_owned(),
        action: "transit:encrypt".to_owned(),
        resource: "vault/keys/app".to_owned(),
        ..ExplainRequest::default()
    };
    for (what, answer) in [
        ("one", admin.system.create_rule(one).await.map(drop)),
        ("all", admin.system.replace_rules(all).await.map(drop)),
        ("explain", admin.system.explain(explain).await.map(drop)),
    ] {
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
        assert!(refused.message().contains("MCIAS"), "{what}: {refused:?}");
    }
    let changes = ["/CreateRule", "/ReplaceRules"];
    let rows = world.audit();
    let done = rows
        .iter()
        .filter(|row| row.2 == "OK" && changes.iter().any(|change| row.0.ends_with(change)));
    assert_eq!(done.count(), 1, "that of before");
}

/// A deny about nobody protects nothing, and who puts it believes that it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_about_an_account_that_there_is_not_is_refused_by_its_name() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    let mut mcias = world.mcias.admin().await;
    mcias.person("bob", "user").await;
    let [ada, bob] = [id(&mut mcias, "ada").await, id(&mut mcias, "bob").await];
    let nobody = "MCIAS has no account \"nobody\"";
    let other = format!("the account \"ada\" of MCIAS is \"ada#{ada}\"");
    for deny in [true, false] {
        for (description, accounts, said) in [
            ("nobody's name", vec!["nobody".to_owned()], Some(nobody)),
            (
                "beside one that is somebody's",
                vec!["ada".to_owned(), "nobody".to_owned()],
                Some(nobody),
            ),
            (
                "nobody's name with an id",
                vec![format!("nobody#{ada}")],
                Some(nobody),
            ),
            (
                "another's id",
                vec![format!("ada#{bob}")],
                Some(other.as_str()),
            ),
            ("one of both", vec![format!("ada#{ada}")], None),
        ] {
            let rule = Rule {
                deny,
                accounts,
                ..allow("r", &["transit:encrypt"], &["vault/**"])
            };
            let one = CreateRuleRequest {
                rule: Some(rule.clone()),
                replace: true,
            };
            let all = ReplaceRulesRequest {
                rules: vec![rule],
                version: None,
            };
            for answer in [
                admin.system.create_rule(one).await.map(drop),
                admin.system.replace_rules(all).await.map(drop),
            ] {
                let Some(said) = said else {
                    answer.unwrap();
                    continue;
                };
                let what = format!("{description}, deny: {deny}: {answer:?}");
                let refused = answer.expect_err(&what);
                assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
                let told = refused.message();
                assert!(
                    told.starts_with("accounts: ") && told.contains(said),
                    "{what}"
                );
            }
        }
    }
}
