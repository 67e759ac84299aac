use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;

use super::*;
use crate::spec::{Action, CountryCode, EngineKind, RateLimit};

fn operator() -> Actor {
    Actor {
        uid: Some(0),
        pid: Some(42),
        source: "admin socket".into(),
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("mc-proxy.db")).unwrap();
    (dir, store)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn route(hostname: &str, port: u16) -> Route {
    Route {
        id: 0,
        key: RouteId {
            port,
            hostname: hostname.parse().unwrap(),
        },
        backends: vec![
            "10.0.0.2:8443".parse().unwrap(),
            "[fd00::2]:8443".parse().unwrap(),
        ],
        engine: Some(EngineKind::Sockmap),
        enabled: true,
        send_proxy: true,
        connect_timeout: Some(Duration::from_millis(1_500)),
        idle_timeout: None,
        max_age: Some(Duration::from_secs(3_600)),
        max_connections: Some(u32::MAX),
        l7: None,
    }
}

fn listener(address: &str) -> Listener {
    Listener {
        id: 0,
        address: address.parse().unwrap(),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        redirect: None,
        guarded: true,
    }
}

fn rule(kind: RuleKind, cidr: &str) -> Rule {
    Rule {
        id: 0,
        kind,
        cidr: cidr.parse().unwrap(),
        action: Action::Drop,
        expires: (kind == RuleKind::Ban).then(|| at(1_000)),
        comment: String::new(),
        created: at(500),
    }
}

fn policy() -> CountryPolicy {
    CountryPolicy {
        others: Some(Action::Reset),
        listed: BTreeMap::from([
            (CountryCode(*b"DE"), Action::Drop),
            (CountryCode(*b"??"), Action::Observe),
        ]),
    }
}

fn limits() -> RateLimits {
    RateLimits {
        connections: Some(RateLimit {
            per_second: 0.25,
            burst: 100,
            action: Action::Observe,
        }),
        packets: None,
    }
}

/// One of everything; ids as they will be stored.
fn full() -> State {
    let with_id = |mut r: Rule, id| {
        r.id = id;
        r
    };
    State {
        listeners: vec![Listener {
            id: 1,
            ..listener("[::]:443")
        }],
        routes: vec![Route {
            id: 1,
            ..route("*.example.org", 443)
        }],
        rules: vec![
            with_id(rule(RuleKind::Allow, "192.0.2.0/24"), 16),
            with_id(rule(RuleKind::Block, "192.0.2.0/24"), 17),
            with_id(rule(RuleKind::Ban, "2001:db8::/64"), 18),
        ],
        countries: policy(),
        rates: limits(),
    }
}

#[test]
fn seeds_once_and_reads_back_the_same() {
    let (dir, mut store) = store();
    assert!(!store.seeded().unwrap());
    assert!(store.seed(&full()).unwrap());
    assert!(!store.seed(&State::default()).unwrap(), "only once");
    assert_eq!(store.load().unwrap(), full());
    drop(store);
    let mut again = Store::open(&dir.path().join("mc-proxy.db")).unwrap();
    assert!(again.seeded().unwrap());
    assert_eq!(again.load().unwrap(), full());
}

#[test]
fn a_seed_that_fails_leaves_nothing() {
    let (_dir, mut store) = store();
    let mut state = full();
    state.rules.push(rule(RuleKind::Allow, "192.0.2.0/24"));
    assert!(matches!(store.seed(&state), Err(StoreError::GivenTwice(_))));
    assert!(!store.seeded().unwrap());
    assert_eq!(store.load().unwrap(), State::default());
    let last = &store.audit_log(1).unwrap()[0];
    assert_eq!(last.action, "seed");
    assert!(last.result.contains("given twice"), "{}", last.result);
}

/// What kill -9 leaves behind: the files as they are while the daemon still holds them open.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (dir, mut store) = store();
    let _ = store
        .add_route(&operator(), &route("a.example", 443), false)
        .unwrap();
    let _ = store
        .add_rules(&operator(), &[rule(RuleKind::Block, "192.0.2.7/32")], false)
        .unwrap();
    let after = tempfile::tempdir().unwrap();
    for name in ["mc-proxy.db", "mc-proxy.db-wal"] {
        fs::copy(dir.path().join(name), after.path().join(name)).unwrap();
    }
    let mut revived = Store::open(&after.path().join("mc-proxy.db")).unwrap();
    assert_eq!(revived.load().unwrap(), store.load().unwrap());
    assert_eq!(revived.load().unwrap().routes.len(), 1);
    assert_eq!(revived.audit_log(10).unwrap(), store.audit_log(10).unwrap());
}

