//! Counters on a screen.

use mc_proto::mcproxy::v1 as pb;

use crate::stats;

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
fn requests_are_shown_of_routes_that_have_them() {
    let look = |unix_ms, ok| pb::Stats {
        unix_ms,
        routes: vec![
            pb::RouteStats {
                hostname: "relayed.example".into(),
                ..Default::default()
            },
            pb::RouteStats {
                port: 443,
                hostname: "http.example".into(),
                requests: [("none", 1), ("1xx", 0), ("2xx", ok), ("4xx", 2)]
                    .map(|(class, requests)| pb::ClassStats {
                        class: class.into(),
                        requests,
                    })
                    .into(),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let page = stats::page(&look(3_000, 17), Some(&look(1_000, 10)), stats::Fit::All);
    let (_, section) = page.split_once("\nrequests\n").expect(&page);
    let rows: Vec<&str> = section.lines().take_while(|l| !l.is_empty()).collect();
    let cells: Vec<&str> = rows[1].split_whitespace().collect();
    let wanted = ["http.example", "443", "20", "3.5", "17", "0", "2", "0", "1"];
    assert_eq!((rows.len(), cells), (2, wanted.to_vec()), "{page}");
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
        let titled = |l: &str| l == section || l.starts_with(&format!("{section} ("));
        assert!(page.lines().any(titled), "{section}:\n{page}");
    }
    assert!(page.contains("unknown_sni"), "{page}");
    let whole = stats::page(&now, None, stats::Fit::All);
    assert_eq!(whole.matches("backend_refused").count(), 30, "{whole}");
}

#[test]
fn a_narrow_screen_says_what_it_leaves_out() {
    let now = pb::Stats {
        routes: vec![pb::RouteStats {
            port: 443,
            hostname: "a-rather-long-name-of-a-service.example.org".into(),
            connections: 123_456_789,
            bytes_from_client: 1 << 40,
            errors: 12_345,
            engine: "sockmap".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let screen = |columns| stats::page(&now, None, stats::Fit::Screen { columns, lines: 23 });
    let page = screen(80);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(
        lines[0],
        "routes (too narrow for ENGINE, IN, OUT, CONNECTIONS)"
    );
    for column in [
        "HOSTNAME", "PORT", "ACTIVE", "/S", "IN/S", "OUT/S", "ERRORS",
    ] {
        assert!(lines[1].contains(column), "{column}:\n{page}");
    }
    assert!(lines[2].ends_with("12345"), "whole rows:\n{page}");
    assert_eq!(screen(200).lines().next(), Some("routes"));
}

#[test]
fn what_fails_most_comes_first() {
    let reasons = [("idle", 2), ("backend_refused", 9), ("client_reset", 5)];
    let now = pb::Stats {
        routes: vec![pb::RouteStats {
            hostname: "a.example".into(),
            reasons: reasons
                .map(|(reason, connections)| pb::ReasonStats {
                    reason: reason.into(),
                    connections,
                })
                .into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let page = stats::page(&now, None, stats::Fit::All);
    let at = |reason: &str| {
        page.find(reason)
            .unwrap_or_else(|| panic!("{reason}: {page}"))
    };
    assert!(at("backend_refused") < at("client_reset"), "{page}");
    assert!(at("client_reset") < at("idle"), "{page}");
}
