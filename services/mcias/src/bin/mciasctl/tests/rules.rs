//! Arguments of rules and services.

use mc_proto::mcias::v1 as pb;

use super::{arguments::strings, command};
use crate::{Command, policy, service};

#[test]
fn rules_and_services() {
    let rule = match command(
        "policy put admins --allow --priority -5 --role admin --account-type human --service mc* --second-factor",
    ) {
        Command::Policy(policy::Command::Put(put)) => put.request().rule.unwrap(),
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

#[test]
fn a_rule_for_everybody_everywhere_is_known() {
    for (line, open) in [
        ("--allow", true),
        ("--allow --account-type human --second-factor", true),
        ("--allow --role user", false),
        ("--allow --service wiki", false),
        ("--deny", false),
    ] {
        match command(&format!("policy put x {line}")) {
            Command::Policy(policy::Command::Put(put)) => assert_eq!(put.is_open(), open, "{line}"),
            other => panic!("{other:?}"),
        }
    }
}
