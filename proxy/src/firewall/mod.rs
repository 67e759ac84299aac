//! The firewall's userland half: rules into kernel maps, counters out of them, `explain`, and the same decision for
//! clients that XDP cannot see.
//!
//! [`Firewall`] keeps what must stand in the maps ([`compile`]) and writes differences. The prefilter's bits are set before a
//! trie entry and cleared after it, so a packet never misses a rule. Rejected: rewriting whole maps (an unfiltered
//! instant), reference counts per prefilter bit (a row is cheaper to compute than to keep right).

mod clock;
mod compile;
mod maps;
mod policy;
mod prefix;
mod state;
mod trace;
mod twin;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use aya::maps::MapError;
use maps::Maps;
use mc_edge_common::firewall::{Config, CountryActions, GUARDED_WORDS, Rate, action};
use policy::Part;
use state::State;

pub use clock::{WallClock, ktime};
pub use compile::action_code;
pub use maps::{Count, CountryCount, DUMPED, ObservedSample, VerdictCount};
pub use prefix::{PrefixError, check_prefix, judged, source};
pub use trace::{Step, Trace};
pub use twin::Admission;
pub use words::rule_name;

use crate::{
    kernel::{Kernel, KernelError},
    spec::{FIRST_RULE_ID, RateLimit, RateLimits, Rule},
};

/// A failure of the firewall.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The object lacks a map.
    #[error("the firewall's maps cannot be opened")]
    Kernel(#[from] KernelError),
    /// A map cannot be read or written.
    #[error("the kernel map {map} cannot be read or written; is it full (`mcproxyctl status`)?")]
    Map {
        /// The map.
        map: &'static str,
        #[source]
        /// Why.
        source: MapError,
    },
    /// No such map.
    #[error("the firewall has no map {0}")]
    UnknownMap(String),
    /// The rule's prefix cannot be.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// No counter slot.
    #[error("rule id {0} has no counter slot")]
    RuleId(u32),
}

/// A change of one rule.
#[derive(Clone, Debug)]
pub enum Change {
    /// Puts it in force; replaces the rule of the same id.
    Set(Rule),
    /// Takes the rule with this id out; its counters are reset.
    Remove(u32),
}

/// What a check of the kernel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Should be in the kernel.
    Missing,
    /// Should not be.
    Unexpected,
    /// Is there with another value.
    Different,
}

/// A difference between the rules and a kernel map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The map.
    pub map: &'static str,
    /// The key, readable.
    pub key: String,
    /// What is wrong.
    pub kind: DifferenceKind,
    /// Both values.
    pub detail: String,
}

/// The country of an address as the GeoIP tables say; 0 = unknown.
pub type CountryOf = Arc<dyn Fn(IpAddr) -> u8 + Send + Sync>;

/// The firewall. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Firewall {
    state: Arc<Mutex<State>>,
    /// What the twin judges by: [`Self::admit`] does not wait for those who hold `state` for long.
    in_force: Arc<ArcSwap<twin::Snapshot>>,
    twin: Arc<twin::Rates>,
    country: CountryOf,
}

impl std::fmt::Debug for Firewall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firewall").finish_non_exhaustive()
    }
}

fn rate(limit: Option<RateLimit>) -> Rate {
    let Some(limit) = limit else {
        return Rate::default();
    };
    let interval = ((1e9 / limit.per_second) as u64).max(1);
    Rate {
        interval,
        // The clock stands still within a tick: what conforms by a finer one conforms by this one too.
        tolerance: interval
            .saturating_mul(u64::from(limit.burst.max(1) - 1))
            .saturating_add(clock::tick()),
        action: action_code(limit.action),
        reserved: [0; 7],
    }
}

impl Firewall {
    /// Takes the firewall's maps out of the kernel object. What a former daemon left in them stays in force until
    /// [`Self::reconcile`].
    ///
    /// # Errors
    /// [`FirewallError`] if a map is missing or unreadable.
    pub fn open(kernel: &mut Kernel, country: CountryOf) -> Result<Self, FirewallError> {
        Self::open_with_clock(kernel, country, Arc::new(SystemTime::now))
    }