/// As above, cut in the middle of a write: the last transaction is torn, the one before it stands.
#[test]
fn a_torn_transaction_is_as_if_it_never_was() {
    let (dir, mut store) = store();
    let _ = store
        .add_route(&operator(), &route("a.example", 443), false)
        .unwrap();
    let wal = dir.path().join("mc-proxy.db-wal");
    let whole = fs::metadata(&wal).unwrap().len();
    let many: Vec<Rule> = (0..50)
        .map(|i| rule(RuleKind::Block, &format!("10.0.0.{i}/32")))
        .collect();
    let _ = store.add_rules(&operator(), &many, false).unwrap();
    let longer = fs::metadata(&wal).unwrap().len();
    assert!(longer > whole);
    let after = tempfile::tempdir().unwrap();
    let path = after.path().join("mc-proxy.db");
    fs::copy(dir.path().join("mc-proxy.db"), &path).unwrap();
    let torn = fs::read(&wal).unwrap();
    let cut = usize::try_from(longer - 100).unwrap();
    fs::write(after.path().join("mc-proxy.db-wal"), &torn[..cut]).unwrap();
    let state = Store::open(&path).unwrap().load().unwrap();
    assert_eq!((state.routes.len(), state.rules.len()), (1, 0));
}

#[test]
fn routes_are_replaced_only_when_asked_and_keep_their_id() {
    let (_dir, mut store) = store();
    let me = operator();
    let first = store
        .add_route(&me, &route("a.example", 443), false)
        .unwrap();
    let changed = Route {
        backends: vec!["10.9.9.9:1".parse().unwrap()],
        engine: None,
        max_age: None,
        ..route("a.example", 443)
    };
    assert!(matches!(
        store.add_route(&me, &changed, false),
        Err(StoreError::AlreadyExists(what)) if what.contains("a.example on port 443")
    ));
    let second = store.add_route(&me, &changed, true).unwrap();
    assert_eq!(second.value.id, first.value.id);
    assert_eq!(store.load().unwrap().routes[..], [second.value][..]);
    store.undo(&me, &second.undo, "the kernel said no").unwrap();
    assert_eq!(store.load().unwrap().routes[..], [first.value][..]);
    store.undo(&me, &first.undo, "the kernel said no").unwrap();
    assert_eq!(store.load().unwrap().routes, []);
}

#[test]
fn route_ids_are_never_reused() {
    let (_dir, mut store) = store();
    let me = operator();
    let first = store
        .add_route(&me, &route("a.example", 443), false)
        .unwrap()
        .value;
    let removed = store.remove_route(&me, &first.key).unwrap();
    assert_eq!(removed.value, first);
    let second = store
        .add_route(&me, &route("b.example", 443), false)
        .unwrap()
        .value;
    assert_ne!(second.id, first.id);
    store.undo(&me, &removed.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().routes, [first, second]);
}

#[test]
fn routes_are_switched_on_and_off() {
    let (_dir, mut store) = store();
    let me = operator();
    let added = store
        .add_route(&me, &route("a.example", 443), false)
        .unwrap()
        .value;
    let off = store.set_route_enabled(&me, &added.key, false).unwrap();
    assert_eq!(
        off.value,
        Route {
            enabled: false,
            ..added.clone()
        }
    );
    assert_eq!(store.load().unwrap().routes, [off.value]);
    store.undo(&me, &off.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().routes, [added]);
}

#[test]
fn what_is_not_there_is_named() {
    let (_dir, mut store) = store();
    let me = operator();
    let key = route("a.example", 8443).key;
    let rows: [(&str, Result<(), StoreError>, &str); 4] = [
        (
            "route",
            store.remove_route(&me, &key).map(drop),
            "there is no route a.example on port 8443",
        ),
        (
            "disable",
            store.set_route_enabled(&me, &key, false).map(drop),
            "there is no route a.example on port 8443",
        ),
        (
            "listener",
            store
                .remove_listener(&me, "[::]:1".parse().unwrap())
                .map(drop),
            "there is no listener [::]:1",
        ),
        (
            "rule",
            store
                .remove_rules(&me, &[(RuleKind::Ban, "192.0.2.1/32".parse().unwrap())])
                .map(drop),
            "there is no ban 192.0.2.1/32",
        ),
    ];
    for (what, result, want) in rows {
        assert_eq!(result.unwrap_err().to_string(), want, "{what}");
    }
    assert_eq!(
        store.audit_log(10).unwrap().len(),
        4,
        "refusals are audited"
    );
}

