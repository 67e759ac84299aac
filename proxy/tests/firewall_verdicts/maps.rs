//! What stands in the maps: many rules, comparison and repair, the twin beside them.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

use aya::maps::{Array, HashMap, LpmTrie, lpm_trie::Key};
use mc_edge_common::firewall::{
    Filter4Row, Filter6Row, HostEntry, MAX_PREFIXES, PrefixEntry, filter6_bit,
};
use mc_proxy::{
    firewall::{Change, Firewall, ktime},
    kernel::Kernel,
    spec::{Action, Rule, RuleKind},
};

use crate::{Bench, DROP, PASS, packet::*, rule};

#[test]
fn ten_thousand_prefixes_and_overlaps() {
    let mut bench = Bench::new();
    let cidr = |i: u32| {
        format!(
            "{}/28",
            std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096)
        )
    };
    let mut rules: Vec<_> = (0..10_000)
        .map(|i| rule(16 + i, RuleKind::Block, &cidr(i), Action::Drop))
        .collect();
    bench.set(&rules);
    for i in (0..10_000u32).step_by(997) {
        let inside = std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096 + 3).to_string();
        let outside = std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096 + 16).to_string();
        assert_eq!(bench.verdict(&syn4(&inside, 443)), DROP, "{inside}");
        assert_eq!(bench.verdict(&syn4(&outside, 443)), PASS, "{outside}");
    }
    let wide = rule(20_000, RuleKind::Block, "32.0.0.0/8", Action::Drop);
    bench.set(std::slice::from_ref(&wide));
    assert_eq!(bench.verdict(&syn4("32.255.1.1", 443)), DROP, "by the /8");
    bench.firewall.apply(&[Change::Remove(20_000)]).unwrap();
    assert_eq!(
        bench.verdict(&syn4("32.255.1.1", 443)),
        PASS,
        "the /8 is gone"
    );
    assert_eq!(
        bench.verdict(&syn4("32.0.0.3", 443)),
        DROP,
        "the /28 within it is not"
    );
    assert!(bench.firewall.reconcile(&rules, false).unwrap().is_empty());
    let lost = rules.pop().unwrap();
    let found = bench.firewall.reconcile(&rules, true).unwrap();
    assert!(found.iter().any(|d| d.map == "BLOCK4"), "{found:?}");
    assert!(
        bench.firewall.reconcile(&rules, false).unwrap().is_empty(),
        "repaired"
    );
    let first = lost.cidr.network().to_string();
    assert_eq!(bench.verdict(&syn4(&first, 443)), PASS);
}

#[test]
fn a_rule_that_no_map_can_hold_is_told_and_keeps_no_other_out() {
    let mut bench = Bench::new();
    let rules = [
        rule(16, RuleKind::Block, "::ffff:192.0.2.0/120", Action::Drop),
        rule(17, RuleKind::Block, "198.51.100.0/24", Action::Drop),
    ];
    let found = bench.firewall.reconcile(&rules, true).unwrap();
    assert!(found.iter().any(|d| d.key.contains("rule 16")), "{found:?}");
    assert_eq!(bench.verdict(&syn4("198.51.100.1", 443)), DROP);
    let found = bench.firewall.reconcile(&rules, false).unwrap();
    assert_eq!(found.len(), 1, "only the bad rule remains: {found:?}");
}

#[test]
fn policies_are_compared_and_repaired() {
    let mut bench = Bench::new();
    bench.firewall.set_countries([0; 256]).unwrap();
    // Another writer to the same maps.
    let mut kernel = Kernel::open(&bench.pins).unwrap();
    let other = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
    other.set_countries([1; 256]).unwrap();
    other.set_config(0, 7).unwrap();
    other.set_guarded(&[444], &[]).unwrap();
    let found = bench.firewall.reconcile(&[], false).unwrap();
    for map in ["COUNTRY_POLICY", "CONFIG", "GUARDED"] {
        assert!(found.iter().any(|d| d.map == map), "{map}: {found:?}");
        assert!(!bench.firewall.dump(Some(map)).unwrap().is_empty(), "{map}");
    }
    assert_eq!(bench.verdict(&syn4("203.0.113.9", 444)), DROP);
    bench.firewall.reconcile(&[], true).unwrap();
    assert_eq!(bench.verdict(&syn4("203.0.113.9", 444)), PASS);
    assert_eq!(bench.firewall.reconcile(&[], false).unwrap(), []);
}

#[test]
fn a_ban_that_ends_at_another_time_is_a_difference() {
    let bench = Bench::new();
    let now = SystemTime::now();
    let ban = |cidr: &str, end| Rule {
        expires: Some(end),
        ..rule(16, RuleKind::Ban, cidr, Action::Drop)
    };
    let ends = [
        ("to come", now + Duration::from_secs(600)),
        ("over, and not yet swept", now - Duration::from_secs(20)),
    ];
    for (cidr, (which, end)) in ["203.0.113.2/32", "2001:db8:b::/64"]
        .into_iter()
        .flat_map(|cidr| ends.map(|end| (cidr, end)))
    {
        bench.firewall.reconcile(&[ban(cidr, end)], true).unwrap();
        for (description, shift, differences) in [
            ("the same", 0, 0),
            ("rounded", 1, 0),
            ("another end", 10, 1),
        ] {
            let moved = ban(cidr, end + Duration::from_secs(shift));
            let found = bench.firewall.reconcile(&[moved], false).unwrap();
            assert_eq!(
                found.len(),
                differences,
                "{cidr} {which} {description}: {found:?}"
            );
        }
    }
}

