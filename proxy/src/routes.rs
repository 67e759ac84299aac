//! The route table in the kernel: (port, hostname pattern) -> backends.
//!
//! Every connection asks the kernel map itself, so that what `mcproxyctl maps dump` shows is what routes. A copy
//! in memory would spare a system call for every name looked up, and could disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use aya::maps::{HashMap, MapData, MapError};
use mc_edge_common::route::{
    self, BackendAddr, MAX_BACKENDS, MAX_HOSTNAME, MAX_ROUTES, RouteKey, RouteValue,
};

use crate::{
    firewall::{Difference, DifferenceKind},
    hostname::Hostname,
    kernel::{Kernel, KernelError},
    spec::{EngineKind, MapEntry, MapFill, Route, RouteId},
};

/// Name of the map, as in the eBPF object.
pub const MAP: &str = "ROUTES";

/// A failed operation on the route table.
#[derive(Debug, thiserror::Error)]
pub enum RouteTableError {
    /// The object has no such map.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The map has another type or layout.
    #[error("the kernel map {MAP} is not a route table of this version")]
    Layout(#[source] MapError),
    /// Writing an entry failed.
    #[error("cannot write route {key} to the kernel map {MAP}")]
    Write {
        /// The route.
        key: String,
        #[source]
        /// The kernel's answer.
        source: MapError,
    },
    /// Reading failed.
    #[error("cannot read the kernel map {MAP}")]
    Read(#[source] MapError),
}

/// The kernel's route table.
#[derive(Debug)]
pub struct RouteTable {
    // Lookups take the read side; the lock orders writers only, the kernel orders readers.
    map: RwLock<HashMap<MapData, RouteKey, RouteValue>>,
    /// How often it was written.
    generation: AtomicU64,
}

impl RouteTable {
    /// Takes the table out of the loaded object.
    ///
    /// # Errors
    /// If the object has no route table of this layout.
    pub fn take(kernel: &mut Kernel) -> Result<Self, RouteTableError> {
        let map = HashMap::try_from(kernel.take_map(MAP)?).map_err(RouteTableError::Layout)?;
        Ok(Self {
            map: RwLock::new(map),
            generation: AtomicU64::new(0),
        })
    }

    /// Grows with each change that this process made: what was looked up before may be otherwise.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    fn written(&self) {
        self.generation.fetch_add(1, Release);
    }

    /// The entry that routes `name` on `port`: the exact name first, then `*.` by parent labels.
    ///
    /// # Errors
    /// [`RouteTableError::Read`] if the kernel refuses the look-up.
    pub fn find(&self, port: u16, name: &Hostname) -> Result<Option<RouteValue>, RouteTableError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        for candidate in name.candidates() {
            match map.get(&key_bytes(port, candidate.as_ref()), 0) {
                Ok(value) => return Ok(Some(value)),
                Err(MapError::KeyNotFound) => {}
                Err(e) => return Err(RouteTableError::Read(e)),
            }
        }
        Ok(None)
    }

    /// Writes or replaces one route.
    ///
    /// # Errors
    /// [`RouteTableError::Write`] if the table is full or the kernel refuses.
    pub fn insert(&self, route: &Route) -> Result<(), RouteTableError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let inserted = map.insert(encode_key(&route.key), encode_value(route), 0);
        self.written();
        inserted.map_err(|source| RouteTableError::Write {
            key: describe_id(&route.key),
            source,
        })
    }

    /// Removes one route; one that is not there is no error.
    ///
    /// # Errors
    /// [`RouteTableError::Write`] if the kernel refuses.
    pub fn remove(&self, id: &RouteId) -> Result<(), RouteTableError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let removed = map.remove(&encode_key(id));
        self.written();
        match removed {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            Err(source) => Err(RouteTableError::Write {
                key: describe_id(id),
                source,
            }),
        }
    }

    /// Compares the table with what it should hold; with `repair`, makes it so.
    ///
    /// # Errors
    /// If the kernel refuses a read or a write.
    pub fn verify<'a>(
        &self,
        desired: impl Iterator<Item = &'a Route>,
        repair: bool,
    ) -> Result<Vec<Difference>, RouteTableError> {
        let mut wanted: BTreeMap<String, (RouteKey, RouteValue)> = desired
            .map(|r| (describe_id(&r.key), (encode_key(&r.key), encode_value(r))))
            .collect();
        let mut differences = Vec::new();
        let (mut stale, mut different) = (Vec::new(), BTreeSet::new());
        let difference = |key: &str, kind, detail| Difference {
            map: MAP,
            key: key.into(),
            kind,
            detail,
        };
        for (key, value) in self.entries()? {
            let name = describe_key(&key);
            match wanted.get(&name) {
                Some((_, want)) if *want == value => {
                    wanted.remove(&name);
                }
                Some((_, want)) => {
                    let detail = format!(
                        "kernel has {}, database has {}",
                        describe_value(&value),
                        describe_value(want)
                    );
                    differences.push(difference(&name, DifferenceKind::Different, detail));
                    different.insert(name);
                }
                None => {
                    differences.push(difference(
                        &name,
                        DifferenceKind::Unexpected,
                        describe_value(&value),
                    ));
                    stale.push(key);
                }
            }
        }
        let missing = wanted.iter().filter(|(name, _)| !different.contains(*name));
        differences.extend(missing.map(|(name, (_, want))| {
            difference(name, DifferenceKind::Missing, describe_value(want))
        }));
        if repair {
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            let failed = |key: &RouteKey, source| RouteTableError::Write {
                key: describe_key(key),
                source,
            };
            for key in &stale {
                map.remove(key).map_err(|e| failed(key, e))?;
                self.written();
            }
            for (key, value) in wanted.values() {
                map.insert(key, value, 0).map_err(|e| failed(key, e))?;
                self.written();
            }
        }
        Ok(differences)
    }

    /// All entries, for people.
    ///
    /// # Errors
    /// If the kernel refuses the read.
    pub fn dump(&self) -> Result<Vec<MapEntry>, RouteTableError> {
        let mut entries: Vec<_> = self
            .entries()?
            .iter()
            .map(|(k, v)| MapEntry {
                map: MAP.into(),
                key: describe_key(k),
                value: describe_value(v),
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Entries in use and capacity.
    ///
    /// # Errors
    /// If the kernel refuses the read.
    pub fn fill(&self) -> Result<MapFill, RouteTableError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut used = 0;
        for key in map.keys() {
            key.map_err(RouteTableError::Read)?;
            used += 1;
        }
        Ok(MapFill {
            map: MAP.into(),
            used,
            capacity: u64::from(MAX_ROUTES),
        })
    }

    fn entries(&self) -> Result<Vec<(RouteKey, RouteValue)>, RouteTableError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.iter()
            .collect::<Result<_, _>>()
            .map_err(RouteTableError::Read)
    }
}