#[test]
fn listeners_come_and_go() {
    let (_dir, mut store) = store();
    let me = operator();
    let added = store.add_listener(&me, &listener("0.0.0.0:443")).unwrap();
    assert!(matches!(
        store.add_listener(&me, &listener("0.0.0.0:443")),
        Err(StoreError::AlreadyExists(_))
    ));
    let removed = store.remove_listener(&me, added.value.address).unwrap();
    assert_eq!(removed.value, added.value);
    assert_eq!(store.load().unwrap().listeners, []);
    store.undo(&me, &removed.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().listeners, [added.value]);
}

#[test]
fn rules_are_added_and_removed_all_or_none() {
    let (_dir, mut store) = store();
    let me = operator();
    let one = rule(RuleKind::Block, "192.0.2.0/24");
    let two = rule(RuleKind::Block, "198.51.100.0/24");
    let first = store
        .add_rules(&me, std::slice::from_ref(&one), false)
        .unwrap();
    let both = [two.clone(), one.clone()];
    assert!(matches!(
        store.add_rules(&me, &both, false),
        Err(StoreError::AlreadyExists(_))
    ));
    assert_eq!(store.load().unwrap().rules, first.value);
    let twice = [two.clone(), two.clone()];
    assert!(matches!(
        store.add_rules(&me, &twice, true),
        Err(StoreError::GivenTwice(_))
    ));

    let louder = Rule {
        action: Action::Reset,
        comment: "again".into(),
        ..one.clone()
    };
    let second = store.add_rules(&me, &[louder, two], true).unwrap();
    assert_eq!(second.value[0].id, first.value[0].id, "replaced in place");
    assert_eq!(store.load().unwrap().rules, second.value);
    store.undo(&me, &second.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().rules, first.value);

    let missing = [(one.kind, one.cidr), (RuleKind::Allow, one.cidr)];
    assert!(matches!(
        store.remove_rules(&me, &missing),
        Err(StoreError::NotFound(_))
    ));
    let removed = store.remove_rules(&me, &missing[..1]).unwrap();
    assert_eq!(store.load().unwrap().rules, []);
    store.undo(&me, &removed.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().rules, first.value);
}

#[test]
fn host_bits_do_not_make_a_second_rule() {
    let (_dir, mut store) = store();
    let me = operator();
    let added = store
        .add_rules(&me, &[rule(RuleKind::Block, "192.0.2.99/24")], false)
        .unwrap();
    assert_eq!(added.value[0].cidr.to_string(), "192.0.2.0/24");
    let same = store.add_rules(&me, &[rule(RuleKind::Block, "192.0.2.1/24")], false);
    assert!(matches!(same, Err(StoreError::AlreadyExists(_))));
}

#[test]
fn ten_thousand_rules_in_one_transaction() {
    let (_dir, mut store) = store();
    let me = operator();
    let many: Vec<Rule> = (0..10_000_u32)
        .map(|i| rule(RuleKind::Block, &format!("10.{}.{}.0/24", i / 256, i % 256)))
        .collect();
    let added = store.add_rules(&me, &many, false).unwrap();
    let ids: Vec<u32> = added.value.iter().map(|r| r.id).collect();
    assert_eq!(
        ids,
        (FIRST_RULE_ID..FIRST_RULE_ID + 10_000).collect::<Vec<_>>()
    );
    assert_eq!(store.load().unwrap().rules, added.value);
    let log = store.audit_log(10).unwrap();
    assert_eq!(log.len(), 1, "one change, one row");
    assert!(
        log[0].detail.ends_with("and 9992 more"),
        "{}",
        log[0].detail
    );
    store.undo(&me, &added.undo, "test").unwrap();
    assert_eq!(store.load().unwrap().rules, []);
}

