//! Networks -> table, without I/O.
//!
//! Networks may nest and come in any order, the longest prefix wins. They are sorted, swept into disjoint ranges, and
//! the ranges written as rows ([`mc_edge_common::geo`]). Sixteen bytes per network and the image of the table
//! itself are all that is held: a database of 800,000 networks needs some 40 MiB here.

use ipnet::IpNet;
use mc_edge_common::geo::{
    FANOUT, FIRST_FREE_ROW, GeoTables, HEADER_ROW, Header, LEAF_KEYS, LEVELS, MAX_RANGES,
    ROW_WORDS, Row, SEARCH, UNKNOWN, V4_ROOT, V6_ROOT,
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

/// A network in the key space of its tree: 32 bits of IPv4 or the upper 64 of IPv6.
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
        let (key, width, networks) = match network {
            IpNet::V4(net) => (u64::from(u32::from(net.network())), 32, &mut self.v4),
            IpNet::V6(net) => {
                let bits = u128::from(net.network());
                if bits as u64 != 0 {
                    return;
                }
                ((bits >> 64) as u64, 64, &mut self.v6)
            }
        };
        let host_bits = width - u32::from(network.prefix_len()).min(width);
        let last = key | (!0u64).checked_shr(64 - host_bits).unwrap_or(0);
        networks.push(Network {
            first: key,
            last,
            country,
        });
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
        row[i] = keys[from];
        row[LEAF_KEYS + i / 8] |= u64::from(countries[from]) << (i % 8 * 8);
    }
    row
}
