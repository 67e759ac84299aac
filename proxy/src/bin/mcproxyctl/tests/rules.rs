//! Policies to policies, files to rules and back, rules to rows.

use mc_proto::mcproxy::v1 as pb;

use super::firewall_command;
use crate::{country, export, firewall, listener, parse, rate};

fn policy(only: bool, countries: &[(&str, pb::Action)]) -> pb::CountryPolicy {
    let rules = countries.iter().map(|(country, action)| pb::CountryRule {
        country: (*country).into(),
        action: (*action).into(),
        ..Default::default()
    });
    pb::CountryPolicy {
        rules: rules.collect(),
        only,
        default_action: if only { pb::Action::Drop.into() } else { 0 },
        ..Default::default()
    }
}

#[test]
fn country_policies() {
    use pb::Action::{Drop, Reset, Unspecified as Pass};
    let open = policy(false, &[]);
    let rows: [(&str, pb::CountryPolicy, Option<pb::CountryPolicy>); 10] = [
        (
            "block de FR",
            open.clone(),
            Some(policy(false, &[("DE", Drop), ("FR", Drop)])),
        ),
        (
            "block DE --action reset",
            policy(false, &[("DE", Drop)]),
            Some(policy(false, &[("DE", Reset)])),
        ),
        (
            "block ??",
            open.clone(),
            Some(policy(false, &[("??", Drop)])),
        ),
        (
            "allow DE",
            policy(false, &[("DE", Drop), ("FR", Drop)]),
            Some(policy(false, &[("FR", Drop)])),
        ),
        (
            "allow AT --only",
            policy(false, &[("DE", Drop)]),
            Some(policy(true, &[("AT", Pass)])),
        ),
        (
            "allow CH",
            policy(true, &[("AT", Pass)]),
            Some(policy(true, &[("AT", Pass), ("CH", Pass)])),
        ),
        (
            "block CH",
            policy(true, &[("AT", Pass), ("CH", Pass)]),
            Some(policy(true, &[("AT", Pass)])),
        ),
        ("block AT", policy(true, &[("AT", Pass)]), None),
        (
            "block AT --action reset",
            policy(true, &[("AT", Pass)]),
            None,
        ),
        ("clear", policy(true, &[("AT", Pass)]), Some(open.clone())),
    ];
    for (line, before, after) in rows {
        let firewall::Command::Country(c) = firewall_command(&format!("country {line}")) else {
            panic!("{line}");
        };
        assert_eq!(c.apply(before).ok(), after, "{line}");
    }
}

#[test]
fn rate_limits() {
    let limit = |per_second, burst, action: pb::Action| {
        Some(pb::RateLimit {
            per_second,
            burst,
            action: action.into(),
            exceeded: 0,
        })
    };
    let before = pb::RateLimits {
        connections: limit(5.0, 5, pb::Action::Drop),
        packets: limit(1_000.0, 1_000, pb::Action::Reset),
    };
    let with = |connections| pb::RateLimits {
        connections,
        ..before
    };
    let rows = [
        (
            "connections 50/s --burst 100 --action observe",
            Some(with(limit(50.0, 100, pb::Action::Observe))),
        ),
        (
            "connections 30/m",
            Some(with(limit(0.5, 1, pb::Action::Drop))),
        ),
        (
            "connections 36/h",
            Some(with(limit(0.01, 1, pb::Action::Drop))),
        ),
        ("connections off", Some(with(None))),
        (
            "packets off",
            Some(pb::RateLimits {
                packets: None,
                ..before
            }),
        ),
        ("connections off --burst 3", None),
    ];
    for (line, after) in rows {
        let set = match firewall_command(&format!("rate set {line}")) {
            firewall::Command::Rate(rate::Command::Set(set)) => set,
            other => panic!("{other:?}"),
        };
        assert_eq!(set.apply(before).ok(), after, "{line}");
    }
    let shown =
        |per_second| rate::row("x", limit(per_second, 1, pb::Action::Drop).as_ref())[1].clone();
    assert_eq!(shown(50.0), "50/s");
    assert_eq!(shown(10.0 / 60.0), "10/m");
    assert_eq!(shown(0.01), "36/h");
}