#[test]
fn the_id_space_is_the_bound() {
    let (_dir, mut store) = store();
    let me = operator();
    let all: Vec<Rule> = (0..MAX_RULES)
        .map(|i| rule(RuleKind::Block, &format!("10.{}.{}.0/24", i / 256, i % 256)))
        .collect();
    let added = store.add_rules(&me, &all, false).unwrap().value;
    assert_eq!(added.last().unwrap().id, RULE_ID_END - 1);
    let one_more = [rule(RuleKind::Allow, "192.0.2.0/24")];
    assert!(matches!(
        store.add_rules(&me, &one_more, false),
        Err(StoreError::Full("firewall rule", MAX_RULES))
    ));
    let gone = &added[4_000];
    let _ = store.remove_rules(&me, &[(gone.kind, gone.cidr)]).unwrap();
    let reused = store.add_rules(&me, &one_more, false).unwrap().value;
    assert_eq!(reused[0].id, gone.id, "there is no other");
}

#[test]
fn bans_end() {
    let (_dir, mut store) = store();
    let ban = |cidr, end| Rule {
        expires: Some(at(end)),
        ..rule(RuleKind::Ban, cidr)
    };
    let rules = [
        ban("192.0.2.1/32", 10),
        ban("192.0.2.2/32", 20),
        ban("192.0.2.3/32", 30),
        rule(RuleKind::Block, "192.0.2.0/24"),
    ];
    let added = store.add_rules(&operator(), &rules, false).unwrap().value;
    let ids = |rules: &[Rule]| rules.iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(store.end_bans(&[]).unwrap(), []);
    assert_eq!(store.end_bans(&ids(&added[3..])).unwrap(), [], "no ban");
    assert_eq!(
        store.audit_log(9).unwrap().len(),
        1,
        "nothing done, nothing audited"
    );
    assert_eq!(store.end_bans(&ids(&added[..2])).unwrap(), added[..2]);
    assert_eq!(
        store.end_bans(&ids(&added[..2])).unwrap(),
        [],
        "they are gone"
    );
    assert_eq!(store.load().unwrap().rules, added[2..]);
    assert_eq!(store.audit_log(1).unwrap()[0].actor.source, "expiry");
}

#[test]
fn policies_are_replaced_whole_and_come_back() {
    let (_dir, mut store) = store();
    let me = operator();
    let countries = store.set_countries(&me, &policy()).unwrap();
    let rates = store.set_rates(&me, &limits()).unwrap();
    let emptied = store.set_countries(&me, &CountryPolicy::default()).unwrap();
    store.undo(&me, &emptied.undo, "test").unwrap();
    let state = store.load().unwrap();
    assert_eq!((state.countries, state.rates), (policy(), limits()));
    store.undo(&me, &countries.undo, "test").unwrap();
    store.undo(&me, &rates.undo, "test").unwrap();
    assert_eq!(store.load().unwrap(), State::default());
}

#[test]
fn the_audit_names_the_actor_and_is_bounded() {
    let (_dir, mut store) = store();
    let _ = store
        .add_listener(&operator(), &listener("[::]:443"))
        .unwrap();
    let entry = store.audit_log(1).unwrap().remove(0);
    assert_eq!(entry.actor, operator());
    assert_eq!(
        (entry.action.as_str(), entry.result.as_str()),
        ("listener add", "ok")
    );
    assert!(entry.detail.contains("443"));
    let long = "ä".repeat(MAX_DETAIL);
    store.audit(&operator(), "detach", &long, "ok").unwrap();
    assert_eq!(store.audit_log(1).unwrap()[0].detail.len(), MAX_DETAIL);
    store
        .db
        .execute("UPDATE audit SET id = id + ?1", [MAX_AUDIT])
        .unwrap();
    store.audit(&operator(), "x", "", "ok").unwrap();
    store
        .db
        .execute(
            "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'audit'",
            [MAX_AUDIT],
        )
        .unwrap();
    store.audit(&operator(), "y", "", "ok").unwrap();
    assert_eq!(store.audit_log(9).unwrap().len(), 1, "the oldest are gone");
}