    /// [`Self::open`] with another wall clock, for tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_clock(
        kernel: &mut Kernel,
        country: CountryOf,
        wall: WallClock,
    ) -> Result<Self, FirewallError> {
        let mut maps = Maps::open(kernel)?;
        let mut policies = maps.policies()?;
        let inherited = policies.inherited();
        if policies.config == Config::default() {
            policies.config.unparsed = action::DROP;
            maps.set_policies(&policies)?;
        }
        let state = State {
            maps,
            rules: BTreeMap::new(),
            compiled: Arc::default(),
            policies,
            inherited: inherited.into_iter().collect(),
            guarded: BTreeSet::new(),
            wall,
        };
        Ok(Self {
            in_force: Arc::new(ArcSwap::from_pointee(state.snapshot())),
            state: Arc::new(Mutex::new(state)),
            twin: Arc::default(),
            country,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while locked leaves maps that `reconcile` compares anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is in force; then the twin judges by it, as far as the kernel took it.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<T, FirewallError>,
    ) -> Result<T, FirewallError> {
        let mut state = self.lock();
        let result = edit(&mut state);
        self.in_force.store(Arc::new(state.snapshot()));
        result
    }

    /// Applies changes of rules, in order, as one batch.
    ///
    /// # Errors
    /// [`FirewallError`]: a bad rule changes nothing; a failed map write leaves the rest to [`Self::reconcile`].
    pub fn apply(&self, changes: &[Change]) -> Result<(), FirewallError> {
        for change in changes {
            if let Change::Set(rule) = change {
                compile::check(rule)?;
            }
        }
        self.change(|state| state.apply(changes))
    }

    /// Sets the action of every country index.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn set_countries(&self, actions: [u8; 256]) -> Result<(), FirewallError> {
        self.change(|state| {
            state.set(Part::Countries, |policies| {
                policies.countries = CountryActions { actions };
            })
        })
    }

    /// Sets the rate limits.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn set_rates(&self, limits: &RateLimits) -> Result<(), FirewallError> {
        self.change(|state| {
            state.set(Part::Rates, |policies| {
                policies.config.connections = rate(limits.connections);
                policies.config.packets = rate(limits.packets);
            })
        })?;
        self.twin.set(limits);
        Ok(())
    }

    /// Sets what happens to what cannot be parsed (one of `action`), and how often denials are logged: one in
    /// `log_every`, 0 = never.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn set_config(&self, unparsed: u8, log_every: u32) -> Result<(), FirewallError> {
        self.change(|state| {
            state.set(Part::Settings, |policies| {
                policies.config.unparsed = unparsed;
                policies.config.log_every = log_every;
            })
        })
    }

    /// Sets the ports that country and rate rules judge, TCP and UDP alike. Those `behind_proxy` are judged by
    /// [`Self::admit`] only: to XDP all their clients are one source, the proxy.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn set_guarded(&self, ports: &[u16], behind_proxy: &[u16]) -> Result<(), FirewallError> {
        self.change(|state| {
            state.set(Part::Guarded, |policies| {
                policies.guarded = policy::bitmap(ports, GUARDED_WORDS as usize);
            })?;
            state.guarded = ports.iter().chain(behind_proxy).copied().collect();
            Ok(())
        })
    }

    /// Compares the kernel maps with the rules and with the policies last set; `repair` makes the kernel right. At start: the rules of the store
    /// against what a former daemon left. A rule that the maps cannot hold is told and left out: one bad rule must not
    /// keep all others out of force.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn reconcile(
        &self,
        rules: &[Rule],
        repair: bool,
    ) -> Result<Vec<Difference>, FirewallError> {
        if repair {
            self.change(|state| state.reconcile(rules, true))
        } else {
            self.lock().reconcile(rules, false)
        }
    }

    /// Counters of the built-in rules, then of those in force, by id.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn rule_counters(&self) -> Result<Vec<(u32, Count)>, FirewallError> {
        let state = self.lock();
        let mut built_in: BTreeMap<u32, Count> = (1..FIRST_RULE_ID)
            .map(|id| (id, Count::default()))
            .collect();
        for counted in state.maps.verdict_counters()? {
            if let Some(count) = built_in.get_mut(&counted.reason.built_in()) {
                count.packets += counted.count.packets;
                count.bytes += counted.count.bytes;
            }
        }
        let own = state.rules.keys();
        let own = own.map(|id| Ok((*id, state.maps.rule_counter(*id)?)));
        built_in.into_iter().map(Ok).chain(own).collect()
    }

    /// Counters by verdict and reason.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn verdict_counters(&self) -> Result<Vec<VerdictCount>, FirewallError> {
        self.lock().maps.verdict_counters()
    }

    /// Counters by country index.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn country_counters(&self) -> Result<Vec<CountryCount>, FirewallError> {
        self.lock().maps.country_counters()
    }

    /// Sources that observing rules matched.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn samples(&self) -> Result<Vec<ObservedSample>, FirewallError> {
        self.lock().maps.samples()
    }

    /// What is in the kernel of the operator's, for people; before anything is set, it is what a former daemon left.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn left_in_force(&self) -> Result<Vec<String>, FirewallError> {
        self.lock().maps.operators()
    }

    /// How many rules are in force.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.lock().rules.len()
    }

    /// Entries and capacity of each map that can fill.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn map_fill(&self) -> Result<Vec<(&'static str, u32, u32)>, FirewallError> {
        self.lock().maps.fill()
    }

    /// A map's contents, readable: (map, key, value). `None` = all.
    ///
    /// # Errors
    /// [`FirewallError`] if there is no such map or it is unreadable.
    pub fn dump(
        &self,
        map: Option<&str>,
    ) -> Result<Vec<(&'static str, String, String)>, FirewallError> {
        self.lock().maps.dump(map)
    }

    /// What the program would do with a new TCP connection, from the kernel's own maps, stage by stage. Changes
    /// nothing: rates are read, not charged.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn explain(&self, address: IpAddr, port: u16) -> Result<Trace, FirewallError> {
        let state = self.lock();
        trace::explain(&state.maps, &self.country, address, port, None)
    }

    /// [`Self::explain`] for a client that a PROXY header names: what [`Self::admit`] would say, but for its rates.
    ///
    /// # Errors
    /// [`FirewallError::Map`].
    pub fn explain_proxied(&self, address: IpAddr, port: u16) -> Result<Trace, FirewallError> {
        let state = self.lock();
        let guarded = Some(state.guarded.contains(&port));
        trace::explain(&state.maps, &self.country, address, port, guarded)
    }

    /// Bans in the maps whose end has come by the kernel's clock: the program ignores them.
    #[must_use]
    pub fn ended(&self) -> Vec<u32> {
        let (state, now) = (self.lock(), ktime());
        let hosts = state.compiled.hosts4.values();
        hosts
            .chain(state.compiled.hosts6.values())
            .filter(|host| host.ban_action != action::PASS && host.ban_expires <= now)
            .map(|host| host.ban_rule)
            .collect()
    }

    /// Judges a client known only by its PROXY header, by the same rules.
    #[must_use]
    pub fn admit(&self, address: IpAddr, port: u16) -> Admission {
        twin::admit(
            &self.in_force.load(),
            &self.twin,
            &self.country,
            address,
            port,
        )
    }
}
