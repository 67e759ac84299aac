//! .mmdb file -> networks and what the file says of itself.
//!
//! The file is hostile until it is read: its size, the number of tree leaves visited (a tree whose nodes are shared can
//! have 2^128 of them) and the networks kept are bounded, and one record that cannot be decoded refuses the
//! whole file. It is read into memory, not mapped: a mapped file that is truncated in place is a SIGBUS.
//!
//! In an IPv6 tree IPv4 is at ::/96, and ::ffff:0:0/96, 2001::/32 and 2002::/16 usually point into it again. maxminddb
//! leaves such aliases out when iterating; 6to4 and Teredo become one range each that says "look at the address
//! inside".

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use mc_edge_common::geo::{MAX_RANGES, SEARCH, UNKNOWN};
use serde::{Deserialize, de::IgnoredAny};

use super::{countries, table::Networks};
use crate::spec::CountryCode;

/// Largest file read. A country database has 10 MB, the largest city database on the market less than half of this.
pub const MAX_FILE_BYTES: u64 = 512 << 20;
/// Leaves of the search tree visited, empty ones included. City databases have some 6 million.
pub const MAX_LEAVES: usize = 16 << 20;
/// Records that lead to a node which others lead to as well. Databases have three, the aliases of IPv4.
pub const MAX_SHARED_NODES: usize = 8;
/// Networks kept, after neighbours of one country are joined: what both trees hold, and as many in whole /24s.
pub const MAX_NETWORKS: usize = 4 * MAX_RANGES;
/// Decoded records remembered; beyond, they are decoded again.
const MAX_CACHED_RECORDS: usize = 1 << 16;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Missing or unreadable.
    #[error("cannot read the GeoIP database {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Above [`MAX_FILE_BYTES`].
    #[error(
        "the GeoIP database {path} has {bytes} bytes or more; at most {MAX_FILE_BYTES} are read"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// No metadata at its end, or metadata that contradict the file.
    #[error("{path} is not an .mmdb file, or it is truncated")]
    NotMmdb {
        /// The file.
        path: PathBuf,
        /// What maxminddb says.
        #[source]
        source: MaxMindDbError,
    },
    /// The tree or a record is corrupt.
    #[error("the GeoIP database {path} is corrupt; fetch it again")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What maxminddb says.
        #[source]
        source: MaxMindDbError,
    },
    /// Above [`MAX_LEAVES`] or [`MAX_NETWORKS`].
    #[error("the GeoIP database {path} has more than {limit} {what}; use a country database")]
    TooMany {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A database without a network.
    #[error("the GeoIP database {path} (type {database_type:?}) has no networks")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        database_type: String,
    },
    /// Networks, but no countries: an ASN database, say.
    #[error(
        "the GeoIP database {path} (type {database_type:?}) has {networks} networks and no country in any; \
         use a country or city database"
    )]
    NoCountry {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        database_type: String,
        /// How many networks.
        networks: u64,
    },
}

/// A database, read.
#[derive(Debug)]
pub struct Database {
    /// What it says it is, such as "GeoLite2-Country".
    pub database_type: String,
    /// When it was built, Unix seconds.
    pub build_epoch: u64,
    /// IPv4 networks with a country.
    pub networks_v4: u64,
    /// IPv6 networks with a country, aliases of IPv4 not counted.
    pub networks_v6: u64,
    /// Networks without a country, or with a code that [`countries`] does not know.
    pub without_country: u64,
    /// Those with a country.
    pub networks: Networks,
}

/// Reads a file.
///
/// # Errors
/// [`ReadError`] says why it is refused.
pub fn read(path: &Path) -> Result<Database, ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(io(io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_FILE_BYTES) as usize + 1);
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
        });
    }
    parse(&bytes, path)
}

