//! STUB until merged.
use std::{net::IpAddr, path::Path, time::Duration};
use crate::{config::UnparsedPolicy, kernel::{Kernel, KernelError}, spec::*};
#[derive(Debug, thiserror::Error)] #[error("fw")] pub struct FirewallError;
#[derive(Debug)] pub struct Firewall;
#[derive(Debug)] pub struct Desired { pub rules: Vec<Rule>, pub countries: CountryPolicy, pub rates: RateLimits, pub guarded: Vec<u16>, pub unparsed: UnparsedPolicy, pub log_sample: u32 }
#[derive(Debug)] pub struct RuleCounter { pub id: u32, pub packets: u64, pub bytes: u64 }
#[derive(Debug)] pub struct VerdictCounter { pub verdict: &'static str, pub reason: &'static str, pub packets: u64, pub bytes: u64 }
#[derive(Debug)] pub struct CountryCounter { pub country: CountryCode, pub passed: u64, pub denied: u64 }
#[derive(Debug)] pub struct RateCounters { pub connections: u64, pub packets: u64 }
#[derive(Debug)] pub struct Sample { pub rule: u32, pub address: IpAddr, pub packets: u64, pub age: Duration }
#[derive(Debug)] pub struct Step { pub stage: &'static str, pub detail: String, pub outcome: String, pub rule: u32 }
#[derive(Debug)] pub struct Trace { pub steps: Vec<Step>, pub verdict: &'static str, pub reason: String, pub country: Option<CountryCode> }
#[derive(Debug)] pub struct InterfaceStatus { pub name: String, pub mode: &'static str, pub detail: String }
pub struct Admission; impl Admission { pub fn denied(&self) -> bool { false } }
type R<T> = Result<T, FirewallError>;
impl Firewall {
 pub fn take(_: &mut Kernel) -> R<Self> { Ok(Self) }
 pub fn interfaces(&self, _: &[String]) -> Vec<InterfaceStatus> { vec![] }
 pub fn attach(&self, i: &str) -> Result<InterfaceStatus, KernelError> { Ok(InterfaceStatus { name: i.into(), mode: "native", detail: String::new() }) }
 pub fn detach(&self, _: &Path) -> Result<Vec<String>, KernelError> { Ok(vec![]) }
 pub fn insert(&self, _: &[Rule]) -> R<()> { Ok(()) }
 pub fn remove(&self, _: &[Rule]) -> R<()> { Ok(()) }
 pub fn reconcile(&self, _: &Desired, _: bool) -> R<Vec<Difference>> { Ok(vec![]) }
 pub fn set_guarded(&self, _: &[u16]) -> R<()> { Ok(()) }
 pub fn set_countries(&self, _: &CountryPolicy) -> R<()> { Ok(()) }
 pub fn set_rates(&self, _: &RateLimits) -> R<()> { Ok(()) }
 pub fn rule_counters(&self, _: &[u32]) -> R<Vec<RuleCounter>> { Ok(vec![]) }
 pub fn verdict_counters(&self) -> R<Vec<VerdictCounter>> { Ok(vec![]) }
 pub fn country_counters(&self) -> R<Vec<CountryCounter>> { Ok(vec![]) }
 pub fn rate_counters(&self) -> R<RateCounters> { Ok(RateCounters { connections: 0, packets: 0 }) }
 pub fn samples(&self) -> R<Vec<Sample>> { Ok(vec![]) }
 pub fn map_fill(&self) -> R<Vec<MapFill>> { Ok(vec![]) }
 pub fn dump(&self, _: &str) -> R<Vec<MapEntry>> { Ok(vec![]) }
 pub fn explain(&self, _: IpAddr, _: u16) -> R<Trace> { Ok(Trace { steps: vec![], verdict: "pass", reason: String::new(), country: None }) }
 pub fn admit(&self, _: IpAddr, _: u16) -> Admission { Admission }
}
