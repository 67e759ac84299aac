//! What the firewall decided, by verdict, rule and country.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, Readings, add, counter};
use crate::{control::Control, geoip::countries};

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    control: &Control,
    readings: &Readings,
) -> fmt::Result {
    let mut m = counter(
        encoder,
        "firewall_packets",
        "Packets judged, by verdict and reason",
    )?;
    for v in readings.verdicts.iter().flatten() {
        let labels: Labels<'_> = vec![("verdict", v.verdict.name()), ("reason", v.reason.name())];
        add(&mut m, &labels, v.count.packets)?;
    }
    let mut m = counter(
        encoder,
        "proxied_clients",
        "Clients known by their PROXY header only, by verdict and reason of the firewall",
    )?;
    for ((verdict, reason), count) in control.context.judged.snapshot() {
        add(
            &mut m,
            &vec![("verdict", verdict), ("reason", reason)],
            count,
        )?;
    }
    let mut m = counter(
        encoder,
        "firewall_bytes",
        "Bytes judged, by verdict and reason",
    )?;
    for v in readings.verdicts.iter().flatten() {
        let labels: Labels<'_> = vec![("verdict", v.verdict.name()), ("reason", v.reason.name())];
        add(&mut m, &labels, v.count.bytes)?;
    }
    let mut m = counter(
        encoder,
        "firewall_rule_packets",
        "Packets that a rule decided or observed",
    )?;
    for counted in readings.rules.iter().flatten() {
        let rule = &counted.rule;
        let (id, cidr) = (rule.id.to_string(), rule.cidr.to_string());
        let labels: Labels<'_> = vec![("rule", &id), ("kind", rule.kind.name()), ("cidr", &cidr)];
        add(&mut m, &labels, counted.count.packets)?;
    }
    let mut m = counter(
        encoder,
        "firewall_country_packets",
        "New connections by country; those that are only observed count as denied",
    )?;
    let countries = readings.countries.iter().flatten();
    for counted in countries.filter(|c| c.passed + c.denied > 0) {
        let country = countries::code(counted.country).to_string();
        for (result, packets) in [("passed", counted.passed), ("denied", counted.denied)] {
            add(
                &mut m,
                &vec![("country", country.as_str()), ("result", result)],
                packets,
            )?;
        }
    }
    Ok(())
}
