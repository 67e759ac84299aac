//! Argument vectors to requests, or to a refusal that says what would be right.

use clap::Parser as _;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::Exit;

use super::{cli, command, firewall_command};
use crate::{Cli, Command, listener, route};

#[test]
fn listeners() {
    let request = |line: &str| match command(line) {
        Command::Listener(listener::Command::Add(add)) => add.request().listener.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        request("listener add 0.0.0.0:443"),
        pb::Listener {
            address: "0.0.0.0:443".into(),
            guarded: true,
            ..Default::default()
        }
    );
    assert_eq!(
        request("listener add [::]:8443 --proxy-from 10.0.0.0/8 --proxy-from fd00::1 --unguarded"),
        pb::Listener {
            address: "[::]:8443".into(),
            proxy_protocol: pb::ProxyProtocolIn::Required.into(),
            trusted_sources: vec!["10.0.0.0/8".into(), "fd00::1/128".into()],
            ..Default::default()
        }
    );
}

#[test]
fn routes() {
    let request = |line: &str| match command(line) {
        Command::Route(route::Command::Add(add)) => add.request(),
        other => panic!("{other:?}"),
    };
    let backend = |address: &str| pb::Backend {
        address: address.into(),
        ..Default::default()
    };
    let plain = pb::Route {
        port: 443,
        hostname: "example.org".into(),
        mode: pb::RouteMode::L4.into(),
        backends: vec![backend("10.0.0.2:8443")],
        enabled: true,
        ..Default::default()
    };
    let rows = [
        (
            "defaults",
            "example.org --backend 10.0.0.2:8443",
            plain.clone(),
            false,
        ),
        (
            "lower-cased",
            "EXAMPLE.org --backend 10.0.0.2:8443",
            plain.clone(),
            false,
        ),
        (
            "everything",
            "*.example.org --port 8443 --backend 10.0.0.2:1 --backend [fd00::2]:2 --send-proxy --engine sockmap \
             --connect-timeout 1500ms --idle-timeout 5m --max-age 1h30m --max-connections 7 --disabled --replace",
            pb::Route {
                port: 8443,
                hostname: "*.example.org".into(),
                backends: vec![backend("10.0.0.2:1"), backend("[fd00::2]:2")],
                engine: pb::Engine::Sockmap.into(),
                enabled: false,
                send_proxy: true,
                connect_timeout_ms: 1_500,
                idle_timeout_s: 300,
                max_age_s: 5_400,
                max_connections: 7,
                ..plain
            },
            true,
        ),
    ];
    for (what, line, route, replace) in rows {
        let want = pb::AddRouteRequest {
            route: Some(route),
            replace,
        };
        assert_eq!(request(&format!("route add {line}")), want, "{what}");
    }
    let switch = |line: &str| match command(line) {
        Command::Route(c) => match &c {
            route::Command::Enable(key) | route::Command::Disable(key) => c.set_enabled(key),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert!(switch("route enable a.example").enabled);
    let off = switch("route disable a.example --port 8443");
    assert!(!off.enabled);
    assert_eq!(off.key.unwrap().port, 8443);
}

#[test]
fn rules() {
    use pb::{Action as A, RuleKind as K};
    type Row = (
        &'static str,
        &'static [&'static str],
        K,
        A,
        u64,
        &'static str,
        bool,
    );
    let rows: [Row; 6] = [
        (
            "block 192.0.2.0/24 2001:db8::/32",
            &["192.0.2.0/24", "2001:db8::/32"],
            K::Block,
            A::Drop,
            0,
            "",
            false,
        ),
        (
            "block 192.0.2.7 --action reset --comment noisy",
            &["192.0.2.7/32"],
            K::Block,
            A::Reset,
            0,
            "noisy",
            false,
        ),
        (
            "block 0.0.0.0/0 --action observe --replace",
            &["0.0.0.0/0"],
            K::Block,
            A::Observe,
            0,
            "",
            true,
        ),
        (
            "allow 10.0.0.0/8 --comment us",
            &["10.0.0.0/8"],
            K::Allow,
            A::Unspecified,
            0,
            "us",
            false,
        ),
        (
            "ban 192.0.2.7 --ttl 1h30m",
            &["192.0.2.7/32"],
            K::Ban,
            A::Drop,
            5_400,
            "",
            false,
        ),
        (
            "ban 2001:db8::7",
            &["2001:db8::/64"],
            K::Ban,
            A::Drop,
            600,
            "",
            false,
        ),
    ];
    for (line, cidrs, kind, action, ttl_s, comment, replace) in rows {
        let rules = cidrs.iter().map(|cidr| pb::Rule {
            kind: kind.into(),
            cidr: (*cidr).into(),
            action: action.into(),
            ttl_s,
            comment: comment.into(),
            ..Default::default()
        });
        let want = pb::AddRulesRequest {
            rules: rules.collect(),
            replace,
        };
        assert_eq!(firewall_command(line).additions(), Some(want), "{line}");
    }
    let removals = [
        ("unblock 192.0.2.0/24", K::Block, "192.0.2.0/24"),
        ("disallow 192.0.2.7", K::Allow, "192.0.2.7/32"),
        ("unban 2001:db8::7", K::Ban, "2001:db8::/64"),
    ];
    for (line, kind, cidr) in removals {
        let request = firewall_command(line).removals().unwrap();
        assert_eq!(
            (request.rules[0].kind(), request.rules[0].cidr.as_str()),
            (kind, cidr),
            "{line}"
        );
    }
}

#[test]
fn bad_input_is_refused_with_what_would_be_right() {
    let rows = [
        ("listener add 443", "0.0.0.0:443"),
        ("route add example.org", "--backend"),
        (
            "route add * --backend 10.0.0.2:1",
            "no route takes every name",
        ),
        (
            "route add example.org --backend example.net:443",
            "names are not resolved",
        ),
        ("route add example.org --backend 10.0.0.2:0", "port 0"),
        (
            "route add example.org --backend 0.0.0.0:1",
            "not an address to connect to",
        ),
        (
            "route add example.org --backend 10.0.0.2:1 --idle-timeout 1500ms",
            "whole seconds",
        ),
        (
            "route add example.org --backend 10.0.0.2:1 --idle-timeout 5",
            "30s, 10m",
        ),
        (
            "route add example.org --backend 10.0.0.2:1 --max-connections 0",
            "1..",
        ),
        ("route add example.org --port 0 --backend 10.0.0.2:1", "1.."),
        ("firewall block 192.0.2.7/24", "did you mean 192.0.2.0/24?"),
        ("firewall block example.org", "192.0.2.0/24"),
        ("firewall block", "CIDR"),
        ("firewall ban 192.0.2.0/24", "firewall block"),
        ("firewall ban 2001:db8::/32", "firewall block"),
        ("firewall ban 192.0.2.7 --ttl 0s", "1s or more"),
        ("firewall country block Germany", "DE"),
        ("firewall country allow DE --action drop", "--only"),
        ("firewall rate set connections 50", "50/s"),
        ("firewall rate set connections 0/s", "off"),
        ("firewall rate set connections nan/s", "above 0"),
        ("stats --watch --interval 1ms", "200ms"),
        ("stats --count 3", "--watch"),
        ("explain example.org", "write an IP address, like"),
    ];
    for (line, hint) in rows {
        let e = cli(line).expect_err(line);
        assert_eq!(e.exit_code(), i32::from(Exit::Usage as u8), "{line}");
        assert!(e.to_string().contains(hint), "{line}: {e}");
    }
}

#[test]
fn detaching_is_confirmed() {
    let detach = |line: &str| match command(line) {
        Command::Detach(d) => d.confirmed(),
        other => panic!("{other:?}"),
    };
    assert_eq!(detach("detach").unwrap_err().exit, Exit::Usage);
    assert!(detach("detach --yes").is_ok());
}

#[test]
fn rules_that_lock_out_who_makes_them_are_confirmed() {
    let caller = Some("192.0.2.7".parse().unwrap());
    for (line, why) in [
        ("block 0.0.0.0/0", Some("0.0.0.0/0 is every IPv4 address")),
        ("block ::/0 --action reset", Some("is every IPv6 address")),
        (
            "block 203.0.113.1 192.0.2.0/24",
            Some("192.0.2.0/24 holds 192.0.2.7, where this session comes from"),
        ),
        ("ban 192.0.2.7", Some("you could not connect again")),
        ("block 127.0.0.1", Some("holds loopback addresses")),
        ("block 127.0.0.0/8", Some("holds loopback addresses")),
        ("block 126.0.0.0/7", Some("holds loopback addresses")),
        ("block ::1", Some("holds loopback addresses")),
        ("ban ::1", Some("holds loopback addresses")),
        ("block 0.0.0.0/0 --yes", None),
        ("ban 192.0.2.7 --yes", None),
        ("block 0.0.0.0/0 --action observe", None),
        ("block 192.0.2.8/29", None),
        ("block 2001:db8::/32", None),
        ("allow 0.0.0.0/0", None),
    ] {
        let command = firewall_command(line);
        let rules = command.additions().unwrap().rules;
        let refused = command.check(&rules, caller).err();
        assert_eq!(refused.is_some(), why.is_some(), "{line}: {refused:?}");
        if let (Some(refused), Some(why)) = (refused, why) {
            assert_eq!(refused.exit, Exit::Usage, "{line}");
            assert!(refused.message.contains(why), "{line}: {refused:?}");
            let hint = refused.hint.unwrap_or_default();
            assert!(hint.contains("--yes"), "{line}: {hint}");
        }
    }
    let import = firewall_command("import rules.toml");
    let rules = firewall_command("block 0.0.0.0/0")
        .additions()
        .unwrap()
        .rules;
    assert!(import.check(&rules, None).is_err(), "of a file as well");
}

#[test]
fn a_refused_command_line_is_a_sentence_in_json() {
    let rows = [
        ("bogus", "unrecognized subcommand 'bogus'"),
        (
            "firewall block nope",
            "invalid value 'nope' for '<CIDR>...': write an address or a network, like 192.0.2.7, 192.0.2.0/24 or \
             2001:db8::/32",
        ),
    ];
    for (line, message) in rows {
        let error = Cli::try_parse_from(std::iter::once("mcproxyctl").chain(line.split(' ')));
        let failure = mcdsl::cli::misused(&error.unwrap_err());
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Usage, message)
        );
    }
}