/// Reads a database from memory; `path` is for messages.
///
/// # Errors
/// [`ReadError`] says why it is refused.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Database, ReadError> {
    let reader = Reader::from_source(bytes).map_err(|source| ReadError::NotMmdb {
        path: path.to_owned(),
        source,
    })?;
    if shared_nodes(&reader, bytes) > MAX_SHARED_NODES {
        return Err(ReadError::TooMany {
            path: path.to_owned(),
            what: "shared nodes in its search tree",
            limit: MAX_SHARED_NODES,
        });
    }
    let mut walk = Walk {
        reader: &reader,
        path,
        records: HashMap::new(),
        found: Database {
            database_type: reader.metadata().database_type.clone(),
            build_epoch: reader.metadata().build_epoch,
            networks_v4: 0,
            networks_v6: 0,
            without_country: 0,
            networks: Networks::default(),
        },
        sample: None,
        in_alias: [false; ALIASES.len()],
    };
    walk.run()?;
    let found = walk.found;
    let database_type = found.database_type.clone();
    match (found.networks.is_empty(), found.without_country) {
        (true, 0) => Err(ReadError::Empty {
            path: path.to_owned(),
            database_type,
        }),
        (true, networks) => Err(ReadError::NoCountry {
            path: path.to_owned(),
            database_type,
            networks,
        }),
        (false, _) => Ok(found),
    }
}

/// How many records of the tree lead to a node that another record leads to. maxminddb's iterator passes over aliases
/// without yielding, so that a tree of shared nodes would hold it for ever.
fn shared_nodes(reader: &Reader<&[u8]>, bytes: &[u8]) -> usize {
    let nodes = reader.metadata().node_count as usize;
    let record_bits = usize::from(reader.metadata().record_size);
    let mut seen = vec![false; nodes];
    let mut shared = 0;
    for node in bytes.chunks_exact(record_bits / 4).take(nodes) {
        let be = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let (left, right) = match record_bits {
            28 => {
                let high = usize::from(node[3]);
                (
                    (high >> 4) << 24 | be(&node[..3]),
                    (high & 0xf) << 24 | be(&node[4..]),
                )
            }
            _ => (be(&node[..node.len() / 2]), be(&node[node.len() / 2..])),
        };
        for child in [left, right] {
            if let Some(seen) = seen.get_mut(child) {
                shared += usize::from(std::mem::replace(seen, true));
            }
        }
    }
    shared
}

/// Where IPv4 addresses are embedded above the /64 boundary: prefix, its length, and how far an address is shifted.
const ALIASES: [(u128, u8, u32); 2] = [(0x2002 << 112, 16, 80), (0x2001 << 112, 32, 64)];

/// One pass over a database.
struct Walk<'a> {
    reader: &'a Reader<&'a [u8]>,
    path: &'a Path,
    /// Country index by offset of the record.
    records: HashMap<usize, u8>,
    found: Database,
    /// An IPv4 address with a country.
    sample: Option<Ipv4Addr>,
    /// Whether the prefix of [`ALIASES`] has networks of its own.
    in_alias: [bool; ALIASES.len()],
}

