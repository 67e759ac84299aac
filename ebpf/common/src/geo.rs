//! Address -> country index: the layout of a GeoIP table and its lookup, generic over where the rows
//! are ([`GeoTables`]), so that the kernel, `explain` and the tests run the same code.
//!
//! A table is one array of 256-byte rows, the inner map of [`GEO_MAP`]'s only slot: writing that slot replaces
//! the IPv4 and the IPv6 table at once, and a packet can never see half of each.
//!
//! - Rows `0..65_536`: IPv4, a byte per /24, row = upper 16 bits. 0 = unknown, [`SEARCH`] = the /24 is split, look in
//!   the IPv4 tree.
//! - [`HEADER_ROW`]: what the table is, for the daemon that takes it over.
//! - [`V4_ROOT`], [`V6_ROOT`]: roots of two B-trees of sorted range starts; their other rows are anywhere behind.
//!   An inner row holds the row number of its first child, then the starts of children 1 to 31 (`u64::MAX` = none). Each of
//!   a leaf row's four cache lines holds seven starts and a word with their country bytes (a short leaf repeats its
//!   last entry). The depth is constant: a lookup reads exactly [`LEVELS`] rows, and only the last two miss the caches.
//!
//! Rejected: an LPM trie for split /24s (a node, and often a cache line, for every bit in which networks differ); a sorted
//! array with plain binary search (20 helper calls and cache lines against 4); 16-bit cells pointing to overflow rows (twice
//! the memory for every table).

/// Name and pin of the outer map: an array of one slot.
pub const GEO_MAP: &str = "GEO";

/// Rows are words, because the BPF target loads only aligned ones; byte `i` is bits `8 * (i % 8)..` of
/// word `i / 8`.
pub type Row = [u64; ROW_WORDS];
/// 64-bit words of a row.
pub const ROW_WORDS: usize = 32;

/// Rows of /24 cells, from row 0.
pub const V4_ROWS: u32 = 65_536;
/// A [`Header`].
pub const HEADER_ROW: u32 = V4_ROWS;
/// Root of the tree of split IPv4 /24s; keys are addresses.
pub const V4_ROOT: u32 = V4_ROWS + 1;
/// Root of the IPv6 tree; keys are upper halves of addresses.
pub const V6_ROOT: u32 = V4_ROWS + 2;
/// The first row that the trees' other nodes may use.
pub const FIRST_FREE_ROW: u32 = V4_ROWS + 3;

/// Rows from root to leaf.
pub const LEVELS: u32 = 4;
/// Children of an inner row.
pub const FANOUT: usize = ROW_WORDS;
/// Words of a cache line.
pub const LINE_WORDS: usize = 8;
/// Entries of a leaf's cache line: as many starts, and a word with their country bytes.
pub const LINE_KEYS: usize = LINE_WORDS - 1;
/// Entries of a leaf row.
pub const LEAF_KEYS: usize = ROW_WORDS / LINE_WORDS * LINE_KEYS;
/// Ranges a tree can hold.
pub const MAX_RANGES: usize = LEAF_KEYS * FANOUT.pow(LEVELS - 1);

/// Country index of what the database does not know.
pub const UNKNOWN: u8 = 0;
/// Not a country. In an IPv4 cell: search the IPv4 tree. In the IPv6 tree: the country is that of the IPv4
/// address inside (6to4, RFC 3056; Teredo, RFC 4380), because the database says so.
pub const SEARCH: u8 = 255;

/// First word of a header.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MCGEO\0\0\x01");

/// Describes a table; words of [`HEADER_ROW`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// When the database was built, Unix seconds.
    pub build_epoch: u64,
    /// When the table was loaded, Unix seconds.
    pub loaded: u64,
    /// IPv4 networks with a country in the database.
    pub networks_v4: u64,
    /// IPv6 networks with a country in the database.
    pub networks_v6: u64,
    /// The database's type as it names itself, cut to fit, zero-padded.
    pub database_type: [u64; TYPE_WORDS],
}

/// Words of [`Header::database_type`], eight bytes each.
pub const TYPE_WORDS: usize = 8;

impl Header {
    /// As a row.
    pub fn to_row(self) -> Row {
        let mut row = [0; ROW_WORDS];
        row[0] = MAGIC;
        row[1] = self.build_epoch;
        row[2] = self.loaded;
        row[3] = self.networks_v4;
        row[4] = self.networks_v6;
        row[8..8 + TYPE_WORDS].copy_from_slice(&self.database_type);
        row
    }

    /// From a row; `None` if it is not a header.
    pub fn from_row(row: &Row) -> Option<Self> {
        (row[0] == MAGIC).then_some(Self {
            build_epoch: row[1],
            loaded: row[2],
            networks_v4: row[3],
            networks_v6: row[4],
            database_type: core::array::from_fn(|i| row[8 + i]),
        })
    }
}

