//! What holds for every policy.

use mc_proto::AccountType;
use proptest::{collection::vec, prelude::*, sample::select};

use super::{tests::compile, *};

const WORDS: [&str; 3] = ["a", "b", "ab"];

fn words() -> impl Strategy<Value = Vec<String>> {
    vec(select(&WORDS[..]).prop_map(str::to_owned), 0..3)
}

fn patterns(separator: char) -> impl Strategy<Value = Vec<String>> {
    let segment = select(&["a", "b", "ab", "*", "a*", "*b"][..]);
    let pattern = (vec(segment, 1..3), any::<bool>()).prop_map(move |(mut segments, open)| {
        if open {
            segments.push("**");
        }
        segments.join(&separator.to_string())
    });
    vec(prop_oneof![pattern, Just("**".to_owned())], 1..3)
}

/// Few words and priorities, so that rules meet.
fn rule() -> impl Strategy<Value = Rule> {
    let types = vec(
        select(&["human", "system"][..]).prop_map(str::to_owned),
        0..2,
    );
    let subjects = prop_oneof![
        1 => Just(Subjects { anyone: true, ..Subjects::default() }),
        2 => (words(), types, words(), words()).prop_map(|(roles, account_types, accounts, tags)| {
            let anyone = roles.is_empty() && account_types.is_empty() && accounts.is_empty() && tags.is_empty();
            Subjects { anyone, roles, account_types, accounts, tags }
        }),
    ];
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Deny)];
    (
        -2..3_i32,
        effect,
        subjects,
        patterns(':'),
        patterns('/'),
        words(),
    )
        .prop_map(
            |(priority, effect, subjects, actions, resources, resource_tags)| Rule {
                name: String::new(),
                description: String::new(),
                priority,
                effect,
                subjects,
                actions,
                resources,
                resource_tags,
            },
        )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 0..8).prop_map(|rules| named("r", rules))
}

fn named(prefix: &str, mut rules: Vec<Rule>) -> Vec<Rule> {
    for (i, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("{prefix}{i}");
    }
    rules
}

type Question = (Subject, Action, Resource);

fn question() -> impl Strategy<Value = Question> {
    let set = || {
        words().prop_map(|w| {
            w.iter()
                .map(|n| n.parse().unwrap())
                .collect::<BTreeSet<_>>()
        })
    };
    let name = |separator: &'static str| {
        vec(select(&WORDS[..]), 1..4).prop_map(move |s| s.join(separator))
    };
    let roles = (set(), prop::bool::weighted(0.1)).prop_map(|(mut roles, admin)| {
        if admin {
            roles.insert(ADMIN.parse().unwrap());
        }
        roles
    });
    let account_type = select(vec![AccountType::Human, AccountType::System]);
    let subject = (select(&WORDS[..]), account_type, roles, set()).prop_map(
        |(name, account_type, roles, tags)| Subject {
            account: "id".parse().unwrap(),
            name: name.parse().unwrap(),
            account_type,
            roles,
            tags,
        },
    );
    (subject, name(":"), name("/"), set()).prop_map(|(subject, action, name, tags)| {
        let name = name.parse().unwrap();
        (subject, action.parse().unwrap(), Resource { name, tags })
    })
}

fn decide(set: &PolicySet, (subject, action, resource): &Question) -> Decision {
    set.explain(subject, action, resource).decision
}

