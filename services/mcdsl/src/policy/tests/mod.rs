//! What rules say, by table.

mod refused;

use mc_proto::AccountType;

use super::*;
use crate::cli::chain;

pub(super) fn rule(name: &str, priority: i32, effect: Effect, resources: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        description: String::new(),
        priority,
        effect,
        subjects: Subjects {
            anyone: true,
            ..Subjects::default()
        },
        actions: vec!["**".to_owned()],
        resources: vec![resources.to_owned()],
        resource_tags: Vec::new(),
    }
}

pub(super) fn compile(admin_bypass: bool, rules: &[Rule]) -> PolicySet {
    let rules = rules.to_vec();
    PolicySet::compile(&Policy {
        admin_bypass,
        rules,
    })
    .unwrap()
}

fn alice() -> Subject {
    let set = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect();
    Subject {
        account: "0193".parse().unwrap(),
        name: "alice".parse().unwrap(),
        account_type: AccountType::Human,
        roles: set(&["user", "operator"]),
        tags: set(&["env:prod", "team:web"]),
    }
}

fn on(name: &str) -> Resource {
    Resource::from(name.parse::<ResourceName>().unwrap())
}

fn action(text: &str) -> Action {
    text.parse().unwrap()
}

const POLICY: &str = r#"
admin_bypass = true

[[rules]]
name = "operators-issue"
description = "Operators get certificates of the inner zone"
effect = "allow"
subjects = { roles = ["operator"], account_types = ["human"] }
actions = ["pki:issue", "pki:read"]
resources = ["pki/infra/*.example.org"]

[[rules]]
name = "not-the-root"
priority = 10
effect = "deny"
subjects = { anyone = true }
actions = ["**"]
resources = ["pki/infra/root.example.org"]

[[rules]]
name = "prod-logins"
effect = "allow"
subjects = { tags = ["env:prod", "team:web"] }
actions = ["auth:login"]
resources = ["*"]
resource_tags = ["env:prod"]

[[rules]]
name = "the-agent"
effect = "allow"
subjects = { accounts = ["agent"], account_types = ["system"] }
actions = ["pki:**"]
resources = ["**"]
"#;

fn policy() -> PolicySet {
    PolicySet::compile(&Policy::from_toml("policy.toml", POLICY).unwrap()).unwrap()
}

#[test]
fn decisions() {
    let login = |tags: &[&str]| {
        let tags: Vec<_> = tags.iter().map(|t| (*t).to_owned()).collect();
        Resource::tagged("metacrypt".parse().unwrap(), &tags).unwrap()
    };
    let rule = |name: &str| Reason::Rule(name.parse().unwrap());
    let mut agent = alice();
    agent.name = "agent".parse().unwrap();
    agent.account_type = AccountType::System;
    let mut admin = alice();
    admin.roles.insert(ADMIN.parse().unwrap());
    let mut poor = alice();
    poor.tags.pop_last();
    for (description, subject, what, resource, effect, reason) in [
        (
            "by role",
            alice(),
            "pki:issue",
            on("pki/infra/a.example.org"),
            Effect::Allow,
            rule("operators-issue"),
        ),
        (
            "an action beside",
            alice(),
            "pki:revoke",
            on("pki/infra/a.example.org"),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "a name beside",
            alice(),
            "pki:issue",
            on("pki/infra/a.example.net"),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "deeper",
            alice(),
            "pki:issue",
            on("pki/infra/x/a.example.org"),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "denied above",
            alice(),
            "pki:issue",
            on("pki/infra/root.example.org"),
            Effect::Deny,
            rule("not-the-root"),
        ),
        (
            "case counts",
            alice(),
            "pki:issue",
            on("PKI/infra/a.example.org"),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "login",
            alice(),
            "auth:login",
            login(&["env:prod", "x"]),
            Effect::Allow,
            rule("prod-logins"),
        ),
        (
            "login elsewhere",
            alice(),
            "auth:login",
            login(&["env:test"]),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "login without a tag",
            poor,
            "auth:login",
            login(&["env:prod"]),
            Effect::Deny,
            Reason::Default,
        ),
        (
            "by account",
            agent.clone(),
            "pki:revoke",
            on("pki/x"),
            Effect::Allow,
            rule("the-agent"),
        ),
        (
            "denied to it too",
            agent,
            "pki:read",
            on("pki/infra/root.example.org"),
            Effect::Deny,
            rule("not-the-root"),
        ),
        (
            "an admin",
            admin,
            "pki:read",
            on("pki/infra/root.example.org"),
            Effect::Allow,
            Reason::AdminBypass,
        ),
    ] {
        let explained = policy().explain(&subject, &action(what), &resource);
        assert_eq!(
            explained.decision,
            Decision {
                effect,
                reason: reason.clone()
            },
            "{description}"
        );
        match policy().authorize(&subject, &action(what), &resource) {
            Ok(authorized) => {
                assert_eq!(effect, Effect::Allow, "{description}");
                assert_eq!(
                    (authorized.resource(), authorized.reason()),
                    (&resource, &reason),
                    "{description}"
                );
                assert_eq!(
                    (authorized.subject(), authorized.action()),
                    (&subject, &action(what)),
                    "{description}"
                );
            }
            Err(denied) => {
                assert_eq!(effect, Effect::Deny, "{description}");
                assert_eq!(denied.reason, reason, "{description}");
            }
        }
    }
}

