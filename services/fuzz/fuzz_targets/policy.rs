//! Rules: what is accepted reads back as itself, decides alike in any order, and says why.
#![no_main]

use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::{
    AccountType,
    auth::{ADMIN, Identity},
    policy::{Effect, Policy, PolicySet, Rule, Subjects},
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(rule) = Rule::from_json("the rule", text) {
        written(&rule);
    }
    if let Ok(policy) = Policy::from_toml("the policy", text) {
        policy.rules.iter().for_each(written);
        let _ = PolicySet::compile(&policy);
    }
    let mut lines = text.lines();
    let question = lines.next().unwrap_or_default();
    let rules: Vec<Rule> = lines.map(rule).collect();
    rules.iter().for_each(written);
    judged(question, &rules);
});

/// A line: fields with `|` between, lists with spaces.
fn rule(line: &str) -> Rule {
    let mut fields = line.split('|');
    let mut field = || fields.next().unwrap_or_default();
    let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Rule {
        name: field().to_owned(),
        description: field().to_owned(),
        priority: field().parse().unwrap_or(0),
        effect: if field().is_empty() {
            Effect::Allow
        } else {
            Effect::Deny
        },
        actions: list(field()),
        resources: list(field()),
        resource_tags: list(field()),
        subjects: Subjects {
            anyone: field().is_empty(),
            roles: list(field()),
            account_types: list(field()),
            accounts: list(field()),
            tags: list(field()),
        },
    }
}

fn written(rule: &Rule) {
    let json = serde_json::to_string(rule).expect("it is JSON");
    if let Ok(read) = Rule::from_json("the rule", &json) {
        assert_eq!(read, *rule);
    }
    let policy = Policy {
        admin_bypass: false,
        rules: vec![rule.clone()],
    };
    let toml = toml::to_string(&policy).expect("it is TOML");
    if let Ok(read) = Policy::from_toml("the policy", &toml) {
        assert_eq!(read, policy);
    }
}

fn judged(question: &str, rules: &[Rule]) {
    let mut parts = question.split('|');
    let mut part = || parts.next().unwrap_or_default();
    let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let (action, resource) = (part(), part());
    let who = Identity {
        account: "id".to_owned(),
        name: part().to_owned(),
        account_type: if part().is_empty() {
            AccountType::Human
        } else {
            AccountType::System
        },
        roles: list(part()),
        tags: list(part()),
        token: String::new(),
        session: String::new(),
        methods: Vec::new(),
        issued: UNIX_EPOCH,
        expires: UNIX_EPOCH,
    };
    let on: Vec<&str> = resource.split('/').collect();
    for admin_bypass in [false, true] {
        let compiled = |rules: Vec<Rule>| {
            PolicySet::compile(&Policy {
                admin_bypass,
                rules,
            })
        };
        let backwards = compiled(rules.iter().rev().cloned().collect());
        let Ok(set) = compiled(rules.to_vec()) else {
            assert!(backwards.is_err(), "in another order it is refused");
            return;
        };
        let backwards = backwards.expect("in another order it is accepted");
        assert!(set.order().eq(backwards.order()));
        let Ok(explained) = set.explain_to(&who, action, &on) else {
            assert!(
                set.judge(&who, action, &on).is_err(),
                "what cannot be judged may not be"
            );
            return;
        };
        let allowed = set.judge(&who, action, &on).is_ok();
        assert_eq!(allowed, backwards.judge(&who, action, &on).is_ok());
        assert_eq!(allowed, explained.decision.effect == Effect::Allow);
        let bypassed = admin_bypass && who.roles.iter().any(|role| role == ADMIN);
        let allows = |rule: &Rule| rule.effect == Effect::Allow;
        assert!(
            !allowed || bypassed || rules.iter().any(allows),
            "by no rule"
        );

        // What is asked for, as a rule's patterns, is denied whatever else there is.
        let mut more = rules.to_vec();
        more.push(Rule {
            name: "a-name-that-no-other-has".to_owned(),
            description: String::new(),
            priority: i32::MAX,
            effect: Effect::Deny,
            subjects: Subjects {
                anyone: true,
                ..Subjects::default()
            },
            actions: vec![action.to_owned()],
            resources: vec![resource.to_owned()],
            resource_tags: Vec::new(),
        });
        let denied = compiled(more).expect("names are patterns of themselves");
        assert_eq!(denied.judge(&who, action, &on).is_ok(), bypassed);
        // And of what is beside it, nothing changes.
        let beside = [&on[..], &["beside"]].concat();
        let may = |set: &PolicySet| set.judge(&who, action, &beside).is_ok();
        assert_eq!(may(&denied), may(&set));
    }
}
