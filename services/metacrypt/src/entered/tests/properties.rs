//! That what is explained is what is done, whatever the rules say.

use mcdsl::policy::{Policy, PolicySet};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::testing::nothing;

/// Rules, and an account, its role, an action, a mount and a path in it.
type Asked = (
    Vec<Rule>,
    &'static str,
    &'static str,
    Act,
    &'static str,
    Vec<&'static str>,
);

const WORDS: [&str; 4] = ["a", "b", "ab", "keys"];

fn words() -> impl Strategy<Value = Vec<String>> {
    vec(select(&WORDS[..]).prop_map(str::to_owned), 0..3)
}

fn patterns(
    segments: &'static [&'static str],
    separator: &'static str,
) -> impl Strategy<Value = Vec<String>> {
    let pattern = (vec(select(segments), 1..4), any::<bool>()).prop_map(move |(mut all, open)| {
        if open {
            all.push("**");
        }
        all.join(separator)
    });
    vec(prop_oneof![pattern, Just("**".to_owned())], 1..3)
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let actions = patterns(&["transit", "read", "encrypt", "*"], ":");
    let resources = patterns(&["a", "b", "ab", "keys", "*", "a*", "*b"], "/");
    let rule = (
        -1..2_i32,
        any::<bool>(),
        words(),
        words(),
        actions,
        resources,
    );
    let rule = rule.prop_map(
        |(priority, deny, accounts, roles, actions, resources)| Rule {
            name: String::new(),
            description: String::new(),
            priority,
            effect: if deny { Effect::Deny } else { Effect::Allow },
            subjects: Subjects {
                anyone: accounts.is_empty() && roles.is_empty(),
                accounts,
                roles,
                ..Subjects::default()
            },
            actions,
            resources,
            resource_tags: Vec::new(),
        },
    );
    let named = |mut rules: Vec<Rule>| {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("r{number}");
        }
        rules
    };
    vec(rule, 0..8).prop_map(named)
}

#[test]
fn explaining_says_what_a_visit_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async {
        let world = World::open().await;
        let mount = world.metacrypt.mount("a", "transit", nothing());
        mount.await.unwrap();
        world
    });
    let open = world.metacrypt.open().unwrap();
    let asked = (
        rules(),
        select(&WORDS[..]),
        select(vec!["a", "b", "admin"]),
        select(action::ALL),
        select(&WORDS[..]),
        vec(select(&WORDS[..]), 0..3),
    );
    let mut runner = TestRunner::new(Config::with_cases(2048));
    let judged = |(rules, account, role, act, mount, on): Asked| {
        let set = PolicySet::compile(&Policy {
            admin_bypass: true,
            rules,
        });
        let in_force = policy::InForce {
            version: 0,
            set: Arc::new(set.unwrap()),
            rules: Vec::new(),
            unusable: None,
        };
        policy::apply(&open, in_force);
        let who = caller(account, role, "/test/Judge");
        let subject = Subject::try_from(who.identity.as_ref().unwrap()).unwrap();
        let path = [mount].into_iter().chain(on.iter().copied());
        let name = ResourceName::of(path).unwrap();
        let why = policy::of(&open).unwrap();
        let why = why.explain(&subject, &act.typed(), &name.into()).decision;
        let allowed = why.effect == Effect::Allow;
        let visit = world.metacrypt.visit(&who, &KIND, mount).unwrap();
        prop_assert_eq!(visit.may(act, &on), allowed);
        match visit.judge(act, &[&on]) {
            Ok(at) => {
                prop_assert!(allowed && mount == "a");
                prop_assert_eq!(at.proof().unwrap().reason(), &why.reason);
            }
            Err(EngineError::NotFound(..)) => prop_assert!(allowed && mount != "a"),
            Err(EngineError::Refused(Refused::Denied(denied))) => {
                prop_assert!(!allowed);
                prop_assert_eq!(denied.reason, why.reason);
            }
            Err(other) => panic!("{other:?}"),
        }
        Ok(())
    };
    runner.run(&asked, judged).unwrap();
}
