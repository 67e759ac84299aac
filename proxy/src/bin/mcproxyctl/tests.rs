//! Argument vectors to requests, policies to policies, messages to rows.

use clap::{CommandFactory as _, Parser as _};
use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::Exit;

use crate::{
    Cli, Command, country, export, firewall, listener, observe, parse, rate, route, stats,
};

/// Parses a command line without the program's name.
fn cli(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mcproxyctl").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    cli(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
}

fn firewall(line: &str) -> firewall::Command {
    match command(&format!("firewall {line}")) {
        Command::Firewall(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_socket_follows_the_root() {
    let socket = |line: &str| cli(line).unwrap().socket().display().to_string();
    assert_eq!(socket("status --root /tmp/x"), "/tmp/x/admin.sock");
    assert_eq!(socket("status --root /tmp/x --socket /y/z"), "/y/z");
}

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
        assert_eq!(firewall(line).additions(), Some(want), "{line}");
    }
    let removals = [
        ("unblock 192.0.2.0/24", K::Block, "192.0.2.0/24"),
        ("disallow 192.0.2.7", K::Allow, "192.0.2.7/32"),
        ("unban 2001:db8::7", K::Ban, "2001:db8::/64"),
    ];
    for (line, kind, cidr) in removals {
        let request = firewall(line).removals().unwrap();
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
        ("explain example.org", "invalid IP address"),
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
        database_loaded: false,
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
        let firewall::Command::Country(c) = firewall(&format!("country {line}")) else {
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
        let set = match firewall(&format!("rate set {line}")) {
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
    .flat_map(|line| firewall(line).additions().unwrap().rules)
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
fn a_bad_file_is_refused_whole() {
    let good = "[[rule]]\nkind='block'\ncidr='192.0.2.0/24'\n";
    let rows = [
        (
            "unknown kind",
            "[[rule]]\nkind='deny'\ncidr='192.0.2.1'",
            "rule 2 (deny 192.0.2.1): kind must be",
        ),
        (
            "bad address",
            "[[rule]]\nkind='block'\ncidr='192.0.2.1/24'",
            "did you mean 192.0.2.0/24?",
        ),
        (
            "ban without ttl",
            "[[rule]]\nkind='ban'\ncidr='192.0.2.1'",
            "needs a ttl",
        ),
        (
            "block with ttl",
            "[[rule]]\nkind='block'\ncidr='192.0.2.1'\nttl='5m'",
            "only a ban",
        ),
        (
            "allow with action",
            "[[rule]]\nkind='allow'\ncidr='192.0.2.1'\naction='drop'",
            "no action",
        ),
        (
            "bad action",
            "[[rule]]\nkind='block'\ncidr='192.0.2.1'\naction='shout'",
            "drop, reset or observe",
        ),
        (
            "misspelt key",
            "[[rule]]\nkind='block'\ncidr='192.0.2.1'\ncoment='x'",
            "coment",
        ),
        (
            "misspelt section",
            "[[rules]]\nkind='block'\ncidr='192.0.2.1'",
            "rules",
        ),
    ];
    for (what, text, want) in rows {
        let e = export::parse(&format!("{good}{text}")).unwrap_err();
        assert!(e.contains(want), "{what}: {e}");
    }
}

#[test]
fn stats_show_change_per_second() {
    let look = |unix_ms, connections, bytes| pb::Stats {
        unix_ms,
        routes: vec![pb::RouteStats {
            port: 443,
            hostname: "a.example".into(),
            connections,
            bytes_from_client: bytes,
            engine: "copy".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let cells = |now: &pb::Stats, before: Option<&pb::Stats>| -> Vec<String> {
        let page = stats::page(now, before, stats::Fit::All);
        let row = page.lines().find(|l| l.starts_with("a.example")).unwrap();
        row.split("  ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (first, second) = (look(1_000, 10, 0), look(3_000, 15, 4_096));
    assert_eq!(
        cells(&second, Some(&first))[3..7],
        ["15", "2.5", "4.0 KiB", "2.0 KiB/s"]
    );
    assert_eq!(
        cells(&first, None)[3..7],
        ["10", "-", "0 B", "-"],
        "no earlier look"
    );
    assert_eq!(cells(&first, Some(&second))[4], "-", "the daemon restarted");
}

#[test]
fn watching_shows_the_busiest() {
    let look = |unix_ms, step: u64| pb::Stats {
        unix_ms,
        rules: (0..50)
            .map(|i| pb::Rule {
                kind: pb::RuleKind::Block.into(),
                cidr: format!("192.0.2.{i}/32"),
                packets: i * step,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let page = stats::page(&look(2_000, 2), Some(&look(1_000, 1)), stats::Fit::Rows(2));
    assert!(
        page.contains("192.0.2.49/32") && page.contains("192.0.2.48/32"),
        "{page}"
    );
    assert!(
        !page.contains("192.0.2.47/32") && page.contains("… and 48 more"),
        "{page}"
    );
}

#[test]
fn watching_fits_the_terminal() {
    let reason = |reason: &str| pb::ReasonStats {
        reason: reason.into(),
        connections: 3,
    };
    let route = |n| pb::RouteStats {
        port: 443,
        hostname: format!("a-rather-long-name-{n}.example.org"),
        engine: "copy".into(),
        reasons: vec![reason("backend_refused"), reason("idle_timeout")],
        ..Default::default()
    };
    let now = pb::Stats {
        routes: (0..30).map(route).collect(),
        denied: vec![reason("unknown_sni")],
        ..Default::default()
    };
    for (columns, lines) in [(80, 23), (200, 50), (20, 8), (1, 1), (300, 1000)] {
        let page = stats::page(&now, None, stats::Fit::Screen { columns, lines });
        assert!(page.lines().count() <= lines, "{columns}x{lines}:\n{page}");
        let widest = page.lines().map(|l| l.chars().count()).max();
        assert!(widest <= Some(columns), "{columns}x{lines}:\n{page}");
    }
    let lines = 23;
    let page = stats::page(&now, None, stats::Fit::Screen { columns: 80, lines });
    assert!(page.lines().count() >= 20, "it is filled:\n{page}");
    for section in ["routes", "errors of routes", "denied after the firewall"] {
        assert!(page.lines().any(|l| l == section), "{section}:\n{page}");
    }
    assert!(page.contains("unknown_sni"), "{page}");
    let whole = stats::page(&now, None, stats::Fit::All);
    assert_eq!(whole.matches("backend_refused").count(), 30, "{whole}");
}

#[test]
fn times() {
    let rows = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399_999, "2000-02-28T23:59:59Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_767_225_599_000, "2025-12-31T23:59:59Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
    ];
    for (unix_ms, want) in rows {
        assert_eq!(observe::utc(unix_ms), want);
    }
}

#[test]
fn grpc_codes_become_exit_codes() {
    use tonic::{Code, Status};
    let rows = [
        (Code::NotFound, Exit::NotFound),
        (Code::InvalidArgument, Exit::Usage),
        (Code::AlreadyExists, Exit::Refused),
        (Code::ResourceExhausted, Exit::Refused),
        (Code::PermissionDenied, Exit::Refused),
        (Code::Unavailable, Exit::Unavailable),
        (Code::Internal, Exit::Failure),
    ];
    for (code, exit) in rows {
        let failure = crate::client::failure(&Status::new(code, "there is no route x"));
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (exit, "there is no route x")
        );
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
        let failure = crate::misused(&error.unwrap_err());
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Usage, message)
        );
    }
}

#[test]
fn explain_tells_where_no_rule_holds() {
    let interface = |name: &str, mode: &str| pb::InterfaceStatus {
        name: name.into(),
        mode: mode.into(),
        ..Default::default()
    };
    assert_eq!(observe::unjudged(&[interface("eth0", "native")]), "");
    let text = observe::unjudged(&[interface("eth0", "native"), interface("eth1", "detached")]);
    assert!(text.contains("not attached to eth1"), "{text}");
}