#[test]
fn a_running_daemon_keeps_the_ends_of_its_bans() {
    const HOUR: u64 = 3600;
    let start = SystemTime::now();
    let ahead = Arc::new(AtomicU64::new(0));
    let wall = |ahead: &Arc<AtomicU64>| {
        let ahead = Arc::clone(ahead);
        Arc::new(move || SystemTime::now() + Duration::from_secs(ahead.load(Relaxed)))
    };
    let mut bench = Bench::with(Arc::new(|_| 0), wall(&ahead));
    let ban = |id, cidr| Rule {
        expires: Some(start + Duration::from_secs(600)),
        ..rule(id, RuleKind::Ban, cidr, Action::Drop)
    };
    // One of the last daemon's, one set since.
    let rules = [ban(16, "192.0.2.1/32"), ban(17, "192.0.2.2/32")];
    bench.firewall.reconcile(&rules[..1], true).unwrap();
    bench.set(&rules[1..]);
    let mut hosts: HashMap<_, u32, HostEntry> = bench.pinned("HOSTS4");
    let keys = [0xc000_0201, 0xc000_0202];
    let before = keys.map(|key| hosts.get(&key, 0).unwrap());

    ahead.store(HOUR, Relaxed);
    assert_eq!(bench.firewall.reconcile(&rules, true).unwrap(), []);
    // Another's hand, which a repair undoes by what this daemon knows and not by the clock.
    let other = HostEntry {
        ban_expires: before[0].ban_expires - 60_000_000_000,
        ..before[0]
    };
    hosts.insert(keys[0], other, 0).unwrap();
    assert_eq!(bench.firewall.reconcile(&rules, true).unwrap().len(), 1);
    assert_eq!(keys.map(|key| hosts.get(&key, 0).unwrap()), before);
    assert_eq!(bench.verdict(&syn4("192.0.2.1", 443)), DROP);

    // Another end in the database is another ban, and the next daemon knows nothing but the database.
    let longer = Rule {
        expires: Some(start + Duration::from_secs(HOUR + 900)),
        ..rules[0].clone()
    };
    let changed = [longer, rules[1].clone()];
    assert_eq!(bench.firewall.reconcile(&changed, true).unwrap().len(), 1);
    let mut kernel = Kernel::open(&bench.pins).unwrap();
    let next = Firewall::open_with_clock(&mut kernel, Arc::new(|_| 0), wall(&ahead)).unwrap();
    next.reconcile(&changed, true).unwrap();
    assert_eq!(next.ended(), [17]);
}

#[test]
fn a_clock_that_is_behind_makes_no_ban_longer() {
    let year = Duration::from_secs(365 * 86_400);
    let bench = Bench::with(Arc::new(|_| 0), Arc::new(move || SystemTime::now() - year));
    let ban = rule(16, RuleKind::Ban, "192.0.2.1/32", Action::Drop);
    bench.firewall.reconcile(&[ban], true).unwrap();
    let hosts: HashMap<_, u32, HostEntry> = bench.pinned("HOSTS4");
    let end = hosts.get(&0xc000_0201, 0).unwrap().ban_expires;
    let left = Duration::from_nanos(end - ktime());
    assert!(left <= Duration::from_secs(600), "{left:?}");
}

#[test]
fn a_failed_batch_leaves_the_rules_as_they_were() {
    let mut bench = Bench::new();
    let old = rule(16, RuleKind::Block, "192.0.2.0/24", Action::Drop);
    let new = rule(17, RuleKind::Block, "198.51.100.0/24", Action::Drop);
    bench.set(std::slice::from_ref(&old));
    let mut trie: LpmTrie<_, [u8; 4], PrefixEntry> = bench.pinned("BLOCK4");
    let stray = |i: u32| Key::new(32, (0x0a00_0000 + i).to_be_bytes());
    for i in 1..MAX_PREFIXES {
        trie.insert(&stray(i), PrefixEntry::default(), 0).unwrap();
    }
    let batch = [Change::Remove(16), Change::Set(new)];
    bench.firewall.apply(&batch).expect_err("the map is full");
    trie.remove(&stray(1)).unwrap();
    let ids = || {
        let counters = bench.firewall.rule_counters().unwrap();
        counters
            .into_iter()
            .map(|(id, _)| id)
            .filter(|id| *id >= 16)
    };
    assert_eq!(ids().collect::<Vec<_>>(), [16]);
    bench.firewall.apply(&[Change::Remove(16)]).unwrap();
    assert_eq!(bench.verdict(&syn4("192.0.2.1", 443)), PASS);
}

