//! GeoIP databases made to order: small ones for tests and the demo, one of the real size for the benchmark.
//!
//! Written by maxminddb-writer, in the shape of MaxMind's: an IPv6 tree with IPv4 at ::/96. The crate cannot make two
//! records point to one node, which is how databases alias IPv4 at 2002::/16; [`small`] patches that in.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use maxminddb_writer::{Database, metadata::IpVersion};

/// Prefixes under which real databases repeat their IPv4 tree: IPv4-mapped, Teredo, 6to4.
const ALIASES: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];
/// Bytes of a tree node with 24-bit records.
const NODE_BYTES: usize = 6;

fn database(database_type: &str) -> Database {
    let mut database = Database::default();
    let metadata = &mut database.metadata;
    metadata.ip_version = IpVersion::V6;
    metadata.database_type = database_type.to_owned();
    metadata.languages = vec!["en".to_owned()];
    metadata.binary_format_major_version = 2;
    metadata.build_epoch = 1_700_000_000;
    metadata.description = HashMap::from([("en".to_owned(), "made by mc-testkit".to_owned())]);
    database
}

/// The bits of a network in an IPv6 tree.
fn path(network: IpNet) -> impl Iterator<Item = bool> {
    let (bits, len) = match network {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), 96 + net.prefix_len()),
        IpNet::V6(net) => (u128::from(net.network()), net.prefix_len()),
    };
    (0..len).map(move |i| bits >> (127 - i) & 1 == 1)
}

fn finish(database: &Database) -> Vec<u8> {
    database.write_to(Vec::new()).expect("writing to memory")
}

/// A country database of the given networks ("192.0.2.0/24", "DE"); nested ones may come in any order. IPv4 is aliased at
/// ::ffff:0:0/96, 2001::/32 and 2002::/16 where the networks leave these free.
///
/// # Panics
/// If a network does not parse.
pub fn small(networks: &[(&str, &str)]) -> Vec<u8> {
    let networks: Vec<(IpNet, &str)> = networks
        .iter()
        .map(|&(network, country)| {
            (
                network.parse().unwrap_or_else(|e| panic!("{network}: {e}")),
                country,
            )
        })
        .collect();
    country_database(&networks, "mc-testkit-Country")
}

fn country_database(networks: &[(IpNet, &str)], database_type: &str) -> Vec<u8> {
    let mut networks = networks.to_vec();
    // The writer overwrites: outer before inner.
    networks.sort_by_key(|(network, _)| network.prefix_len());
    let mut database = database(database_type);
    let mut records = HashMap::new();
    let mut aliases = Vec::new();
    if networks
        .iter()
        .any(|(network, _)| matches!(network, IpNet::V4(_)))
    {
        for (prefix, len) in ALIASES {
            let alias = IpNet::new_assert(IpAddr::V6(prefix), len);
            if !networks
                .iter()
                .any(|(n, _)| n.contains(&alias) || alias.contains(n))
            {
                let placeholder = database.insert_value("alias").expect("a string");
                database.insert_node(path(alias), placeholder);
                aliases.push(alias);
            }
        }
    }
    for (network, country) in networks {
        let record = *records.entry(country).or_insert_with(|| {
            let names = BTreeMap::from([("iso_code", country)]);
            database
                .insert_value(BTreeMap::from([
                    ("country", &names),
                    ("registered_country", &names),
                ]))
                .expect("a map of strings")
        });
        database.insert_node(path(network), record);
    }
    let mut bytes = finish(&database);
    let ipv4 = descend(
        &bytes,
        path(IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 96)),
    );
    for alias in aliases {
        let at = descend(&bytes, path(alias)).0;
        bytes.copy_within(ipv4.0..ipv4.0 + NODE_BYTES / 2, at);
    }
    bytes
}

/// Where the record at the end of a path is, in a tree of 24-bit records.
fn descend(bytes: &[u8], path: impl Iterator<Item = bool>) -> (usize, usize) {
    let mut found = (0, 0);
    for bit in path {
        let at = found.1 * NODE_BYTES + usize::from(bit) * 3;
        let node = bytes[at..at + 3]
            .iter()
            .fold(0, |n, &byte| n << 8 | usize::from(byte));
        found = (at, node);
    }
    found
}

