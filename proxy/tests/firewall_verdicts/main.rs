//! The XDP program's verdicts, through BPF_PROG_TEST_RUN, and the maps behind them.

mod generate;
mod maps;
mod model;
mod packet;
mod property;
mod verdicts;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use aya::{
    maps::{Map, MapData, MapError},
    programs::{TestRun as _, TestRunOptions},
};
use mc_edge_common::LAYOUT_VERSION;
use mc_proxy::{
    firewall::{Change, CountryOf, Firewall, WallClock},
    kernel::{self, Kernel},
    spec::{Action, Rule, RuleKind},
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// A firewall of its own, in a pin directory of its own.
struct Bench {
    kernel: Kernel,
    firewall: Firewall,
    pins: PathBuf,
}

impl Bench {
    fn new() -> Self {
        Self::with_country(Arc::new(|_| 0))
    }

    fn with_country(country: CountryOf) -> Self {
        Self::with(country, Arc::new(SystemTime::now))
    }

    fn with(country: CountryOf, wall: WallClock) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let pins = PathBuf::from(format!("/sys/fs/bpf/mc-test-{}-{n}", std::process::id()));
        let mut kernel = Kernel::open(&pins).unwrap();
        let firewall = Firewall::open_with_clock(&mut kernel, country, wall).unwrap();
        firewall.set_guarded(&[443], &[]).unwrap();
        Self {
            kernel,
            firewall,
            pins,
        }
    }

    /// One of its maps, behind its back.
    fn pinned<M: TryFrom<Map, Error = MapError>>(&self, name: &str) -> M {
        let pin = self.pins.join(format!("v{LAYOUT_VERSION}")).join(name);
        let map = Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap();
        M::try_from(map).unwrap()
    }

    fn run(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; 4096];
        let result = self
            .kernel
            .firewall()
            .unwrap()
            .test_run(TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    fn verdict(&mut self, packet: &[u8]) -> u32 {
        self.run(packet).0
    }

    fn set(&self, rules: &[Rule]) {
        let changes: Vec<_> = rules.iter().cloned().map(Change::Set).collect();
        self.firewall.apply(&changes).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = kernel::detach(&self.pins);
        let _ = fs::remove_dir(&self.pins);
    }
}

fn rule(id: u32, kind: RuleKind, cidr: &str, action: Action) -> Rule {
    Rule {
        id,
        kind,
        cidr: cidr.parse().unwrap(),
        action,
        expires: (kind == RuleKind::Ban).then(|| SystemTime::now() + Duration::from_secs(600)),
        comment: String::new(),
        created: SystemTime::now(),
    }
}