#[test]
fn bypass_is_asked_for() {
    let mut admin = alice();
    admin.roles.insert(ADMIN.parse().unwrap());
    let asked = |bypass, rules: &[Rule]| {
        compile(bypass, rules)
            .explain(&admin, &action("x"), &on("a"))
            .decision
    };
    assert_eq!(asked(false, &[]).reason, Reason::Default);
    assert_eq!(
        asked(true, &[rule("no", 9, Effect::Deny, "**")]).reason,
        Reason::AdminBypass
    );
}

#[test]
fn a_rule_that_says_an_accounts_id_is_about_no_other_of_its_name() {
    let decided = |accounts: &[&str], id: &str| {
        let mut one = rule("one", 0, Effect::Allow, "**");
        one.subjects = Subjects {
            accounts: accounts.iter().map(|name| (*name).to_owned()).collect(),
            ..Subjects::default()
        };
        let who = Subject {
            account: id.parse().unwrap(),
            ..alice()
        };
        compile(false, &[one]).explain(&who, &action("a:b"), &on("r"))
    };
    for (description, accounts, id, wanted) in [
        ("by name", &["alice"][..], "0193", ""),
        ("by name, whatever the id", &["alice"], "0194", ""),
        ("by name and id", &["alice#0193"], "0193", ""),
        (
            "another of the name",
            &["alice#0193"],
            "0194",
            "it is about the account alice#0193, not alice#0194",
        ),
        ("either", &["alice#0193", "alice"], "0194", ""),
        ("one of them", &["bob#0194", "alice#0193"], "0193", ""),
        (
            "another name of the id",
            &["bob#0193"],
            "0193",
            "it is about the account bob#0193, not alice",
        ),
    ] {
        let explained = decided(accounts, id);
        let allowed = explained.decision.effect == Effect::Allow;
        assert_eq!(allowed, wanted.is_empty(), "{description}");
        let why = explained.why[0].to_string();
        assert!(why.ends_with(wanted), "{description}: {why}");
    }
    for accounts in ["alice#", "#0193", "alice#0193#1", "alice#*"] {
        let mut one = rule("one", 0, Effect::Allow, "**");
        one.subjects.anyone = false;
        one.subjects.accounts = vec![accounts.to_owned()];
        let policy = Policy {
            admin_bypass: false,
            rules: vec![one],
        };
        let refused = PolicySet::compile(&policy).unwrap_err();
        assert!(chain(&refused).contains("accounts"), "{refused:?}");
    }
}