/// Where the rows of one table are.
pub trait GeoTables {
    /// A row, borrowed from the table or read from it.
    type Row: core::ops::Deref<Target = Row>;
    /// Row `index`, `None` if the table has no such row.
    fn row(&self, index: u32) -> Option<Self::Row>;
}

/// Byte `index` (taken modulo 256) of a row.
#[inline(always)]
pub const fn byte(row: &Row, index: u32) -> u8 {
    (row[((index >> 3) & 31) as usize] >> ((index & 7) * 8)) as u8
}

/// Country index of an IPv4 address in host byte order; [`UNKNOWN`] if there is none.
#[inline(always)]
pub fn country4<T: GeoTables>(tables: &T, addr: u32) -> u8 {
    let Some(row) = tables.row(addr >> 16) else {
        return UNKNOWN;
    };
    let cell = byte(&row, (addr >> 8) & 0xff);
    if cell != SEARCH {
        return cell;
    }
    search(tables, V4_ROOT, addr as u64)
}

/// Country index of the upper half (host byte order) of an IPv6 address; [`UNKNOWN`] if there is none. Networks longer than
/// /64 are not told apart: a /64 has the country of its first address.
#[inline(always)]
pub fn country6<T: GeoTables>(tables: &T, prefix: u64) -> u8 {
    // u64::MAX marks the children that an inner row does not have; ffff:ffff:ffff:ffff::/64 is no source.
    let country = search(tables, V6_ROOT, prefix.min(u64::MAX - 1));
    if country != SEARCH {
        return country;
    }
    // 2002:a.b.c.d::/48, 2001:0:a.b.c.d::/64
    let shift = if prefix >> 48 == 0x2002 { 16 } else { 0 };
    country4(tables, (prefix >> shift) as u32)
}

/// The country of the range that holds `key`.
#[inline(always)]
fn search<T: GeoTables>(tables: &T, root: u32, key: u64) -> u8 {
    let mut index = root;
    for _ in 1..LEVELS {
        let Some(row) = tables.row(index) else {
            return UNKNOWN;
        };
        let child = last_at_most(&row, line(&row, key), [4, 2, 1], key);
        index = row[0] as u32 + child as u32;
    }
    let Some(leaf) = tables.row(index) else {
        return UNKNOWN;
    };
    let line = line(&leaf, key);
    let entry = last_at_most(&leaf, line, [3, 2, 1], key) - line;
    (leaf[(line + LINE_KEYS) & (ROW_WORDS - 1)] >> (entry * 8)) as u8
}

/// First word of the cache line of `row` that holds the last word at most `key`. The three loads do not wait for one
/// another, so that a row costs one cache miss.
#[inline(always)]
fn line(row: &Row, key: u64) -> usize {
    let step = |word: usize| at_most(row[word], key) & LINE_WORDS;
    step(LINE_WORDS) + step(2 * LINE_WORDS) + step(3 * LINE_WORDS)
}

/// From word `at` on, which counts as at most `key`, the last that is; `steps` are those of a binary search.
#[inline(always)]
fn last_at_most(row: &Row, mut at: usize, steps: [usize; 3], key: u64) -> usize {
    for step in steps {
        at += at_most(row[(at + step) & (ROW_WORDS - 1)], key) & step;
    }
    at
}

/// All ones if `a <= b`, else zero. Without branches: the verifier would follow each of them.
#[inline(always)]
const fn at_most(a: u64, b: u64) -> usize {
    !is_less(b, a) as usize
}

/// All ones if `a < b`, else zero: the borrow of `a - b`.
#[inline(always)]
const fn is_less(a: u64, b: u64) -> u64 {
    let borrow = (!a & b) | ((!a | b) & a.wrapping_sub(b));
    ((borrow as i64) >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrow_is_an_unsigned_comparison() {
        let edges = [
            0,
            1,
            2,
            (1 << 63) - 1,
            1 << 63,
            (1 << 63) + 1,
            u64::MAX - 1,
            u64::MAX,
        ];
        for a in edges {
            for b in edges {
                assert_eq!(is_less(a, b), if a < b { u64::MAX } else { 0 }, "{a} < {b}");
            }
        }
    }

    #[test]
    fn every_position_of_a_row_is_found() {
        let row: Row = core::array::from_fn(|i| 10 * i as u64);
        for key in 0..320 {
            let line = line(&row, key);
            assert_eq!(line as u64, key / 80 * 8, "line of {key}");
            assert_eq!(
                last_at_most(&row, line, [4, 2, 1], key) as u64,
                key / 10,
                "inner {key}"
            );
            let leaf = (key / 10).min(key / 80 * 8 + 6);
            assert_eq!(
                last_at_most(&row, line, [3, 2, 1], key) as u64,
                leaf,
                "leaf {key}"
            );
        }
    }
}
