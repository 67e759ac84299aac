//! Networks -> table, without I/O.
//!
//! Networks may nest and come in any order, the longest prefix wins. They are sorted, swept into disjoint ranges, and
//! the ranges written as rows ([`mc_edge_common::geo`]). Sixteen bytes per network and the image of the table
//! itself are all that is held: a database of 800,000 networks needs some 40 MiB here.

use ipnet::IpNet;
use mc_edge_common::geo::{
    FANOUT, FIRST_FREE_ROW, GeoTables, HEADER_ROW, Header, LEAF_KEYS, LEVELS, LINE_KEYS,
    LINE_WORDS, MAX_RANGES, ROW_WORDS, Row, SEARCH, UNKNOWN, V4_ROOT, V6_ROOT,
};

/// More ranges than a tree holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ranges} {family} ranges of one country; a table holds {MAX_RANGES}")]
pub struct TooManyRanges {
    /// "IPv4" or "IPv6".
    pub family: &'static str,
    /// How many there are.
    pub ranges: usize,
}

/// A network (or several neighbours) in the key space of its tree: 32 bits of IPv4 or the upper 64 of IPv6.
#[derive(Clone, Copy, Debug)]
struct Network {
    first: u64,
    last: u64,
    country: u8,
}

/// What a table is built from.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    v4: Vec<Network>,
    v6: Vec<Network>,
}

impl Networks {
    /// Adds a network. Of an IPv6 network longer than /64 only the first of its /64 counts: it is kept as that /64 or, if it
    /// begins within one, left out. Of equal networks the last added wins.
    pub fn push(&mut self, network: IpNet, country: u8) {
        if let Some((networks, network)) = self.place(network, country) {
            networks.push(network);
        }
    }

    /// Like [`Self::push`], for networks that neither nest nor come out of order: neighbours of one country are kept as
    /// one, so that a city database needs no more than a country database.
    pub fn push_next(&mut self, network: IpNet, country: u8) {
        let Some((networks, network)) = self.place(network, country) else {
            return;
        };
        match networks.last_mut() {
            Some(last)
                if last.country == country && last.last.checked_add(1) == Some(network.first) =>
            {
                last.last = network.last;
            }
            _ => networks.push(network),
        }
    }

    /// A network in its key space, and the list it goes to.
    fn place(&mut self, network: IpNet, country: u8) -> Option<(&mut Vec<Network>, Network)> {
        let (first, width, networks) = match network {
            IpNet::V4(net) => (u64::from(u32::from(net.network())), 32, &mut self.v4),
            IpNet::V6(net) => {
                let bits = u128::from(net.network());
                if bits as u64 != 0 {
                    return None;
                }
                ((bits >> 64) as u64, 64, &mut self.v6)
            }
        };
        let host_bits = width - u32::from(network.prefix_len()).min(width);
        let last = first | u64::MAX.checked_shr(64 - host_bits).unwrap_or(0);
        Some((
            networks,
            Network {
                first,
                last,
                country,
            },
        ))
    }

    /// Networks so far.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Builds the table.
    ///
    /// # Errors
    /// [`TooManyRanges`] if they do not fit.
    pub fn build(mut self, header: Header) -> Result<Table, TooManyRanges> {
        let mut rows = vec![[0; ROW_WORDS]; FIRST_FREE_ROW as usize];
        rows[HEADER_ROW as usize] = header.to_row();
        let v4 = sweep(&mut self.v4, u64::from(u32::MAX));
        self.v4 = Vec::new();
        let split = write_cells(&mut rows, &v4);
        drop(v4);
        write_tree(&mut rows, V4_ROOT, &split, "IPv4")?;
        drop(split);
        let v6 = sweep(&mut self.v6, u64::MAX);
        write_tree(&mut rows, V6_ROOT, &v6, "IPv6")?;
        Ok(Table { rows })
    }
}

/// A table's rows, as the kernel map will hold them.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// All rows; the first has index 0.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl<'a> GeoTables for &'a Table {
    type Row = &'a Row;

    fn row(&self, index: u32) -> Option<&'a Row> {
        self.rows.get(index as usize)
    }
}

/// Sorted, disjoint ranges: each runs to the start of the next.
#[derive(Debug, Default)]
struct Ranges {
    /// Invariant: strictly ascending.
    starts: Vec<u64>,
    /// Invariant: as many as `starts`; neighbours differ.
    countries: Vec<u8>,
}