/// A database with a network per (network, AS number): no country in it.
///
/// # Panics
/// If a network does not parse.
pub fn asn(networks: &[(&str, u32)]) -> Vec<u8> {
    let mut database = database("mc-testkit-ASN");
    for &(network, number) in networks {
        let record = database
            .insert_value(BTreeMap::from([("autonomous_system_number", number)]))
            .expect("a map of numbers");
        database.insert_node(path(network.parse().expect("a network")), record);
    }
    finish(&database)
}

/// A database without networks.
pub fn empty() -> Vec<u8> {
    let mut database = database("mc-testkit-Country");
    // The writer counts its nodes only when something is inserted.
    let _ = database.insert_value("nothing points here");
    finish(&database)
}

/// Records of the vendors that keep the code in a flat field, `country` or `country_code`.
///
/// # Panics
/// If a network does not parse.
pub fn flat(field: &str, networks: &[(&str, &str)]) -> Vec<u8> {
    let mut database = database("mc-testkit-flat");
    for &(network, country) in networks {
        let record = database
            .insert_value(BTreeMap::from([(field, country)]))
            .expect("a map of strings");
        database.insert_node(path(network.parse().expect("a network")), record);
    }
    finish(&database)
}

/// A deterministic country database with `v4` IPv4 and `v6` IPv6 networks, neighbours of different countries. IPv4
/// covers 1.0.0.0 to 223.255.255.255, with networks of every size; IPv6 covers half of what registries hand out.
/// 464,000 and 310,000 are the size of a real one.
pub fn realistic(v4: usize, v6: usize, seed: u64) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let mut networks = Vec::with_capacity(v4 + v6);
    let mut previous = "";
    let blocks: Vec<u128> = (1..224).map(|block| block << 24).collect();
    for (block, count) in blocks.iter().zip(shares(v4, blocks.len())) {
        subdivide(
            *block,
            8,
            count,
            32,
            &mut random,
            &mut |bits, len, random| {
                previous = random.country(previous);
                let address = Ipv4Addr::from(bits as u32);
                networks.push((IpNet::new_assert(address.into(), len as u8), previous));
            },
        );
    }
    let registries = [0x2400u128, 0x2600, 0x2800, 0x2a00, 0x2c00].map(|top| top << 112);
    for (registry, count) in registries.iter().zip(shares(v6, registries.len())) {
        subdivide(
            *registry,
            12,
            count,
            128,
            &mut random,
            &mut |bits, len, random| {
                previous = random.country(previous);
                // Half of each is not assigned.
                let len = (len + 1).max(20);
                networks.push((
                    IpNet::new_assert(Ipv6Addr::from(bits).into(), len as u8),
                    previous,
                ));
            },
        );
    }
    country_database(&networks, "mc-testkit-realistic-Country")
}

/// `total` in `parts` parts that differ by one at most.
fn shares(total: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |i| total * (i + 1) / parts - total * i / parts)
}

/// Cuts a network of an address family of `width` bits into `count` smaller ones, unevenly.
fn subdivide(
    bits: u128,
    len: u32,
    count: usize,
    width: u32,
    random: &mut SplitMix,
    emit: &mut dyn FnMut(u128, u32, &mut SplitMix),
) {
    if count == 0 {
        return;
    }
    // IPv6 networks end at /48 here.
    let room = width.min(47).saturating_sub(len);
    if count == 1 || room == 0 {
        return emit(bits, len, random);
    }
    let half = 1usize << (room - 1);
    let least = count.saturating_sub(half).max(1);
    let most = (count - 1).min(half);
    let left = least + random.below((most - least + 1) as u64) as usize;
    subdivide(bits, len + 1, left, width, random, emit);
    let right = bits | 1 << (width - len - 1);
    subdivide(right, len + 1, count - left, width, random, emit);
}

/// Steele, Lea and Flood's SplitMix64: a few lines, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A country, with the large ones more frequent, other than `previous`.
    fn country(&mut self, previous: &str) -> &'static str {
        const COUNTRIES: [&str; 24] = [
            "US", "US", "US", "DE", "GB", "FR", "BR", "CN", "RU", "IN", "JP", "CA", "AU", "NL",
            "IT", "ES", "PL", "SE", "CH", "ZA", "MX", "KR", "XK", "SG",
        ];
        loop {
            let country = COUNTRIES[self.below(COUNTRIES.len() as u64) as usize];
            if country != previous {
                return country;
            }
        }
    }
}
