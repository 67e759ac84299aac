//! GeoIP: the pinned outer map and the kernel's side of the lookup ([`mc_edge_common::geo`]).
use aya_ebpf::{
    bindings::BPF_F_INNER_MAP,
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use mc_edge_common::geo::{self, GeoTables, Row};

/// One table; `BPF_F_INNER_MAP` lets each have its own number of rows.
type Table = Array<Row, 1, { BPF_F_INNER_MAP as usize }>;

/// Slot 0: the table in force, if any.
#[btf_map]
static GEO: ArrayOfMaps<Table, 1> = ArrayOfMaps::new();

/// The table that was in force when the lookup began. The program runs under RCU, which keeps it alive.
struct InForce(&'static Table);

impl GeoTables for InForce {
    type Row = &'static Row;

    #[inline(always)]
    fn row(&self, index: u32) -> Option<&'static Row> {
        self.0.get(index)
    }
}

/// Country index of an IPv4 address in host byte order; 0 = unknown.
#[inline(always)]
pub(crate) fn country4(addr: u32) -> u8 {
    GEO.get(0)
        .map_or(geo::UNKNOWN, |table| geo::country4(&InForce(table), addr))
}

/// Country index of the upper half of an IPv6 address in host byte order; 0 = unknown.
#[inline(always)]
pub(crate) fn country6(prefix: u64) -> u8 {
    GEO.get(0)
        .map_or(geo::UNKNOWN, |table| geo::country6(&InForce(table), prefix))
}