#[test]
fn a_port_behind_a_proxy_is_judged_by_the_header_only() {
    let mut bench = Bench::new();
    bench.firewall.set_guarded(&[443], &[8443]).unwrap();
    bench.firewall.set_countries([1; 256]).unwrap();
    let client = "203.0.113.9";
    for (port, in_kernel) in [(443, DROP), (8443, PASS)] {
        assert_eq!(bench.verdict(&syn4(client, port)), in_kernel, "{port}");
        let twin = bench.firewall.admit(client.parse().unwrap(), port);
        assert_eq!(
            twin.decision.rule,
            mc_edge_common::firewall::rule::COUNTRY,
            "{port}"
        );
    }
}

#[test]
fn the_twin_judges_while_the_maps_are_read() {
    let reading: IpAddr = "203.0.113.1".parse().unwrap();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    // `explain` asks for the country in the middle of its work.
    let bench = Bench::with_country(Arc::new(move |address| {
        if address == reading {
            entered.send(()).unwrap();
            let _ = may_leave.lock().unwrap().recv();
        }
        0
    }));
    bench.set(&[rule(16, RuleKind::Block, "192.0.2.0/24", Action::Drop)]);
    let (explains, admits) = (bench.firewall.clone(), bench.firewall.clone());
    let explains = thread::spawn(move || explains.explain(reading, 443).map(drop));
    has_entered.recv().unwrap();
    let (answer, answered) = mpsc::channel();
    let admits = thread::spawn(move || {
        let _ = answer.send(admits.admit("192.0.2.1".parse().unwrap(), 443));
    });
    let answer = answered.recv_timeout(mc_testkit::DEADLINE);
    drop(leave);
    explains.join().unwrap().unwrap();
    admits.join().unwrap();
    assert_eq!(answer.expect("not behind the reader").decision.rule, 16);
}

#[test]
fn a_reused_id_starts_at_zero() {
    let mut bench = Bench::new();
    let observed = |id, cidr| rule(id, RuleKind::Block, cidr, Action::Observe);
    let (a, b) = ("192.0.2.0/24", "198.51.100.0/24");
    for (description, stored, kept) in [
        ("an ordinary restart", observed(16, a), true),
        (
            "another action",
            rule(16, RuleKind::Block, a, Action::Reset),
            true,
        ),
        ("the id is another prefix's", observed(16, b), false),
        (
            "the id is another kind's",
            rule(16, RuleKind::Allow, a, Action::Drop),
            false,
        ),
        ("the rule has another id", observed(17, a), false),
        ("the rule is gone", observed(17, b), false),
    ] {
        bench.firewall.reconcile(&[observed(16, a)], true).unwrap();
        bench.verdict(&syn4("192.0.2.1", 443));
        // The next daemon.
        let mut kernel = Kernel::open(&bench.pins).unwrap();
        let next = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
        next.reconcile(std::slice::from_ref(&stored), true).unwrap();
        // Whoever gets the id now.
        next.apply(&[Change::Set(Rule { id: 16, ..stored })])
            .unwrap();
        let counters = next.rule_counters().unwrap();
        let packets = counters.iter().find(|(id, _)| *id == 16).unwrap().1.packets;
        assert_eq!(packets, u64::from(kept), "{description}");
        let samples = next.samples().unwrap();
        assert_eq!(
            samples.len(),
            usize::from(kept),
            "{description}: {samples:?}"
        );
        next.apply(&[Change::Remove(16)]).unwrap();
        next.reconcile(&[], true).unwrap();
    }
}

#[test]
fn a_prefilter_that_hides_a_rule_is_told_and_repaired() {
    let mut bench = Bench::new();
    let rules = [
        rule(16, RuleKind::Block, "192.0.2.0/24", Action::Drop),
        rule(17, RuleKind::Block, "2001:db8:b::/48", Action::Drop),
    ];
    bench.set(&rules);
    let packets = [syn4("192.0.2.1", 443), syn6("2001:db8:b::1")];
    let mut filter4: Array<_, Filter4Row> = bench.pinned("FILTER4");
    let mut filter6: Array<_, Filter6Row> = bench.pinned("FILTER6");
    let row6 = filter6_bit(0x2001_0db8).0;
    filter4.set(0xc000, Filter4Row::default(), 0).unwrap();
    filter6.set(row6, Filter6Row::default(), 0).unwrap();
    for packet in &packets {
        assert_eq!(bench.verdict(packet), PASS, "hidden");
    }
    // A bit too many costs a lookup only, but is not what should be there either.
    let stray = Filter4Row {
        block: [1; 4],
        ..Filter4Row::default()
    };
    filter4.set(7, stray, 0).unwrap();
    let found = bench.firewall.reconcile(&rules, true).unwrap();
    let keys: Vec<_> = found.iter().map(|d| (d.map, d.key.as_str())).collect();
    let row6 = format!("row {row6}");
    let want = [
        ("FILTER4", "0.7.0.0/16"),
        ("FILTER4", "192.0.0.0/16"),
        ("FILTER6", &row6),
    ];
    assert_eq!(keys, want);
    for packet in &packets {
        assert_eq!(bench.verdict(packet), DROP, "repaired");
    }
    assert_eq!(bench.firewall.reconcile(&rules, false).unwrap(), []);
}
