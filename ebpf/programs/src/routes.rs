//! The route table: written by the daemon, read by it on each connection, pinned across restarts.
use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use mc_edge_common::route::{MAX_ROUTES, RouteKey, RouteValue};

/// (port, hostname pattern) -> route.
#[map]
static ROUTES: HashMap<RouteKey, RouteValue> = HashMap::pinned(MAX_ROUTES, BPF_F_NO_PREALLOC);
