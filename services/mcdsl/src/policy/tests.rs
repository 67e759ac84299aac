//! What rules say, by table.

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
fn every_rule_is_explained() {
    let explained = policy().explain(
        &alice(),
        &action("pki:issue"),
        &on("pki/infra/root.example.org"),
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

#[test]
fn a_rule_that_is_not_understood_is_named() {
    type Change = fn(&mut Rule);
    let changes: [(&str, Change, &str); 12] = [
        (
            "a name",
            |r| r.name = "a b".into(),
            r#""a b" cannot name a rule: ' ' is in no name"#,
        ),
        (
            "nobody",
            |r| r.subjects.anyone = false,
            "rule one: subjects is empty; write `anyone = true`",
        ),
        (
            "everybody and some",
            |r| r.subjects.roles = vec!["x".into()],
            "rule one: subjects: `anyone` is there beside",
        ),
        (
            "no actions",
            |r| r.actions.clear(),
            "rule one: actions is empty",
        ),
        (
            "no resources",
            |r| r.resources.clear(),
            "rule one: resources is empty",
        ),
        (
            "an action",
            |r| r.actions.push("A:b".into()),
            r#"rule one: actions: "A:b" is not valid: 'A' is upper case"#,
        ),
        (
            "above",
            |r| r.resources.push("a/../b".into()),
            r#"rule one: resources: "a/../b" is not valid: `.` and `..`"#,
        ),
        (
            "stars",
            |r| r.resources.push("**/b".into()),
            r#"rule one: resources: "**/b" is not valid: `*` is in patterns"#,
        ),
        (
            "a tag",
            |r| r.resource_tags.push("a*".into()),
            r#"rule one: resource_tags: "a*" is not valid: `*`"#,
        ),
        (
            "too many",
            |r| r.resources = vec!["a".into(); 65],
            "rule one: resources has more than 64 entries",
        ),
        (
            "a type",
            |r| {
                r.subjects = Subjects {
                    account_types: vec!["robot".into()],
                    ..Subjects::default()
                };
            },
            r#"rule one: subjects.account_types: "robot" is neither"#,
        ),
        (
            "a role",
            |r| {
                r.subjects = Subjects {
                    roles: vec![String::new()],
                    ..Subjects::default()
                };
            },
            r#"rule one: subjects.roles: "" is not valid: it is empty"#,
        ),
    ];
    for (description, change, wanted) in changes {
        let mut one = rule("one", 0, Effect::Allow, "**");
        change(&mut one);
        let rules = vec![one];
        let error = PolicySet::compile(&Policy {
            admin_bypass: false,
            rules,
        })
        .unwrap_err();
        let text = chain(&error);
        assert!(text.starts_with(wanted), "{description}: {text}");
    }
    let one = rule("one", 0, Effect::Allow, "**");
    let compile = |rules| {
        PolicySet::compile(&Policy {
            admin_bypass: false,
            rules,
        })
    };
    assert!(matches!(
        compile(vec![one.clone(), one.clone()]),
        Err(PolicyError::Duplicate(_))
    ));
    assert!(matches!(
        compile(vec![one; 1025]),
        Err(PolicyError::TooManyRules(1025))
    ));
}

#[test]
fn texts() {
    let json = r#"{"name":"a","effect":"deny","subjects":{"anyone":true},"actions":["**"],"resources":["**"]}"#;
    let parsed = Rule::from_json("rule 7", json).unwrap();
    assert_eq!(
        serde_json::to_string(&parsed).unwrap(),
        json.replace(r#""effect""#, r#""priority":0,"effect""#)
    );
    for (description, text, wanted) in [
        (
            "an unknown key",
            json.replace(r#""name""#, r#""nmae":1,"name""#),
            "rule 7 is not a rule in JSON: unknown field `nmae`",
        ),
        (
            "an unknown subject",
            json.replace("anyone", "anybody"),
            "rule 7 is not a rule in JSON: unknown field `anybody`",
        ),
        (
            "a key twice",
            json.replace(r#""name""#, r#""name":"b","name""#),
            "rule 7 is not a rule in JSON: duplicate field `name`",
        ),
        (
            "another effect",
            json.replace("deny", "Allow"),
            "rule 7 is not a rule in JSON: unknown variant `Allow`",
        ),
        (
            "no subjects",
            json.replace(r#""subjects":{"anyone":true},"#, ""),
            "rule 7 is not a rule in JSON: missing field `subjects`",
        ),
        (
            "half",
            json[..20].to_owned(),
            "rule 7 is not a rule in JSON: EOF",
        ),
        (
            "long",
            " ".repeat(MAX_RULE_TEXT + 1),
            "rule 7 is longer than 65536 bytes",
        ),
    ] {
        let text = chain(&Rule::from_json("rule 7", &text).unwrap_err());
        assert!(text.starts_with(wanted), "{description}: {text}");
    }
    let error =
        Policy::from_toml("policy.toml", &POLICY.replace("priority", "prioriti")).unwrap_err();
    assert!(
        chain(&error).contains("unknown field `prioriti`"),
        "{}",
        chain(&error)
    );
}

#[test]
fn who_cannot_be_judged_is_nobody() {
    let identity = Identity {
        account: "0193".into(),
        name: "alice".into(),
        account_type: AccountType::Human,
        roles: vec!["user".into(), "operator".into()],
        tags: vec!["env:prod".into(), "team:web".into()],
        token: String::new(),
        methods: Vec::new(),
        expires: std::time::UNIX_EPOCH,
    };
    assert_eq!(Subject::try_from(&identity), Ok(alice()));
    type Change = fn(&mut Identity);
    let changes: [(&str, Change); 5] = [
        ("a name that is a pattern", |i| i.name = "*".into()),
        ("a name that is a path", |i| i.name = "a/b".into()),
        ("no account", |i| i.account.clear()),
        ("a role that is none", |i| i.roles.push("a b".into())),
        ("too many tags", |i| {
            i.tags = (0..65).map(|n| n.to_string()).collect()
        }),
    ];
    for (description, change) in changes {
        let mut changed = identity.clone();
        change(&mut changed);
        assert!(Subject::try_from(&changed).is_err(), "{description}");
    }
}
