//! Arguments of rules and services.

use mc_proto::mcias::v1 as pb;

use super::{arguments::strings, command, words};
use crate::{Command, policy, service};

#[test]
fn rules_and_services() {
    let rule = match command(
        "policy put admins --allow --priority -5 --role admin --account-type human --service mc* --second-factor",
    ) {
        Command::Policy(policy::Command::Put(put)) => put.rule(),
        other => panic!("{other:?}"),
    };
    let want = pb::Rule {
        name: "admins".to_owned(),
        priority: -5,
        roles: strings(&["admin"]),
        account_types: strings(&["human"]),
        services: strings(&["mc*"]),
        second_factor: true,
        ..pb::Rule::default()
    };
    assert_eq!(rule, want);
    let uri = "https://mcr.example/callback?x=1";
    let service = match command(&format!(
        "service put mcr --redirect-uri {uri} --new-secret"
    )) {
        Command::Service(service::Command::Put(put)) => put.request(None).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(service.new_secret);
    assert_eq!(service.service.unwrap().redirect_uris, [uri]);
}

#[test]
fn what_is_not_said_of_a_service_stays() {
    let now = pb::Service {
        name: "mcr".to_owned(),
        tags: strings(&["a", "b"]),
        redirect_uris: strings(&["https://a.example/"]),
        post_logout_redirect_uris: strings(&["https://a.example/bye"]),
        public_client: true,
        comment: "old".to_owned(),
        issuer: String::new(),
    };
    let with = |change: fn(&mut pb::Service)| {
        let mut service = now.clone();
        change(&mut service);
        Some(service)
    };
    for (description, line, want) in [
        ("nothing", "", with(|_| {})),
        (
            "a comment",
            "--comment x",
            with(|s| s.comment = "x".to_owned()),
        ),
        (
            "a tag more, and one that it has",
            "--tag c --tag a",
            with(|s| s.tags.push("c".to_owned())),
        ),
        (
            "one less",
            "--remove-tag a",
            with(|s| s.tags = strings(&["b"])),
        ),
        ("none such", "--remove-tag c", None),
        (
            "another redirect URI",
            "--remove-redirect-uri https://a.example/ --redirect-uri https://b.example/",
            with(|s| s.redirect_uris = strings(&["https://b.example/"])),
        ),
        (
            "none after a logout",
            "--remove-post-logout-redirect-uri https://a.example/bye",
            with(|s| s.post_logout_redirect_uris.clear()),
        ),
        (
            "confidential",
            "--confidential",
            with(|s| s.public_client = false),
        ),
    ] {
        let got = match command(&format!("service put mcr {line}")) {
            Command::Service(service::Command::Put(put)) => put.request(Some(now.clone())),
            other => panic!("{other:?}"),
        };
        let got = got.ok().map(|request| request.service.unwrap());
        assert_eq!(got, want, "{description}");
    }
}

/// What a line makes.
fn rule(line: &str) -> pb::Rule {
    match command(line) {
        Command::Policy(policy::Command::Put(put)) => put.rule(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_is_shown_by_the_command_that_makes_it() {
    for (description, line) in [
        ("everybody", "policy put all --allow"),
        (
            "all that there is",
            "policy put x-1 --allow --priority=-5 --role=admin --role=user --account-type=human --account=ada --account=bob \
             --tag=a:b --tag=c --service=wiki '--service=mc*' --service-tag=prod --second-factor '--comment=who knows'",
        ),
        ("a deny", "policy put no --deny --service=wiki"),
    ] {
        let made = match words(unquoted(line).iter().map(String::as_str))
            .unwrap()
            .command
        {
            Command::Policy(policy::Command::Put(put)) => put.rule(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            policy::command(&made),
            format!("mciasctl {line}"),
            "{description}"
        );
    }
}

/// Words, and some between quotes.
fn unquoted(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn what_replaces_a_rule_is_told_old_and_new() {
    let old = "policy put lab --allow --role user --service lab";
    for (description, new, told) in [
        ("nothing", old, None),
        (
            "who",
            "policy put lab --allow --role guest --service lab",
            Some("who role=user -> role=guest"),
        ),
        (
            "all else",
            "policy put lab --deny --priority 3 --role user --comment x",
            Some(
                "effect allow -> deny; priority 0 -> 3; where service=lab -> all services; comment - -> x",
            ),
        ),
    ] {
        let change = policy::change(&rule(old), &rule(new));
        assert_eq!(change.as_deref(), told, "{description}");
    }
}

#[test]
fn a_client_is_told_what_its_configuration_needs() {
    let mut wiki = pb::Service {
        name: "wiki".to_owned(),
        ..pb::Service::default()
    };
    let has = |wiki: &pb::Service, text: &str| service::lines(wiki).iter().any(|(_, t)| t == text);
    assert!(!has(&wiki, "wiki/.well-known/openid-configuration"));
    assert_eq!(service::lines(&wiki).len(), 6, "no client");
    wiki.issuer = "https://auth.example".to_owned();
    for text in [
        "https://auth.example",
        "https://auth.example/.well-known/openid-configuration",
    ] {
        assert!(has(&wiki, text), "{text}");
    }
}
