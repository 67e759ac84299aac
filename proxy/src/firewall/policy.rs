//! What stands in the maps beside the rules: settings, rates, country policy and guarded ports.

use mc_edge_common::firewall::{Config, CountryActions, Rate, action};

use super::{Difference, maps};
use crate::geoip::countries;

/// UDP ports follow the TCP ports in the bitmap.
const UDP: usize = 65_536;

/// Contents of `CONFIG`, `COUNTRY_POLICY` and `GUARDED`.
#[derive(Clone)]
pub(super) struct Policies {
    pub(super) config: Config,
    pub(super) countries: CountryActions,
    /// The bitmap of guarded ports.
    pub(super) guarded: Vec<u64>,
}

/// A part that is set on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Settings,
    Rates,
    Countries,
    Guarded,
}

fn show_rate(rate: &Rate) -> String {
    if rate.interval == 0 {
        return "off".into();
    }
    format!(
        "one per {} ns, tolerance {} ns, action {}",
        rate.interval, rate.tolerance, rate.action
    )
}

impl Policies {
    /// Parts that a former daemon set, in what stood in the kernel at first.
    pub(super) fn inherited(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.config != Config::default() {
            parts.extend([Part::Settings, Part::Rates]);
        }
        if self.countries.actions.iter().any(|a| *a != action::PASS) {
            parts.push(Part::Countries);
        }
        if self.guarded.iter().any(|word| *word != 0) {
            parts.push(Part::Guarded);
        }
        parts
    }

    /// Each map with readable keys and values.
    pub(super) fn tables(&self) -> [(&'static str, maps::Readable); 3] {
        let c = &self.config;
        let config = [
            ("connections", show_rate(&c.connections)),
            ("packets", show_rate(&c.packets)),
            ("log_every", c.log_every.to_string()),
            ("unparsed", format!("action {}", c.unparsed)),
            ("short_block", c.short_block.to_string()),
            ("short_allow", c.short_allow.to_string()),
        ];
        let countries = (0..=u8::MAX)
            .zip(self.countries.actions)
            .filter(|(_, code)| *code != action::PASS)
            .map(|(index, code)| {
                let key = format!("{index} ({})", countries::code(index));
                (key, format!("action {code}"))
            });
        let guarded = (0..self.guarded.len() * 64)
            .filter(|bit| self.guarded[bit / 64] >> (bit % 64) & 1 != 0)
            .map(|bit| match bit.checked_sub(UDP) {
                Some(port) => format!("{port}/udp"),
                None => format!("{bit}/tcp"),
            });
        [
            ("CONFIG", config.map(|(k, v)| (k.to_owned(), v)).into()),
            ("COUNTRY_POLICY", countries.collect()),
            (
                "GUARDED",
                guarded.map(|port| (port, "guarded".into())).collect(),
            ),
        ]
    }

    /// Differences between what is wanted and what stands in the kernel.
    pub(super) fn compare(&self, kernel: &Self) -> Vec<Difference> {
        let both = self.tables().into_iter().zip(kernel.tables());
        both.flat_map(|((map, want), (_, have))| maps::compare_table(map, &want, &have))
            .collect()
    }
}

/// The bitmap of ports, TCP and UDP alike.
pub(super) fn bitmap(ports: &[u16], words: usize) -> Vec<u64> {
    let mut bitmap = vec![0u64; words];
    for port in ports {
        for bit in [usize::from(*port), UDP + usize::from(*port)] {
            bitmap[bit / 64] |= 1 << (bit % 64);
        }
    }
    bitmap
}
