//! What was counted: by rule, verdict and country, and the sources that were observed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use aya::maps::{MapError, PerCpuValues};
use mc_edge_common::firewall::{
    COUNTRIES, Counter, MAX_RULES, Reason, Verdict, rule, verdict_slot,
};

use super::{FirewallError, Maps, at, gone};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

/// A verdict's counter.
#[derive(Clone, Copy, Debug)]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// How many.
    pub count: Count,
}

/// A country's counter.
#[derive(Clone, Copy, Debug)]
pub struct CountryCount {
    /// Its index.
    pub country: u8,
    /// Packets that the policy let pass.
    pub passed: u64,
    /// Packets that it denied or would have.
    pub denied: u64,
}

/// A source that an observing rule matched.
#[derive(Clone, Copy, Debug)]
pub struct ObservedSample {
    /// The rule.
    pub rule: u32,
    /// The source.
    pub address: IpAddr,
    /// Packets.
    pub packets: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub last_seen: u64,
}

fn sum(values: &PerCpuValues<Counter>) -> Count {
    values.iter().fold(Count::default(), |sum, c| Count {
        packets: sum.packets + c.packets,
        bytes: sum.bytes + c.bytes,
    })
}

impl Maps {
    pub(in crate::firewall) fn rule_counter(&self, id: u32) -> Result<Count, FirewallError> {
        Ok(sum(&at("RULE_COUNTERS", self.rules.get(&id, 0))?))
    }

    pub(in crate::firewall) fn reset_rule(&mut self, id: u32) -> Result<(), FirewallError> {
        let zero = vec![Counter::default(); at("RULE_COUNTERS", self.rules.get(&id, 0))?.len()];
        let zero = PerCpuValues::try_from(zero).map_err(|io_error| FirewallError::Map {
            map: "RULE_COUNTERS",
            source: MapError::IoError(io_error),
        })?;
        at("RULE_COUNTERS", self.rules.set(id, zero, 0))
    }

    /// Resets the counters of all rules of the operator but those `kept`.
    pub(in crate::firewall) fn reset_rules_but(
        &mut self,
        kept: &BTreeSet<u32>,
    ) -> Result<(), FirewallError> {
        for id in (rule::FIRST..MAX_RULES).filter(|id| !kept.contains(id)) {
            // Nearly all are zero, and a reset reads first anyway.
            if self.rule_counter(id)? != Count::default() {
                self.reset_rule(id)?;
            }
        }
        Ok(())
    }

    pub(in crate::firewall) fn verdict_counters(&self) -> Result<Vec<VerdictCount>, FirewallError> {
        let mut counters = Vec::new();
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let values = at(
                    "VERDICTS",
                    self.verdicts.get(&verdict_slot(verdict, *reason), 0),
                )?;
                counters.push(VerdictCount {
                    verdict,
                    reason: *reason,
                    count: sum(&values),
                });
            }
        }
        Ok(counters)
    }

    pub(in crate::firewall) fn country_counters(&self) -> Result<Vec<CountryCount>, FirewallError> {
        (0..COUNTRIES)
            .map(|index| {
                let values = at("COUNTRY_COUNTS", self.country_counts.get(&index, 0))?;
                Ok(CountryCount {
                    country: index as u8,
                    passed: values.iter().map(|c| c.passed).sum(),
                    denied: values.iter().map(|c| c.denied).sum(),
                })
            })
            .collect()
    }

    pub(in crate::firewall) fn samples(&self) -> Result<Vec<ObservedSample>, FirewallError> {
        self.samples
            .iter()
            .map(|entry| {
                let (key, value) = at("SAMPLES", entry)?;
                Ok(ObservedSample {
                    rule: key.rule,
                    address: Ipv6Addr::from(key.address).to_canonical(),
                    packets: value.packets,
                    last_seen: value.last_seen,
                })
            })
            .collect()
    }

    /// Forgets the sources that rules out of force have observed: their ids will be other rules'.
    pub(in crate::firewall) fn forget_samples(
        &mut self,
        forgotten: impl Fn(u32) -> bool,
    ) -> Result<(), FirewallError> {
        let keys: Vec<_> = self
            .samples
            .keys()
            .collect::<Result<_, _>>()
            .or_else(|e| at("SAMPLES", Err(e)))?;
        for key in keys.iter().filter(|key| forgotten(key.rule)) {
            gone("SAMPLES", self.samples.remove(key))?;
        }
        Ok(())
    }
}