impl Ranges {
    /// From `start` on, `country`. `start` is at or above the last one.
    fn push(&mut self, start: u64, country: u8) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.countries.pop();
        }
        if self.countries.last() != Some(&country) {
            self.starts.push(start);
            self.countries.push(country);
        }
    }
}

/// Nested networks of a key space that ends at `max`, made disjoint.
fn sweep(networks: &mut [Network], max: u64) -> Ranges {
    // Outer before inner; stable, so that the last of equals is the innermost.
    networks.sort_by_key(|n| (n.first, std::cmp::Reverse(n.last)));
    let mut ranges = Ranges::default();
    ranges.push(0, UNKNOWN);
    let mut open: Vec<Network> = Vec::new();
    let close = |ranges: &mut Ranges, open: &mut Vec<Network>, before: u64| {
        while let Some(inner) = open.pop_if(|n| n.last < before) {
            ranges.push(inner.last + 1, open.last().map_or(UNKNOWN, |n| n.country));
        }
    };
    for network in networks {
        close(&mut ranges, &mut open, network.first);
        ranges.push(network.first, network.country);
        open.push(*network);
    }
    close(&mut ranges, &mut open, max);
    ranges
}

/// Writes the /24 cells and returns the ranges within split /24s.
fn write_cells(rows: &mut [Row], ranges: &Ranges) -> Ranges {
    let mut split = Ranges::default();
    split.push(0, UNKNOWN);
    for (i, (&first, &country)) in ranges.starts.iter().zip(&ranges.countries).enumerate() {
        let next = ranges.starts.get(i + 1).copied().unwrap_or(1 << 32);
        // Whole /24s: cells `whole..end`.
        let (whole, end) = (first.div_ceil(256), next / 256);
        if !first.is_multiple_of(256) || whole > end {
            set_cell(rows, first / 256, SEARCH);
            split.push(first, country);
        }
        if country != UNKNOWN {
            (whole..end).for_each(|cell| set_cell(rows, cell, country));
        }
        if !next.is_multiple_of(256) && whole <= end {
            set_cell(rows, end, SEARCH);
            split.push(256 * end, country);
        }
    }
    split
}

fn set_cell(rows: &mut [Row], cell: u64, value: u8) {
    let word = &mut rows[(cell / 256) as usize][(cell % 256 / 8) as usize];
    let shift = cell % 8 * 8;
    *word = *word & !(0xff << shift) | u64::from(value) << shift;
}

/// Appends a tree's rows, except for its root, which is row `root`.
fn write_tree(
    rows: &mut Vec<Row>,
    root: u32,
    ranges: &Ranges,
    family: &'static str,
) -> Result<(), TooManyRanges> {
    if ranges.starts.len() > MAX_RANGES {
        return Err(TooManyRanges {
            family,
            ranges: ranges.starts.len(),
        });
    }
    let mut first_child = rows.len() as u64;
    let mut starts: Vec<u64> = Vec::new();
    for (keys, countries) in ranges
        .starts
        .chunks(LEAF_KEYS)
        .zip(ranges.countries.chunks(LEAF_KEYS))
    {
        rows.push(leaf(keys, countries));
        starts.push(keys[0]);
    }
    for level in (1..LEVELS).rev() {
        let level_start = rows.len() as u64;
        for (i, children) in starts.chunks(FANOUT).enumerate() {
            let mut row = [u64::MAX; ROW_WORDS];
            row[..children.len()].copy_from_slice(children);
            row[0] = first_child + (i * FANOUT) as u64;
            match level {
                1 => rows[root as usize] = row,
                _ => rows.push(row),
            }
        }
        starts = starts.iter().copied().step_by(FANOUT).collect();
        first_child = level_start;
    }
    Ok(())
}

