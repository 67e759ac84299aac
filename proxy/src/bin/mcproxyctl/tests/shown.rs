//! What the daemon says, for people.

use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::Exit;

use crate::{firewall, listener, observe, route, status};

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
fn explain_tells_where_no_rule_holds() {
    assert_eq!(observe::unjudged(&[]), "");
    let text = observe::unjudged(&["eth1".to_owned()]);
    assert!(text.contains("not attached to eth1"), "{text}");
}

#[test]
fn what_drains_is_told_of_every_daemon() {
    let daemon = |pid, connections| pb::Predecessor { pid, connections };
    let upgraded = |predecessors| {
        observe::upgraded(&pb::UpgradeResponse {
            pid: 3,
            version: "2".into(),
            old_pid: 2,
            old_version: "1".into(),
            predecessors,
            ..Default::default()
        })
    };
    let begins = "mc-proxy 2, pid 3, serves; 1, pid 2, drains";
    for (predecessors, wanted) in [
        (vec![], ""),
        (vec![daemon(2, Some(1))], " 1 connection"),
        (
            vec![daemon(8, None), daemon(1, Some(2)), daemon(2, Some(0))],
            " 0 connections; pid 1 still drains 2 connections; pid 8 still drains",
        ),
    ] {
        assert_eq!(upgraded(predecessors), format!("{begins}{wanted}"));
    }
    let status = pb::Status {
        predecessors: vec![daemon(1, Some(1))],
        ..Default::default()
    };
    let told = line(&status, "predecessor");
    assert_eq!(told, "pid 1, replaced by an upgrade, drains 1 connection");
}

/// A line of the status.
fn line(status: &pb::Status, name: &str) -> String {
    let lines = status::lines(status);
    let found = lines.iter().find(|[n, _]| n == name);
    found.unwrap_or_else(|| panic!("{name}: {lines:?}"))[1].clone()
}

#[test]
fn the_status_tells_the_outcome_of_every_load() {
    let fresh = pb::Status {
        geoip: Some(pb::GeoipStatus {
            path: "/geo.mmdb".into(),
            tried_unix_s: 951_782_400,
            error: "no such file".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(line(&fresh, "state"), "serving");
    assert_eq!(line(&fresh, "reload"), "none since the start");
    assert_eq!(
        line(&fresh, "geoip"),
        "/geo.mmdb is not loaded; the load of 2000-02-29T00:00:00Z failed"
    );
    let later = pb::Status {
        reload: Some(pb::Reload {
            at_unix_s: 951_782_400,
            problems: vec!["a".into(), "b".into()],
        }),
        draining: Some(pb::Draining {
            since_unix_s: 951_782_400,
            until_unix_s: 951_782_430,
        }),
        warnings: vec!["look".into()],
        ..Default::default()
    };
    assert_eq!(line(&later, "reload"), "2000-02-29T00:00:00Z: a; b");
    assert_eq!(line(&later, "geoip"), "not configured");
    assert!(line(&later, "state").starts_with("draining since 2000-02-29T00:00:00Z"));
    assert!(line(&later, "state").ends_with("at 2000-02-29T00:00:30Z"));
    assert_eq!(line(&later, "warning"), "look");
}

#[test]
fn the_status_tells_whether_bans_come_from_mcias() {
    let (then, later) = (Some(951_782_400), Some(951_782_430));
    let begins = "https://auth.example:443: ";
    for (description, connected, failed, error, taken, wanted) in [
        (
            "just started",
            None,
            None,
            "",
            0,
            "no bans come yet; 0 bans taken since the start",
        ),
        (
            "connected",
            then,
            None,
            "",
            1,
            "bans come since 2000-02-29T00:00:00Z; 1 ban taken since the start",
        ),
        (
            "gone",
            None,
            then,
            "nobody there",
            2,
            "no bans come; tried at 2000-02-29T00:00:00Z: nobody there; 2 bans taken since the start",
        ),
        (
            "back again",
            later,
            then,
            "nobody there",
            2,
            "bans come since 2000-02-29T00:00:30Z; not at 2000-02-29T00:00:00Z: nobody there; 2 bans taken since the start",
        ),
    ] {
        let status = pb::Status {
            mcias: Some(pb::MciasStatus {
                server: "https://auth.example:443".into(),
                connected_unix_s: connected,
                error: error.into(),
                failed_unix_s: failed,
                bans_taken: taken,
            }),
            ..Default::default()
        };
        let told = line(&status, "mcias");
        assert_eq!(told, format!("{begins}{wanted}"), "{description}");
    }
    let lines = status::lines(&pb::Status::default());
    assert!(lines.iter().all(|[name, _]| name != "mcias"), "{lines:?}");
}

#[test]
fn certificates_tell_their_last_load() {
    let row = |loaded: Option<i64>, error: &str| {
        status::certificate_row(&pb::Certificate {
            port: 443,
            hostname: "a.example".into(),
            status: Some(pb::CertificateStatus {
                not_after_unix_s: loaded,
                loaded_unix_s: loaded,
                tried_unix_s: Some(951_782_400),
                error: error.into(),
            }),
        })
    };
    assert_eq!(row(Some(0), "")[4], "ok");
    assert_eq!(
        row(Some(0), "no key")[3..],
        [
            "2000-02-29T00:00:00Z",
            "no key; the one loaded 1970-01-01T00:00:00Z stays in force"
        ]
    );
    assert_eq!(row(None, "no key")[2..3], ["none in force"]);
    assert_eq!(row(None, "no key")[4], "no key");
}

#[test]
fn a_listener_that_drains_has_not_failed() {
    let drains = pb::Listener {
        error: "the daemon drains".into(),
        draining: true,
        ..Default::default()
    };
    assert_eq!(listener::row(&drains)[1], "draining");
}

#[test]
fn additions_are_told_apart() {
    let answer = |rules: usize, replaced, unchanged| pb::AddRulesResponse {
        rules: vec![
            pb::Rule {
                kind: pb::RuleKind::Allow.into(),
                cidr: "192.0.2.7/32".into(),
                ..Default::default()
            };
            rules
        ],
        replaced,
        unchanged,
    };
    for (answer, sentence) in [
        (answer(1, 0, 0), "allow 192.0.2.7/32"),
        (answer(1, 1, 0), "allow 192.0.2.7/32 (replaced what it was)"),
        (answer(1, 0, 1), "allow 192.0.2.7/32 (unchanged)"),
        (
            answer(7, 2, 1),
            "7 rules in force: 4 added, 2 replaced, 1 unchanged",
        ),
    ] {
        assert_eq!(firewall::added(&answer, 0), sentence);
    }
}

#[test]
fn a_route_that_nobody_can_come_by_is_told() {
    let route = pb::Route {
        port: 8443,
        ..Default::default()
    };
    let listener = |address: &str, redirect_port| pb::Listener {
        address: address.into(),
        redirect_port,
        ..Default::default()
    };
    for (listeners, wanted) in [
        (vec![], Some("nothing listens on port 8443")),
        (vec![listener("0.0.0.0:443", 0)], Some("nothing listens")),
        (
            vec![listener("0.0.0.0:8443", 443)],
            Some("only a redirect listens"),
        ),
        (
            vec![listener("0.0.0.0:8443", 443), listener("[::]:8443", 0)],
            None,
        ),
    ] {
        let hint = route::unreachable(&route, &listeners);
        match (&hint, wanted) {
            (None, None) => {}
            (Some(hint), Some(wanted)) if hint.starts_with(wanted) => {}
            _ => panic!("{hint:?}"),
        }
    }
}