impl Walk<'_> {
    fn corrupt(&self, source: MaxMindDbError) -> ReadError {
        ReadError::Corrupt {
            path: self.path.to_owned(),
            source,
        }
    }

    fn too_many(&self, what: &'static str, limit: usize) -> ReadError {
        ReadError::TooMany {
            path: self.path.to_owned(),
            what,
            limit,
        }
    }

    fn run(&mut self) -> Result<(), ReadError> {
        let reader = self.reader;
        // Empty leaves are asked for so that the bound counts them too.
        let mut options = WithinOptions::default().include_networks_without_data();
        let any4 = reader
            .lookup(Ipv4Addr::UNSPECIFIED.into())
            .map_err(|e| self.corrupt(e))?;
        let any4_network = any4.network().map_err(|e| self.corrupt(e))?;
        if any4_network.is_ipv6() {
            // One record covers ::/96. maxminddb would take other networks with the same record for aliases of it.
            options = options.include_aliased_networks();
            if any4.has_data() {
                let country = self.country(&any4)?;
                self.add(IpNet::V4(Default::default()), country)?;
            }
        }
        for (leaves, result) in reader
            .networks(options)
            .map_err(|e| self.corrupt(e))?
            .enumerate()
        {
            let found = result.map_err(|e| self.corrupt(e))?;
            if leaves >= MAX_LEAVES {
                return Err(self.too_many("leaves in its search tree", MAX_LEAVES));
            }
            if !found.has_data() {
                continue;
            }
            let network = found.network().map_err(|e| self.corrupt(e))?;
            let network = IpNet::new(network.ip(), network.prefix()).map_err(|_| {
                self.corrupt(MaxMindDbError::invalid_database(
                    "a prefix longer than its address",
                ))
            })?;
            let country = self.country(&found)?;
            self.add(network, country)?;
        }
        self.add_aliases()
    }

    /// Counts and keeps a network that has a record.
    fn add(&mut self, network: IpNet, country: Option<u8>) -> Result<(), ReadError> {
        let Some(country) = country else {
            self.found.without_country += 1;
            return Ok(());
        };
        if self.found.networks.len() >= MAX_NETWORKS {
            return Err(self.too_many("networks", MAX_NETWORKS));
        }
        match network {
            IpNet::V4(net) => {
                self.found.networks_v4 += 1;
                self.sample.get_or_insert(net.network());
            }
            IpNet::V6(net) => {
                self.found.networks_v6 += 1;
                for (seen, (prefix, len, _)) in self.in_alias.iter_mut().zip(ALIASES) {
                    let shift = 128 - u32::from(len.min(net.prefix_len()));
                    *seen |=
                        u128::from(net.network()).checked_shr(shift) == prefix.checked_shr(shift);
                }
            }
        }
        self.found.networks.push_next(network, country);
        Ok(())
    }

    /// Adds the embedded prefixes that have nothing of their own but answer like the IPv4 address inside.
    fn add_aliases(&mut self) -> Result<(), ReadError> {
        let Some(sample) = self
            .sample
            .filter(|_| self.reader.metadata().ip_version == 6)
        else {
            return Ok(());
        };
        let offset = |address: IpAddr| self.reader.lookup(address).map(|found| found.offset());
        let direct = offset(sample.into()).map_err(|e| self.corrupt(e))?;
        for (own, (prefix, len, shift)) in self.in_alias.into_iter().zip(ALIASES) {
            let embedded = Ipv6Addr::from(prefix | u128::from(u32::from(sample)) << shift);
            if !own && offset(embedded.into()).map_err(|e| self.corrupt(e))? == direct {
                let network = IpNet::new_assert(Ipv6Addr::from(prefix).into(), len);
                self.found.networks.push(network, SEARCH);
            }
        }
        Ok(())
    }

    /// The country of a record; `None` if it has none, or none that is known.
    fn country(
        &mut self,
        found: &maxminddb::LookupResult<'_, &[u8]>,
    ) -> Result<Option<u8>, ReadError> {
        let Some(offset) = found.offset() else {
            return Ok(None);
        };
        if let Some(&index) = self.records.get(&offset) {
            return Ok((index != UNKNOWN).then_some(index));
        }
        let record: Record<'_> = match found.decode() {
            Ok(record) => record.unwrap_or_default(),
            Err(e) => return Err(self.corrupt(e)),
        };
        let index = record.country().unwrap_or(UNKNOWN);
        if self.records.len() >= MAX_CACHED_RECORDS {
            self.records.clear();
        }
        self.records.insert(offset, index);
        Ok((index != UNKNOWN).then_some(index))
    }
}

/// The parts of a record that name a country, in the shapes that vendors use.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Place<'a>>,
    #[serde(borrow)]
    registered_country: Option<Place<'a>>,
    #[serde(borrow)]
    country_code: Option<Place<'a>>,
}

/// A country.
#[derive(Deserialize)]
#[serde(untagged)]
enum Place<'a> {
    /// Flat: "DE", or a name.
    Code(&'a str),
    /// MaxMind's.
    Nested {
        #[serde(borrow)]
        iso_code: Option<&'a str>,
    },
    /// Something else.
    Other(#[allow(dead_code)] IgnoredAny),
}

impl Record<'_> {
    fn country(&self) -> Option<u8> {
        [&self.country, &self.country_code, &self.registered_country]
            .into_iter()
            .flatten()
            .find_map(Place::index)
    }
}

impl Place<'_> {
    fn index(&self) -> Option<u8> {
        let (Place::Code(code)
        | Place::Nested {
            iso_code: Some(code),
        }) = self
        else {
            return None;
        };
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        countries::index(CountryCode(code.map(|c| c.to_ascii_uppercase())))
    }
}