/// A leaf of 1 to [`LEAF_KEYS`] entries; the last is repeated.
fn leaf(keys: &[u64], countries: &[u8]) -> Row {
    let mut row = [0; ROW_WORDS];
    for i in 0..LEAF_KEYS {
        let from = i.min(keys.len() - 1);
        let (line, entry) = (i / LINE_KEYS * LINE_WORDS, i % LINE_KEYS);
        row[line + entry] = keys[from];
        row[line + LINE_KEYS] |= u64::from(countries[from]) << (entry * 8);
    }
    row
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use mc_edge_common::geo::{country4, country6};
    use proptest::prelude::*;

    use super::*;

    /// The longest prefix that contains the address, the last added of equals.
    fn naive(networks: &[(IpNet, u8)], address: IpAddr) -> u8 {
        networks
            .iter()
            .filter(|(network, _)| network.contains(&address))
            .max_by_key(|(network, _)| network.prefix_len())
            .map_or(UNKNOWN, |(_, country)| *country)
    }

    fn look_up(table: &Table, address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(v4) => country4(&table, v4.into()),
            IpAddr::V6(v6) => country6(&table, (u128::from(v6) >> 64) as u64),
        }
    }

    /// An address whose bits are mostly those of few, so that networks nest and meet.
    fn bits() -> impl Strategy<Value = u64> {
        let base = prop::sample::select(vec![
            0,
            u64::MAX,
            0x0102_0304_0506_0708,
            0x0102_0400_0000_0000,
        ]);
        (base, any::<u64>(), 0..64u32).prop_map(|(base, noise, shift)| base ^ (noise >> shift))
    }

    fn networks(
        to: impl Fn(u64) -> IpAddr,
        lens: std::ops::RangeInclusive<u8>,
    ) -> impl Strategy<Value = Vec<(IpNet, u8)>> {
        let network = (bits(), lens, 1..=5u8).prop_map(move |(bits, len, country)| {
            (IpNet::new_assert(to(bits), len).trunc(), country)
        });
        prop::collection::vec(network, 0..120)
    }

    fn v4(bits: u64) -> IpAddr {
        Ipv4Addr::from((bits >> 32) as u32).into()
    }

    fn v6(bits: u64) -> IpAddr {
        Ipv6Addr::from(u128::from(bits) << 64).into()
    }

    /// `probes`, and the addresses at and next to each network's ends.
    fn check(
        networks: Vec<(IpNet, u8)>,
        probes: Vec<u64>,
        to: fn(u64) -> IpAddr,
    ) -> Result<(), TestCaseError> {
        let mut input = Networks::default();
        networks
            .iter()
            .for_each(|&(network, country)| input.push(network, country));
        let table = input.build(Header::default()).expect("fits");
        let step = if matches!(to(0), IpAddr::V4(_)) {
            1 << 32
        } else {
            1
        };
        let key = |address: IpAddr| match address {
            IpAddr::V4(a) => u64::from(u32::from(a)) << 32,
            IpAddr::V6(a) => (u128::from(a) >> 64) as u64,
        };
        let ends = networks.iter().flat_map(|(n, _)| {
            let (first, last) = (key(n.network()), key(n.broadcast()));
            [
                first,
                last,
                first.wrapping_sub(step),
                last.wrapping_add(step),
            ]
        });
        for bits in probes.iter().copied().chain(ends) {
            // Looked up as its neighbour, see country6.
            let bits = if step == 1 {
                bits.min(u64::MAX - 1)
            } else {
                bits
            };
            prop_assert_eq!(
                look_up(&table, to(bits)),
                naive(&networks, to(bits)),
                "{}",
                to(bits)
            );
        }
        Ok(())
    }

    proptest! {
        // A case is an image of 16 MiB: few, but each of many networks and probes.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn ipv4_is_longest_prefix(networks in networks(v4, 0..=32), probes in prop::collection::vec(bits(), 200)) {
            check(networks, probes, v4)?;
        }

        #[test]
        fn ipv6_is_longest_prefix(networks in networks(v6, 0..=64), probes in prop::collection::vec(bits(), 200)) {
            check(networks, probes, v6)?;
        }
    }

    #[test]
    fn trees_of_every_shape() {
        // Around the sizes where a row, or a level's last row, is full.
        for count in [
            1,
            27,
            28,
            29,
            28 * 32 - 1,
            28 * 32,
            28 * 32 + 1,
            28 * 32 * 32 + 1,
            100_000,
        ] {
            let mut input = Networks::default();
            for i in 0..count as u64 {
                input.push(IpNet::new_assert(v6(i << 40), 64), 1 + (i % 3) as u8);
            }
            let table = input.build(Header::default()).expect("fits");
            for i in (0..count as u64).step_by(count / 1000 + 1) {
                assert_eq!(
                    look_up(&table, v6(i << 40)),
                    1 + (i % 3) as u8,
                    "{i} of {count}"
                );
                assert_eq!(
                    look_up(&table, v6((i << 40) + 1)),
                    UNKNOWN,
                    "after {i} of {count}"
                );
            }
        }
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let mut input = Networks::default();
        for i in 0..MAX_RANGES as u64 / 2 + 1 {
            input.push(IpNet::new_assert(v6(i << 16), 64), 1);
        }
        let error = input.build(Header::default()).expect_err("does not fit");
        assert_eq!(error.family, "IPv6");
        assert!(error.ranges > MAX_RANGES);
    }
}