#[test]
fn the_audit_reads_like_what_was_typed() {
    let (_dir, mut store) = store();
    let me = operator();
    let added = store
        .add_route(&me, &route("a.example", 443), false)
        .unwrap();
    store.undo(&me, &added.undo, "the kernel said no").unwrap();
    let _ = store.add_listener(&me, &listener("[::]:443")).unwrap();
    let _ = store.set_countries(&me, &policy()).unwrap();
    let _ = store.set_rates(&me, &limits()).unwrap();
    let blocks = ["192.0.2.0/24", "2001:db8::/32"].map(|cidr| rule(RuleKind::Block, cidr));
    let rules = store.add_rules(&me, &blocks, false).unwrap();
    store.undo(&me, &rules.undo, "no room").unwrap();
    let ban = Rule {
        action: Action::Reset,
        comment: "probes ssh".into(),
        ..rule(RuleKind::Ban, "192.0.2.9/32")
    };
    let _ = store
        .add_rules(&me, std::slice::from_ref(&ban), false)
        .unwrap();
    let gone = [ban.cidr, "192.0.2.0/24".parse().unwrap()];
    let gone = [(RuleKind::Ban, gone[0]), (RuleKind::Block, gone[1])];
    assert!(store.remove_rules(&me, &gone).is_err(), "one is not there");
    let details: Vec<String> = store
        .audit_log(9)
        .unwrap()
        .into_iter()
        .rev()
        .map(|e| e.detail)
        .collect();
    assert_eq!(
        details,
        [
            "a.example on port 443 -> 10.0.0.2:8443, [fd00::2]:8443; engine sockmap; send-proxy; connect timeout \
             1s500ms; max age 1h; max connections 4294967295",
            "the kernel said no: route a.example on port 443 goes",
            "[::]:443; PROXY header from 10.0.0.0/8, fd00::/8",
            "only ??, DE; others reset",
            "connections 15/m, burst 100, observe; packets off",
            "block 192.0.2.0/24 drop, block 2001:db8::/32 drop",
            "no room: rules [block 192.0.2.0/24, block 2001:db8::/32] go, [] are back",
            "ban 192.0.2.9/32 reset for 8m20s \"probes ssh\"",
            "ban 192.0.2.9/32 reset for 8m20s \"probes ssh\", block 192.0.2.0/24",
        ]
    );
}

#[test]
fn damage_is_named() {
    let (_dir, mut store) = store();
    let _ = store
        .add_listener(&operator(), &listener("[::]:443"))
        .unwrap();
    store
        .db
        .execute("UPDATE listeners SET address = 'here'", [])
        .unwrap();
    let e = store.load().unwrap_err().to_string();
    assert!(
        e.contains("\"here\"") && e.contains("a listener's address"),
        "{e}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is added and removed: ids are unique, in range, and none comes back before all others were given.
    #[test]
    fn ids_never_clash(steps in prop::collection::vec((any::<bool>(), 0_u8..24), 1..40)) {
        let (_dir, mut store) = store();
        let me = operator();
        let mut model: BTreeMap<u8, u32> = BTreeMap::new();
        let mut next = FIRST_RULE_ID;
        for (add, host) in steps {
            let rule = rule(RuleKind::Block, &format!("192.0.2.{host}/32"));
            if add {
                match store.add_rules(&me, &[rule], false) {
                    Ok(done) => {
                        prop_assert_eq!(done.value[0].id, next);
                        prop_assert!(model.insert(host, next).is_none());
                        next += 1;
                    }
                    Err(_) => prop_assert!(model.contains_key(&host)),
                }
            } else {
                let removed = store.remove_rules(&me, &[(rule.kind, rule.cidr)]);
                prop_assert_eq!(removed.is_ok(), model.remove(&host).is_some());
            }
        }
        let stored: Vec<u32> = store.load().unwrap().rules.iter().map(|r| r.id).collect();
        let mut expected: Vec<u32> = model.into_values().collect();
        expected.sort_unstable();
        prop_assert_eq!(stored, expected);
    }
}

#[test]
fn a_snapshot_by_a_newer_program_leaves_the_schema_to_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let older = &schema::MIGRATIONS[..1];
    let running = db::open(&path, older).unwrap();
    let copy = dir.path().join("copy.db");
    snapshot(&path, &copy).unwrap();
    drop(running);
    for path in [path, copy] {
        db::open(&path, older).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn a_database_that_was_removed_takes_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut store = Store::open(&path).unwrap();
    let by = Actor::daemon("test");
    store.audit(&by, "before", "", "ok").unwrap();
    std::fs::remove_file(&path).unwrap();
    let rates = RateLimits::default();
    assert!(matches!(
        store.set_rates(&by, &rates),
        Err(StoreError::Open(DbError::Moved { .. }))
    ));
    assert!(store.audit(&by, "after", "", "ok").is_err());
    store.load().expect("what is in force can still be read");
}