#[test]
fn every_rule_is_explained() {
    let explained = policy().explain(
        &alice(),
        &action("pki:issue"),
        &on("pki/infra/root.example.org"),
    );
    let policy = policy();
    let order = explained.why.iter().map(|rule| &rule.rule);
    assert!(
        policy.order().eq(order),
        "the rules' order is said alone too"
    );
    assert_eq!(
        explained.to_string(),
        "alice may not pki:issue on pki/infra/root.example.org: rule not-the-root
  rule not-the-root (priority 10, deny) decides
  rule operators-issue (priority 0, allow) matches, but what is before it decides
  rule prod-logins (priority 0, allow) does not match: pki:issue is not the action auth:login
  rule the-agent (priority 0, allow) does not match: it is not about human accounts"
    );
    assert_eq!(
        serde_json::to_value(&explained).unwrap(),
        serde_json::json!({
            "effect": "deny", "reason": {"rule": "not-the-root"},
            "subject": "alice", "action": "pki:issue", "resource": "pki/infra/root.example.org",
            "why": [
                {"rule": "not-the-root", "priority": 10, "effect": "deny", "part": "decided"},
                {"rule": "operators-issue", "priority": 0, "effect": "allow", "part": "outranked"},
                {"rule": "prod-logins", "priority": 0, "effect": "allow", "part": "no_match",
                 "because": {"field": "action", "wanted": ["auth:login"], "is": "pki:issue"}},
                {"rule": "the-agent", "priority": 0, "effect": "allow", "part": "no_match",
                 "because": {"field": "account_type", "is": "human"}},
            ],
        })
    );
}

#[test]
fn mismatches_are_sentences() {
    type Change = fn(&mut Rule);
    let changes: [(Change, &str); 7] = [
        (
            |r| r.subjects.roles = vec!["admin".into()],
            "it wants the role admin, the account has operator, user",
        ),
        (
            |r| r.subjects.roles = vec!["a".into(), "b".into()],
            "it wants one of a, b, the account has operator, user",
        ),
        (
            |r| r.subjects.accounts = vec!["bob".into()],
            "it is about the account bob, not alice",
        ),
        (
            |r| r.subjects.tags = vec!["env:prod".into(), "x".into()],
            "the account has not the tag x",
        ),
        (
            |r| r.actions = vec!["b".into(), "c:*".into()],
            "a:b is not one of b, c:*",
        ),
        (|r| r.resources = vec!["s/*".into()], "r is not under s/*"),
        (
            |r| r.resource_tags = vec!["t".into()],
            "the resource has not the tag t",
        ),
    ];
    for (change, wanted) in changes {
        let mut one = rule("one", 0, Effect::Allow, "**");
        change(&mut one);
        let named = !(one.subjects.roles.is_empty()
            && one.subjects.accounts.is_empty()
            && one.subjects.tags.is_empty());
        one.subjects.anyone = !named;
        let explained = compile(false, &[one]).explain(&alice(), &action("a:b"), &on("r"));
        let text = explained.why[0].to_string();
        assert_eq!(
            text,
            format!("rule one (priority 0, allow) does not match: {wanted}")
        );
    }
}

#[test]
fn a_list_shows_what_may_be_read() {
    let things = [
        "pki/infra/a.example.org",
        "pki/infra/root.example.org",
        "pki/other/b",
    ]
    .map(on);
    let (alice, read) = (alice(), action("pki:read"));
    let policy = policy();
    let seen: Vec<_> = policy
        .filter(&alice, &read, &things)
        .map(|r| r.name.as_str())
        .collect();
    assert_eq!(seen, ["pki/infra/a.example.org"]);
    assert_eq!(
        policy.filter(&alice, &action("pki:list"), &things).count(),
        0
    );
}