fn key_bytes(port: u16, name: &str) -> RouteKey {
    let mut key = RouteKey {
        port,
        len: 0,
        name: [0; MAX_HOSTNAME],
    };
    // Invariant: hostnames and patterns are at most MAX_HOSTNAME bytes by type.
    let bytes = &name.as_bytes()[..name.len().min(MAX_HOSTNAME)];
    key.name[..bytes.len()].copy_from_slice(bytes);
    key.len = bytes.len() as u8;
    key
}

fn encode_key(id: &RouteId) -> RouteKey {
    key_bytes(id.port, id.hostname.as_str())
}

fn encode_value(route: &Route) -> RouteValue {
    let mut backends = [BackendAddr::default(); MAX_BACKENDS];
    for (slot, address) in backends.iter_mut().zip(&route.backends) {
        *slot = BackendAddr {
            addr: match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
            port: address.port(),
            reserved: 0,
        };
    }
    RouteValue {
        route_id: route.id,
        mode: if route.l7.is_some() {
            route::mode::L7
        } else {
            route::mode::L4
        },
        engine: match route.engine {
            None => route::engine::DEFAULT,
            Some(EngineKind::Copy) => route::engine::COPY,
            Some(EngineKind::Sockmap) => route::engine::SOCKMAP,
        },
        enabled: u8::from(route.enabled),
        backend_count: route.backends.len().min(MAX_BACKENDS) as u8,
        reserved: 0,
        backends,
    }
}

/// The backends of an entry.
pub fn backends(value: &RouteValue) -> impl Iterator<Item = SocketAddr> + '_ {
    value
        .backends
        .iter()
        .take(usize::from(value.backend_count))
        .map(|b| SocketAddr::new(Ipv6Addr::from(b.addr).to_canonical(), b.port))
}

fn describe_id(id: &RouteId) -> String {
    format!("{}:{}", id.hostname, id.port)
}

fn describe_key(key: &RouteKey) -> String {
    let name = &key.name[..usize::from(key.len).min(MAX_HOSTNAME)];
    format!("{}:{}", String::from_utf8_lossy(name), key.port)
}

fn describe_value(value: &RouteValue) -> String {
    let backends: Vec<_> = backends(value).map(|b| b.to_string()).collect();
    let engine = match value.engine {
        route::engine::COPY => "copy",
        route::engine::SOCKMAP => "sockmap",
        _ => "default",
    };
    let mode = match value.mode {
        route::mode::L7 => "l7".to_owned(),
        _ => format!("l4, engine {engine}"),
    };
    let state = if value.enabled == 1 { "" } else { "disabled, " };
    format!(
        "route {}: {state}{mode}, to {}",
        value.route_id,
        backends.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_gives_its_backends_back() {
        let route = Route {
            id: 7,
            key: RouteId {
                port: 443,
                hostname: "a.example".parse().unwrap(),
            },
            backends: vec![
                "192.0.2.1:8443".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            ],
            engine: Some(EngineKind::Sockmap),
            enabled: true,
            send_proxy: false,
            connect_timeout: None,
            idle_timeout: None,
            max_age: None,
            max_connections: None,
            l7: None,
        };
        let value = encode_value(&route);
        assert_eq!(backends(&value).collect::<Vec<_>>(), route.backends);
        assert_eq!(
            describe_value(&value),
            "route 7: l4, engine sockmap, to 192.0.2.1:8443, [2001:db8::1]:443"
        );
        assert_eq!(describe_key(&encode_key(&route.key)), "a.example:443");
    }
}