fn all_kinds() -> Vec<pb::Rule> {
    [
        "block 192.0.2.0/24 --comment a",
        "allow 10.0.0.0/8",
        "ban 192.0.2.9 --ttl 90s --action reset",
    ]
    .iter()
    .flat_map(|line| firewall_command(line).additions().unwrap().rules)
    .collect()
}

#[test]
fn what_is_exported_is_imported() {
    for format in [export::Format::Toml, export::Format::Json] {
        let text = export::write(&all_kinds(), format).unwrap();
        assert_eq!(export::parse(&text).unwrap(), all_kinds(), "{text}");
        assert_eq!(
            export::parse(&export::write(&[], format).unwrap()).unwrap(),
            []
        );
    }
}

#[test]
fn an_export_names_rules_as_the_configuration_does() {
    let text = export::write(&all_kinds(), export::Format::Toml).unwrap();
    assert!(text.starts_with("[[rules]]"), "{text}");
    let earlier = text.replace("[[rules]]", "[[rule]]");
    assert_eq!(export::parse(&earlier).unwrap(), all_kinds());
}

#[test]
fn a_policy_that_says_the_same_is_no_change() {
    let before = policy(false, &[("DE", pb::Action::Drop)]);
    let only = policy(true, &[("DE", pb::Action::Drop)]);
    for (line, before, same) in [
        ("block DE", &before, true),
        ("block DE --action reset", &before, false),
        ("allow FR", &before, true),
        ("allow DE", &before, false),
        ("allow DE", &only, true),
        ("block FR", &only, true),
        ("clear", &only, false),
    ] {
        let firewall::Command::Country(command) = firewall_command(&format!("country {line}"))
        else {
            panic!("{line}");
        };
        let after = command.apply(before.clone()).unwrap();
        assert_eq!(country::same(before, &after), same, "{line}");
    }
}

#[test]
fn a_bad_file_is_refused_whole() {
    let good = "[[rules]]\nkind='block'\ncidr='192.0.2.0/24'\n";
    let rows = [
        (
            "unknown kind",
            "[[rules]]\nkind='deny'\ncidr='192.0.2.1'",
            "rule 2 (deny 192.0.2.1): kind must be",
        ),
        (
            "bad address",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1/24'",
            "did you mean 192.0.2.0/24?",
        ),
        (
            "ban without ttl",
            "[[rules]]\nkind='ban'\ncidr='192.0.2.1'",
            "needs a ttl",
        ),
        (
            "block with ttl",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1'\nttl='5m'",
            "only a ban",
        ),
        (
            "allow with action",
            "[[rules]]\nkind='allow'\ncidr='192.0.2.1'\naction='drop'",
            "no action",
        ),
        (
            "bad action",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1'\naction='shout'",
            "drop, reset or observe",
        ),
        (
            "misspelt key",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1'\ncoment='x'",
            "coment",
        ),
        (
            "misspelt section",
            "[[ruels]]\nkind='block'\ncidr='192.0.2.1'",
            "ruels",
        ),
    ];
    for (what, text, want) in rows {
        let e = export::parse(&format!("{good}{text}")).unwrap_err();
        assert!(e.contains(want), "{what}: {e}");
    }
}

#[test]
fn rows_of_tables() {
    let mut rule = all_kinds().remove(2);
    rule.samples = (1..=5)
        .map(|i| pb::Sample {
            address: format!("192.0.2.{i}"),
            ..Default::default()
        })
        .collect();
    rule.id = 18;
    assert_eq!(
        firewall::row(&rule)[..8],
        [
            "18",
            "ban",
            "192.0.2.9/32",
            "reset",
            "1m30s",
            "0",
            "0 B",
            "192.0.2.1 192.0.2.2 192.0.2.3 +2"
        ]
    );
    let failed = pb::Listener {
        address: "[::]:443".into(),
        error: "address in use".into(),
        ..Default::default()
    };
    assert_eq!(listener::row(&failed)[1], "failed: address in use");
    assert_eq!(
        country::row(
            &policy(true, &[("AT", pb::Action::Unspecified)]).rules[0],
            true
        )[1],
        "pass"
    );
    assert_eq!(parse::country("at").unwrap(), "AT");
    assert_eq!(
        parse::banned("::ffff:192.0.2.7").unwrap().to_string(),
        "192.0.2.7/32"
    );
}
