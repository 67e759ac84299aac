//! What stands in the maps: all of it, or what one source meets.

use aya::maps::lpm_trie::Key;
use mc_edge_common::{
    decide::Source,
    firewall::{Config, FILTER6_ROWS, Filter4Row, Filter6Row, HostEntry, PrefixEntry, filter6_bit},
};

use super::{Compiled, FirewallError, Maps, at, found, key6};

impl Maps {
    /// What stands in the maps.
    pub(in crate::firewall) fn read(&self) -> Result<Compiled, FirewallError> {
        let mut found = Compiled::default();
        for entry in self.hosts4.iter() {
            let (key, value) = at("HOSTS4", entry)?;
            found.hosts4.insert(key, value);
        }
        for entry in self.hosts6.iter() {
            let (key, value) = at("HOSTS6", entry)?;
            found.hosts6.insert(key, value);
        }
        let four = [
            ("BLOCK4", &self.block4, &mut found.v4.block),
            ("ALLOW4", &self.allow4, &mut found.v4.allow),
        ];
        for (name, trie, into) in four {
            for entry in trie.iter() {
                let (key, value) = at(name, entry)?;
                into.insert(
                    (
                        u128::from(u32::from_be_bytes(key.data())),
                        key.prefix_len() as u8,
                    ),
                    value,
                );
            }
        }
        let six = [
            ("BLOCK6", &self.block6, &mut found.v6.block),
            ("ALLOW6", &self.allow6, &mut found.v6.allow),
        ];
        for (name, trie, into) in six {
            for entry in trie.iter() {
                let (key, value) = at(name, entry)?;
                into.insert(
                    (u128::from_be_bytes(key.data()), key.prefix_len() as u8),
                    value,
                );
            }
        }
        Ok(found)
    }

    /// IPv4 prefilter rows that are not what `wanted` asks for: row, what it is, what it should be.
    pub(in crate::firewall) fn wrong_rows4(
        &self,
        wanted: &Compiled,
    ) -> Result<Vec<(u16, Filter4Row, Filter4Row)>, FirewallError> {
        let concerned = wanted.rows4_of();
        let mut wrong = Vec::new();
        for row in 0..=u16::MAX {
            let want = if concerned.contains(&row) {
                wanted.row4(row)
            } else {
                Filter4Row::default()
            };
            let have = at("FILTER4", self.filter4.get(&u32::from(row), 0))?;
            if have != want {
                wrong.push((row, have, want));
            }
        }
        Ok(wrong)
    }

    /// The same of the IPv6 prefilter.
    pub(in crate::firewall) fn wrong_rows6(
        &self,
        wanted: &Compiled,
    ) -> Result<Vec<(u32, Filter6Row, Filter6Row)>, FirewallError> {
        let rows = wanted.rows6();
        let mut wrong = Vec::new();
        for row in 0..FILTER6_ROWS {
            let want = rows.get(&row).copied().unwrap_or_default();
            let have = at("FILTER6", self.filter6.get(&row, 0))?;
            if have != want {
                wrong.push((row, have, want));
            }
        }
        Ok(wrong)
    }

    pub(in crate::firewall) fn host(
        &self,
        source: Source,
    ) -> Result<Option<HostEntry>, FirewallError> {
        match source {
            Source::V4(address) => found("HOSTS4", self.hosts4.get(&address, 0)),
            Source::V6(high, _) => found("HOSTS6", self.hosts6.get(&high, 0)),
        }
    }

    /// The longest prefix, behind the prefilter as in the program.
    pub(in crate::firewall) fn longest(
        &self,
        source: Source,
        allow: bool,
        config: &Config,
    ) -> Result<Option<PrefixEntry>, FirewallError> {
        match source {
            Source::V4(address) => {
                let row = at("FILTER4", self.filter4.get(&(address >> 16), 0))?;
                let words = if allow { row.allow } else { row.block };
                if words[(address >> 14 & 3) as usize] >> (address >> 8 & 63) & 1 == 0 {
                    return Ok(None);
                }
                let key = Key::new(32, address.to_be_bytes());
                if allow {
                    found("ALLOW4", self.allow4.get(&key, 0))
                } else {
                    found("BLOCK4", self.block4.get(&key, 0))
                }
            }
            Source::V6(high, low) => {
                let (row, bit) = filter6_bit((high >> 32) as u32);
                let row = at("FILTER6", self.filter6.get(&row, 0))?;
                let (word, short) = if allow {
                    (row.allow, config.short_allow)
                } else {
                    (row.block, config.short_block)
                };
                if short == 0 && word >> bit & 1 == 0 {
                    return Ok(None);
                }
                let key = key6((u128::from(high) << 64 | u128::from(low), 128));
                if allow {
                    found("ALLOW6", self.allow6.get(&key, 0))
                } else {
                    found("BLOCK6", self.block6.get(&key, 0))
                }
            }
        }
    }

    /// The theoretical arrival time of a source's next event.
    pub(in crate::firewall) fn arrival(
        &self,
        connections: bool,
        key: u64,
    ) -> Result<Option<u64>, FirewallError> {
        let (name, map) = if connections {
            ("RATE_CONNS", &self.rate_conns)
        } else {
            ("RATE_PACKETS", &self.rate_packets)
        };
        found(name, map.get(&key, 0))
    }
}
