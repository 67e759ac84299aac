//! The firewall's maps, and the decision's view of them.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use mc_edge_common::{
    decide::{Limit, Packet, Source, Tables},
    firewall::{
        COUNTRIES, Config, Counter, CountryActions, CountryCounter, FILTER4_ROWS, FILTER6_ROWS,
        Filter4Row, Filter6Row, GUARDED_WORDS, HostEntry, MAX_HOSTS, MAX_PREFIXES, MAX_RATES,
        MAX_RULES, MAX_SAMPLES, PrefixEntry, Reason, Sample, SampleKey, VERDICT_SLOTS, Verdict,
        filter6_bit, rule, verdict_slot,
    },
};

use super::parse::{Found, MAX_OFFSET};
use crate::geo;

/// Settings.
#[map]
pub(super) static CONFIG: Array<Config> = Array::pinned(1, 0);
/// IPv4 address (host order) -> ban and exact block.
#[map]
static HOSTS4: HashMap<u32, HostEntry> = HashMap::pinned(MAX_HOSTS, BPF_F_NO_PREALLOC);
/// IPv6 /64 (host order) -> ban and exact block.
#[map]
static HOSTS6: HashMap<u64, HostEntry> = HashMap::pinned(MAX_HOSTS, BPF_F_NO_PREALLOC);
/// Blocked prefixes but hosts.
#[map]
static BLOCK4: LpmTrie<[u8; 4], PrefixEntry> = LpmTrie::pinned(MAX_PREFIXES, 0);
/// Blocked prefixes but /64.
#[map]
static BLOCK6: LpmTrie<[u8; 16], PrefixEntry> = LpmTrie::pinned(MAX_PREFIXES, 0);
/// Allowed prefixes.
#[map]
static ALLOW4: LpmTrie<[u8; 4], PrefixEntry> = LpmTrie::pinned(MAX_PREFIXES, 0);
/// Allowed prefixes.
#[map]
static ALLOW6: LpmTrie<[u8; 16], PrefixEntry> = LpmTrie::pinned(MAX_PREFIXES, 0);
/// Which /24 the IPv4 tries concern.
#[map]
static FILTER4: Array<Filter4Row> = Array::pinned(FILTER4_ROWS, 0);
/// Which /32 the IPv6 tries may concern.
#[map]
static FILTER6: Array<Filter6Row> = Array::pinned(FILTER6_ROWS, 0);
/// Ports that country and rate rules judge.
#[map]
static GUARDED: Array<u64> = Array::pinned(GUARDED_WORDS, 0);
/// The country policy.
#[map]
static COUNTRY_POLICY: Array<CountryActions> = Array::pinned(1, 0);
/// Source -> theoretical arrival time, new connections.
#[map]
static RATE_CONNS: LruHashMap<u64, u64> = LruHashMap::pinned(MAX_RATES, 0);
/// Source -> theoretical arrival time, packets.
#[map]
static RATE_PACKETS: LruHashMap<u64, u64> = LruHashMap::pinned(MAX_RATES, 0);
/// By id of the operator's rules.
#[map]
static RULE_COUNTERS: PerCpuArray<Counter> = PerCpuArray::pinned(MAX_RULES, 0);
/// By [`verdict_slot`].
#[map]
static VERDICTS: PerCpuArray<Counter> = PerCpuArray::pinned(VERDICT_SLOTS, 0);
/// By country index.
#[map]
static COUNTRY_COUNTS: PerCpuArray<CountryCounter> = PerCpuArray::pinned(COUNTRIES, 0);
/// Sources that observing rules matched.
#[map]
static SAMPLES: LruHashMap<SampleKey, Sample> = LruHashMap::pinned(MAX_SAMPLES, 0);

/// What [`forget`] passes through.
#[map]
static SCRATCH: PerCpuArray<Found> = PerCpuArray::with_max_entries(1, 0);

/// Passes what the parser found through a map, so that the verifier knows no more of it than its bounds. Otherwise it
/// walks all that follows once for every way through the headers, and gives up after a million instructions.
#[inline(always)]
pub(super) fn forget(found: Found) -> Option<Found> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU slot that only this function uses; what is read is what was just written.
    let found = unsafe {
        scratch.write_volatile(found);
        scratch.read_volatile()
    };
    let bounded =
        found.session <= MAX_OFFSET && found.network <= MAX_OFFSET && found.transport <= MAX_OFFSET;
    bounded.then_some(found)
}

#[inline(always)]
fn count(slot: Option<*mut Counter>, bytes: u32) {
    if let Some(counter) = slot {
        // SAFETY: a per-CPU slot; an XDP program is not interrupted by another on its CPU.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}

#[inline(always)]
pub(super) fn count_verdict(verdict: Verdict, reason: Reason, bytes: u32) {
    count(VERDICTS.get_ptr_mut(verdict_slot(verdict, reason)), bytes);
}

/// Built-in rules are counted by their reasons.
#[inline(always)]
pub(super) fn count_rule(id: u32, bytes: u32) {
    if id >= rule::FIRST {
        count(RULE_COUNTERS.get_ptr_mut(id), bytes);
    }
}

/// The maps as [`Tables`].
pub(super) struct Maps<'a> {
    pub(super) config: &'a Config,
    pub(super) ctx: &'a XdpContext,
}

/// A source's address in network order.
#[inline(always)]
pub(super) fn bytes6(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Tests a /24's bit in a prefilter row.
#[inline(always)]
fn bit4(words: &[u64; 4], address: u32) -> bool {
    let bit = address >> 8 & 0xff;
    words[(bit >> 6) as usize & 3] >> (bit & 63) & 1 != 0
}

// Functions of their own: LLVM would merge both calls of the helper into one, and where the verifier sees one call for two maps
// it leaves the helper's indirect call, for every packet, in place of the map's own lookup.
#[inline(never)]
fn host4(address: u32) -> Option<&'static HostEntry> {
    // SAFETY: the memory stays the map's until the program ends (RCU). An entry that is removed meanwhile may become another
    // host's at once: one packet is then judged by that one's.
    HOSTS4.get_ptr(address).map(|entry| unsafe { &*entry })
}

#[inline(never)]
fn host6(high: u64) -> Option<&'static HostEntry> {
    // SAFETY: as above.
    HOSTS6.get_ptr(high).map(|entry| unsafe { &*entry })
}

