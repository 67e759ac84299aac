//! Whatever the rules and the packets: the program, `explain` and the twin decide as the model does, and count it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, OnceLock},
};

use aya::maps::{HashMap, MapData};
use ipnet::IpNet;
use mc_edge_common::firewall::{Reason, Verdict};
use mc_proxy::{
    firewall::{Change, action_code},
    geoip::GeoIp,
    spec::Rule,
};
use mc_testkit::mmdb;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    Bench, DROP, PASS, TX,
    generate::{Case, NETWORKS, case, index},
    model::{Counts, Kind, Model},
    packet::SYN,
};

/// Policies; each gets some dozens of packets.
const CASES: u32 = 512;

/// The program and its maps, rewritten for each case.
struct Fixture {
    bench: Bench,
    geo: Vec<(IpNet, u8)>,
    /// Ids in force, also after a case that failed.
    ids: Vec<u32>,
    /// Decisions met, so that the test is not about nothing.
    met: BTreeSet<(&'static str, &'static str)>,
}

impl Fixture {
    fn new() -> Self {
        let geoip = Arc::new(OnceLock::<Arc<GeoIp>>::new());
        let located = Arc::clone(&geoip);
        let mut bench = Bench::with_country(Arc::new(move |address| {
            located.get().map_or(0, |geoip| geoip.index(address))
        }));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("country.mmdb");
        fs::write(&path, mmdb::small(&NETWORKS)).unwrap();
        let opened = Arc::new(GeoIp::open(&mut bench.kernel, Some(path)).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(opened.load()).unwrap();
        let _ = geoip.set(opened);
        Self {
            bench,
            geo: NETWORKS
                .map(|(net, code)| (net.parse().unwrap(), index(code)))
                .to_vec(),
            ids: Vec::new(),
            met: BTreeSet::new(),
        }
    }

    /// Puts a policy in force: its rules in two batches, one of which also takes out what is to go.
    fn enforce(&mut self, case: &Case) {
        let firewall = &self.bench.firewall;
        let remove = |ids: &[u32]| ids.iter().map(|id| Change::Remove(*id)).collect::<Vec<_>>();
        firewall.apply(&remove(&self.ids)).unwrap();
        self.ids = case
            .policy
            .rules
            .iter()
            .chain(&case.removed)
            .map(|r| r.id)
            .collect();
        let (first, second) = case.policy.rules.split_at(case.policy.rules.len() / 2);
        let set = |rules: &[Rule]| rules.iter().cloned().map(Change::Set).collect::<Vec<_>>();
        firewall
            .apply(&[set(&case.removed), set(first)].concat())
            .unwrap();
        let gone: Vec<u32> = case.removed.iter().map(|rule| rule.id).collect();
        firewall
            .apply(&[remove(&gone), set(second)].concat())
            .unwrap();
        let mut actions = [0; 256];
        for (country, action) in &case.policy.countries {
            actions[usize::from(*country)] = action_code(*action);
        }
        firewall.set_countries(actions).unwrap();
        firewall.set_guarded(&case.policy.guarded, &[]).unwrap();
        firewall.set_rates(&case.policy.rates).unwrap();
        for map in ["RATE_CONNS", "RATE_PACKETS"] {
            let mut map: HashMap<MapData, u64, u64> = self.bench.pinned(map);
            let keys: Vec<u64> = map.keys().map(Result::unwrap).collect();
            keys.iter().for_each(|key| map.remove(key).unwrap());
        }
    }

    fn counts(&self) -> Counts {
        let firewall = &self.bench.firewall;
        let verdicts = firewall.verdict_counters().unwrap().into_iter();
        let rules = firewall.rule_counters().unwrap().into_iter();
        let countries = firewall.country_counters().unwrap().into_iter();
        Counts {
            verdicts: verdicts
                .map(|c| ((c.verdict.name(), c.reason.name()), c.count.packets))
                .collect(),
            rules: rules.map(|(id, count)| (id, count.packets)).collect(),
            countries: countries
                .map(|c| (c.country, (c.passed, c.denied)))
                .collect(),
        }
    }

    fn run(&mut self, case: &Case) -> Result<(), TestCaseError> {
        self.enforce(case);
        let before = self.counts();
        let mut model = Model::new(&case.policy, &self.geo);
        // It has its own buckets, and is asked about new connections only.
        let mut twin = Model::new(&case.policy, &self.geo);
        for sent in &case.packets {
            let syn = sent.kind == Kind::Tcp(SYN);
            let explained =
                syn.then(|| self.bench.firewall.explain(sent.source, sent.port).unwrap());
            let (verdict, reason) = model.judge(sent.source, sent.kind, sent.port);
            let code = match verdict {
                Verdict::Drop => DROP,
                Verdict::Reset => TX,
                _ => PASS,
            };
            prop_assert_eq!(
                self.bench.verdict(&sent.bytes()),
                code,
                "{:?} {:?}",
                sent,
                reason
            );
            self.met.insert((verdict.name(), reason.name()));
            if let Some(trace) = explained {
                let decided = (trace.decision.verdict, trace.decision.reason);
                prop_assert_eq!(decided, (verdict, reason), "explain {:?} {:?}", sent, trace);
                let admitted = self.bench.firewall.admit(sent.source, sent.port).decision;
                let expected = twin.judge(sent.source, sent.kind, sent.port);
                prop_assert_eq!(
                    (admitted.verdict, admitted.reason),
                    expected,
                    "twin {:?}",
                    sent
                );
            }
        }
        let counted = difference(self.counts(), &before);
        prop_assert_eq!(counted, model.counts);
        Ok(())
    }
}

fn difference(after: Counts, before: &Counts) -> Counts {
    fn less<K: Ord + Copy>(after: BTreeMap<K, u64>, before: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
        let before = |key: K| before.get(&key).copied().unwrap_or(0);
        let less = after.into_iter().map(|(key, n)| (key, n - before(key)));
        less.filter(|(_, n)| *n > 0).collect()
    }
    let countries = after.countries.into_iter().map(|(key, (passed, denied))| {
        let old = before.countries.get(&key).copied().unwrap_or((0, 0));
        (key, (passed - old.0, denied - old.1))
    });
    Counts {
        verdicts: less(after.verdicts, &before.verdicts),
        rules: less(after.rules, &before.rules),
        countries: countries.filter(|(_, n)| *n != (0, 0)).collect(),
    }
}

#[test]
fn program_explain_and_twin_decide_as_the_model() {
    let fixture = RefCell::new(Fixture::new());
    TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
    .run(&case(), |case| fixture.borrow_mut().run(&case))
    .unwrap_or_else(|failure| panic!("{failure}"));
    let met = &fixture.borrow().met;
    for reason in [
        Reason::Block,
        Reason::Ban,
        Reason::Country,
        Reason::RateConnections,
    ] {
        for verdict in [Verdict::Drop, Verdict::Reset] {
            let decision = (verdict.name(), reason.name());
            assert!(met.contains(&decision), "no packet met {decision:?}");
        }
    }
    for reason in [
        Reason::Allow,
        Reason::Established,
        Reason::NeighbourDiscovery,
        Reason::NoMatch,
    ] {
        let decision = (Verdict::Pass.name(), reason.name());
        assert!(met.contains(&decision), "no packet met {decision:?}");
    }
}
