//! What stands in the maps beside the rules: settings, rates, country policy and guarded ports.

use mc_edge_common::firewall::{Config, CountryActions, Rate, action::PASS};

use super::{
    Difference,
    maps::{self, Value},
    words,
};
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

fn yes(flag: u8) -> Value {
    Value::new(if flag == 0 { "no" } else { "yes" }, &flag)
}

impl Policies {
    /// Parts that a former daemon set, in what stood in the kernel at first.
    pub(super) fn inherited(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.config != Config::default() {
            parts.extend([Part::Settings, Part::Rates]);
        }
        if self.countries.actions.iter().any(|a| *a != PASS) {
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
        let rate = |rate: &Rate| Value::new(words::rate(rate), rate);
        let action = |code: u8| Value::new(words::action_name(code), &code);
        let log = match c.log_every {
            0 => "none".to_owned(),
            n => format!("one in {n} denials"),
        };
        let config = [
            ("connections", rate(&c.connections)),
            ("packets", rate(&c.packets)),
            ("log_every", Value::new(log, &c.log_every)),
            ("unparsed", action(c.unparsed)),
            ("short_block", yes(c.short_block)),
            ("short_allow", yes(c.short_allow)),
        ];
        let countries = (0..=u8::MAX)
            .zip(self.countries.actions)
            .filter(|(_, code)| *code != PASS)
            .map(|(index, code)| {
                (
                    format!("{index} ({})", countries::code(index)),
                    action(code),
                )
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
                guarded
                    .map(|port| (port, Value::new("guarded", &true)))
                    .collect(),
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