impl Tables for Maps<'_> {
    #[inline(always)]
    fn config(&self) -> &Config {
        self.config
    }

    #[inline(always)]
    fn host(&self, source: Source) -> HostEntry {
        let entry = match source {
            Source::V4(address) => host4(address),
            Source::V6(high, _) => host6(high),
        };
        entry.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn blocked(&self, source: Source) -> Option<PrefixEntry> {
        match source {
            Source::V4(address) => {
                if !bit4(&FILTER4.get(address >> 16)?.block, address) {
                    return None;
                }
                BLOCK4.get(Key::new(32, address.to_be_bytes())).copied()
            }
            Source::V6(high, low) => {
                let (row, bit) = filter6_bit((high >> 32) as u32);
                if self.config.short_block == 0 && FILTER6.get(row)?.block >> bit & 1 == 0 {
                    return None;
                }
                BLOCK6.get(Key::new(128, bytes6(high, low))).copied()
            }
        }
    }

    #[inline(always)]
    fn allowed(&self, source: Source) -> Option<PrefixEntry> {
        match source {
            Source::V4(address) => {
                if !bit4(&FILTER4.get(address >> 16)?.allow, address) {
                    return None;
                }
                ALLOW4.get(Key::new(32, address.to_be_bytes())).copied()
            }
            Source::V6(high, low) => {
                let (row, bit) = filter6_bit((high >> 32) as u32);
                if self.config.short_allow == 0 && FILTER6.get(row)?.allow >> bit & 1 == 0 {
                    return None;
                }
                ALLOW6.get(Key::new(128, bytes6(high, low))).copied()
            }
        }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn guarded(&self, port: u32) -> bool {
        GUARDED
            .get(port >> 6)
            .is_some_and(|word| word >> (port & 63) & 1 != 0)
    }

    #[inline(always)]
    fn country(&self, source: Source) -> u8 {
        match source {
            Source::V4(address) => geo::country4(address),
            Source::V6(high, _) => geo::country6(high),
        }
    }

    #[inline(always)]
    fn country_action(&self, country: u8) -> u8 {
        COUNTRY_POLICY
            .get(0)
            .map_or(0, |policy| policy.actions[usize::from(country)])
    }

    #[inline(always)]
    fn conforms(&self, limit: Limit, source: Source) -> bool {
        let (map, rate) = match limit {
            Limit::Connections => (&RATE_CONNS, &self.config.connections),
            Limit::Packets => (&RATE_PACKETS, &self.config.packets),
        };
        let (key, now) = (source.rate_key(), self.now());
        let Some(arrival) = map.get_ptr_mut(key) else {
            // A full map forgets the least recently used; failing to remember lets the packet pass.
            let _ = map.insert(key, now + rate.interval, 0);
            return true;
        };
        // SAFETY: a map value, aligned, alive until the program ends. Two CPUs may both let an event
        // of one source pass; a lock here would cost every packet more than that costs anyone.
        unsafe {
            match rate.conforms(arrival.read_volatile(), now) {
                Some(next) => arrival.write_volatile(next),
                None => return false,
            }
        }
        true
    }

    #[inline(always)]
    fn observed(&self, packet: &Packet, rule: u32, reason: Reason) {
        count_verdict(Verdict::Observe, reason, packet.length);
        count_rule(rule, packet.length);
        let address = match packet.source {
            Source::V4(address) => bytes6(0, 0xffff_0000_0000 | u64::from(address)),
            Source::V6(high, low) => bytes6(high, low),
        };
        let key = SampleKey { address, rule };
        let last_seen = self.now();
        match SAMPLES.get_ptr_mut(key) {
            // SAFETY: a map value, aligned, alive until the program ends. A lost update costs a sample's count.
            Some(sample) => unsafe {
                (*sample).packets += 1;
                (*sample).last_seen = last_seen;
            },
            None => {
                let _ = SAMPLES.insert(
                    key,
                    Sample {
                        packets: 1,
                        last_seen,
                    },
                    0,
                );
            }
        }
        super::log(
            self.ctx,
            self.config,
            rule,
            Verdict::Observe,
            reason,
            packet.source,
        );
    }

    #[inline(always)]
    fn judged_country(&self, country: u8, denied: bool) {
        if let Some(counter) = COUNTRY_COUNTS.get_ptr_mut(u32::from(country)) {
            // SAFETY: a per-CPU slot; an XDP program is not interrupted by another on its CPU.
            unsafe {
                if denied {
                    (*counter).denied += 1;
                } else {
                    (*counter).passed += 1;
                }
            }
        }
    }
}