fn deciding<'r>(rules: &'r [Rule], decision: &Decision) -> Option<&'r Rule> {
    let name = decision.rule()?.as_str();
    rules.iter().find(|rule| rule.name == name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_deny_holds_whatever_is_added_at_its_priority_or_below(
        rules in rules(), more in vec(rule(), 0..8), asked in question(),
    ) {
        let decision = decide(&compile(false, &rules), &asked);
        if let Some(by) = deciding(&rules, &decision).filter(|rule| rule.effect == Effect::Deny) {
            let mut all = rules.clone();
            all.extend(named("m", more).into_iter().map(|rule| Rule {
                priority: rule.priority.min(by.priority),
                ..rule
            }));
            prop_assert_eq!(decide(&compile(false, &all), &asked).effect, Effect::Deny);
        }
    }

    #[test]
    fn who_may_do_it_on_one_thing_may_do_it_below_each_part_of_its_name(
        rules in rules(), bypass in any::<bool>(), asked in question(),
    ) {
        let set = compile(bypass, &rules);
        let (subject, action, resource) = &asked;
        if set.allowed_by(subject, action, resource).is_some() {
            let name = resource.name.as_str();
            for end in name.match_indices('/').map(|(at, _)| at).chain([name.len()]) {
                let place: ResourceName = name[..end].parse().unwrap();
                prop_assert!(set.may_below(subject, action, &place), "{}", place);
            }
        }
    }

    #[test]
    fn an_added_allow_takes_nothing_away(rules in rules(), more in rule(), bypass in any::<bool>(), asked in question()) {
        let before = decide(&compile(bypass, &rules), &asked);
        let mut all = rules.clone();
        all.extend(named("m", vec![Rule { effect: Effect::Allow, ..more }]));
        let after = decide(&compile(bypass, &all), &asked);
        prop_assert!(before.effect == Effect::Deny || after.effect == Effect::Allow);
        // Nor does it take the decision from a rule above it.
        if let (Some(by), Some(now)) = (deciding(&rules, &before), deciding(&all, &after)) {
            prop_assert!(now.priority >= by.priority);
        }
    }

    #[test]
    fn an_added_deny_gives_nothing(rules in rules(), more in rule(), asked in question()) {
        let before = decide(&compile(false, &rules), &asked);
        let mut all = rules;
        all.extend(named("m", vec![Rule { effect: Effect::Deny, ..more }]));
        let after = decide(&compile(false, &all), &asked);
        prop_assert!(before.effect == Effect::Allow || after.effect == Effect::Deny);
    }

    #[test]
    fn order_does_not_count(
        (rules, shuffled) in rules().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
        bypass in any::<bool>(), asked in question(),
    ) {
        let explain = |rules: &[Rule]| compile(bypass, rules).explain(&asked.0, &asked.1, &asked.2);
        prop_assert_eq!(explain(&rules), explain(&shuffled));
    }

    #[test]
    fn explain_authorize_and_filter_agree(rules in rules(), bypass in any::<bool>(), asked in question()) {
        let set = compile(bypass, &rules);
        let (subject, action, resource) = &asked;
        let explained = set.explain(subject, action, resource);
        let allowed = explained.decision.effect == Effect::Allow;
        match set.authorize(subject, action, resource) {
            Ok(authorized) => prop_assert!(allowed && authorized.reason() == &explained.decision.reason),
            Err(denied) => prop_assert!(!allowed && denied.reason == explained.decision.reason),
        }
        prop_assert_eq!(set.filter(subject, action, [resource]).count(), usize::from(allowed));
        let matching: Vec<_> = set.matching(subject, action, resource).collect();
        let told = explained.why.iter().filter(|c| !matches!(c.part, Part::NoMatch { .. }));
        prop_assert!(matching.iter().map(|(name, _)| *name).eq(told.map(|c| &c.rule)));
        if !bypass {
            prop_assert_eq!(matching.first().map(|(_, effect)| *effect == Effect::Allow), explained.decision.rule().map(|_| allowed));
        }
        // Each rule is told of, in the order of ranks, and the first that matches is the one that decided.
        prop_assert_eq!(explained.why.len(), rules.len());
        prop_assert!(explained.why.is_sorted_by_key(|c| (std::cmp::Reverse(c.priority), c.effect)));
        let first = explained.why.iter().find(|c| !matches!(c.part, Part::NoMatch { .. }));
        let by = explained.why.iter().find(|c| c.part == Part::Decided);
        prop_assert_eq!(by.map(|c| &c.rule), explained.decision.rule());
        match explained.decision.reason {
            Reason::AdminBypass => prop_assert!(bypass && by.is_none()),
            Reason::Rule(_) => prop_assert_eq!(first, by),
            Reason::Default => prop_assert!(first.is_none() && !allowed),
        }
    }

    #[test]
    fn without_rules_nothing_is_allowed(asked in question()) {
        prop_assert_eq!(decide(&compile(false, &[]), &asked).effect, Effect::Deny);
    }

    #[test]
    fn what_is_written_is_read(rules in rules(), admin_bypass in any::<bool>()) {
        let policy = Policy { admin_bypass, rules };
        prop_assert_eq!(&Policy::from_toml("t", &toml::to_string(&policy).unwrap()).unwrap(), &policy);
        for rule in &policy.rules {
            prop_assert_eq!(&Rule::from_json("j", &serde_json::to_string(rule).unwrap()).unwrap(), rule);
        }
    }

    /// Whatever a client names things, a policy about others says nothing of them.
    #[test]
    fn hostile_segments_gain_nothing(segment in "[ab*./%:\\\\?\\[\\]{}\\pC\\pL-]{1,12}", asked in question()) {
        let allow = super::tests::rule("own", 0, Effect::Allow, "own/mine");
        if let Ok(name) = ResourceName::of(["own", segment.as_str()]) {
            let question = (asked.0, asked.1, Resource::from(name));
            let wanted = if segment == "mine" { Effect::Allow } else { Effect::Deny };
            prop_assert_eq!(decide(&compile(false, &[allow]), &question).effect, wanted);
        }
    }

    /// As a fuzzer would: nothing panics, and what compiles answers.
    #[test]
    fn any_text_is_refused_or_answers(text in any::<String>(), fields in vec(any::<String>(), 4), asked in question()) {
        let _ = Rule::from_json("j", &text).is_ok() || Policy::from_toml("t", &text).is_ok();
        let mut rule = super::tests::rule(&fields[0], 0, Effect::Deny, &fields[1]);
        rule.actions = vec![fields[2].clone()];
        rule.resource_tags = vec![fields[3].clone()];
        if let Ok(set) = PolicySet::compile(&Policy { admin_bypass: false, rules: vec![rule] }) {
            prop_assert_eq!(decide(&set, &asked).effect, Effect::Deny);
        }
    }

    /// A good text with a few bytes changed, so that more gets past the parser.
    #[test]
    fn nearly_good_texts_are_refused_or_answer(
        rules in rules(), cuts in vec((any::<prop::sample::Index>(), "[\\x00-\\x7f]{0,2}"), 1..4), asked in question(),
    ) {
        let mut text = toml::to_string(&Policy { admin_bypass: false, rules }).unwrap();
        for (at, insert) in cuts {
            let at = at.index(text.len() + 1);
            if text.is_char_boundary(at) {
                text.replace_range(at..(at + insert.len() / 2).min(text.len()), &insert);
            }
        }
        if let Ok(policy) = Policy::from_toml("t", &text)
            && let Ok(set) = PolicySet::compile(&policy)
        {
            let (subject, action, resource) = &asked;
            let explained = set.explain(subject, action, resource);
            prop_assert_eq!(set.authorize(subject, action, resource).is_ok(), explained.decision.effect == Effect::Allow);
        }
    }
}
