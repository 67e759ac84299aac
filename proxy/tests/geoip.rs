//! GeoIP on the real kernel: what a database says is what the kernel's table says, and a bad file changes nothing.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use maxminddb::{PathElement, Reader};
use mc_edge_common::{
    LAYOUT_VERSION,
    geo::{self, GEO_MAP, Row},
};
use mc_proxy::{
    geoip::{GeoIp, Status, reader},
    kernel::Kernel,
    spec::CountryCode,
};
use mc_testkit::mmdb;
use tokio_util::sync::CancellationToken;

/// A pin directory and a scratch directory of one test.
struct Fixture {
    pins: PathBuf,
    files: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self {
            pins: format!("/sys/fs/bpf/mc-test-{}-geoip-{n}", std::process::id()).into(),
            files: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn database(&self) -> PathBuf {
        self.files.path().join("country.mmdb")
    }

    /// Replaces the database by rename, as updaters do.
    fn replace(&self, bytes: &[u8]) {
        let temporary = self.files.path().join("new");
        fs::write(&temporary, bytes).expect("writable");
        fs::rename(&temporary, self.database()).expect("renames");
    }

    fn open(&self) -> Arc<GeoIp> {
        let mut kernel = Kernel::open(&self.pins).expect("the object loads");
        Arc::new(GeoIp::open(&mut kernel, Some(self.database())).expect("the map is there"))
    }

    /// The pinned outer map.
    fn outer(&self) -> ArrayOfMaps<MapData, Array<MapData, Row>> {
        let pin = self.pins.join(format!("v{LAYOUT_VERSION}")).join(GEO_MAP);
        let map = Map::ArrayOfMaps(MapData::from_pin(pin).expect("the map is pinned"));
        map.try_into().expect("an array of maps")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pins);
    }
}

fn lookup(geoip: &GeoIp, text: &str) -> String {
    let address = text.parse().expect("an address");
    String::from_utf8(geoip.lookup(address).0.to_vec()).expect("letters")
}

/// Cheap and deterministic (xorshift).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn reference(reader: &Reader<&[u8]>, address: IpAddr) -> CountryCode {
    let path = [PathElement::Key("country"), PathElement::Key("iso_code")];
    let code: Option<String> = reader
        .lookup(address)
        .and_then(|found| found.decode_path(&path))
        .expect("readable");
    code.map_or(CountryCode(*b"??"), |code| {
        CountryCode(code.as_bytes().try_into().expect("two letters"))
    })
}

const SMALL: &[(&str, &str)] = &[
    ("1.0.0.0/8", "AU"),
    ("1.2.0.0/16", "CN"),
    ("1.2.3.0/24", "JP"),
    ("1.2.3.64/26", "KR"),
    ("1.2.3.200/32", "SG"),
    ("9.9.9.255/32", "CH"),
    ("9.9.10.0/31", "SE"),
    ("203.0.113.0/24", "XK"),
    ("255.255.255.255/32", "AQ"),
    ("2001:db8::/32", "DE"),
    ("2001:db8:1::/48", "FR"),
    ("2001:db8:1:2::/64", "GB"),
    ("2001:db8:1:3::/65", "IT"),
    ("2001:db8:1:4:8000::/65", "ES"),
    ("2a00::/12", "NL"),
    ("fc00::/7", "US"),
];

#[tokio::test]
async fn small_database() {
    let fixture = Fixture::new();
    fs::write(fixture.database(), mmdb::small(SMALL)).expect("writable");
    let geoip = fixture.open();
    assert_eq!(lookup(&geoip, "1.2.3.4"), "??", "nothing is loaded yet");
    geoip.load().await.expect("loads");
    for (what, text, expected) in [
        ("outside all", "8.8.8.8", "??"),
        ("the first address", "0.0.0.0", "??"),
        ("before", "0.255.255.255", "??"),
        ("outer network", "1.0.0.0", "AU"),
        ("nested /16", "1.2.0.255", "CN"),
        ("nested /24, split", "1.2.3.0", "JP"),
        ("just before a /26", "1.2.3.63", "JP"),
        ("first of a /26", "1.2.3.64", "KR"),
        ("last of a /26", "1.2.3.127", "KR"),
        ("just after a /26", "1.2.3.128", "JP"),
        ("a /32", "1.2.3.200", "SG"),
        ("after a /32", "1.2.3.201", "JP"),
        ("after a split /24", "1.2.4.0", "CN"),
        ("last of a /24, alone in it", "9.9.9.255", "CH"),
        ("before it", "9.9.9.254", "??"),
        ("the split /24 next to it", "9.9.10.1", "SE"),
        ("after that", "9.9.10.2", "??"),
        ("not ISO but in databases", "203.0.113.9", "XK"),
        ("the last address", "255.255.255.255", "AQ"),
        ("the one before it", "255.255.255.254", "??"),
        ("IPv6 outer", "2001:db8:ffff::1", "DE"),
        ("IPv6 /48", "2001:db8:1::1", "FR"),
        ("IPv6 /64", "2001:db8:1:2:ffff::1", "GB"),
        ("a /64 is its first address", "2001:db8:1:3:ffff::1", "IT"),
        ("not what begins within it", "2001:db8:1:4:8000::1", "FR"),
        ("IPv6 short prefix", "2a0f:ffff::1", "NL"),
        ("IPv6 with the top bit set", "fd00::1", "US"),
        ("the last /64", "ffff:ffff:ffff:ffff::1", "??"),
        ("6to4: the address inside", "2002:102:340::1", "KR"),
        ("6to4 of an unknown address", "2002:808:808::1", "??"),
        ("Teredo: the server inside", "2001:0:102:3c8::1", "SG"),
    ] {
        assert_eq!(lookup(&geoip, text), expected, "{what}: {text}");
    }
    let table = geoip.status().table.expect("in force");
    assert_eq!(table.database_type, "mc-testkit-Country");
    assert!(table.networks_v4 > 9 && table.networks_v6 > 7, "{table:?}");
}

#[tokio::test]
async fn agrees_with_maxminddb() {
    const NETWORKS: usize = 20_000;
    let fixture = Fixture::new();
    let bytes = mmdb::realistic(NETWORKS, NETWORKS, 7);
    fs::write(fixture.database(), &bytes).expect("writable");
    let geoip = fixture.open();
    geoip.load().await.expect("loads");
    let reader = Reader::from_source(bytes.as_slice()).expect("a database");
    let mut state = 0x1234_5678_9abc_def1;
    let mut known = [0, 0];
    let mut check = |address: IpAddr| {
        let expected = reference(&reader, address);
        assert_eq!(geoip.lookup(address), expected, "{address}");
        known[usize::from(address.is_ipv6())] += usize::from(expected.0 != *b"??");
    };
    let v6 = |prefix: u64| IpAddr::V6(Ipv6Addr::from(u128::from(prefix) << 64));
    for _ in 0..10_000 {
        check(Ipv4Addr::from(random(&mut state) as u32).into());
        let r = random(&mut state);
        check(v6(r));
        let registry = [0x2400u64, 0x2600, 0x2800, 0x2a00, 0x2c00][(r % 5) as usize];
        check(v6(registry << 48 | random(&mut state) >> 12));
    }
    for found in reader
        .networks(Default::default())
        .expect("a tree")
        .step_by(7)
    {
        let network = found.expect("readable").network().expect("valid");
        check(network.ip());
        check(match network.broadcast() {
            IpAddr::V6(last) => v6((u128::from(last) >> 64) as u64),
            last => last,
        });
    }
    assert!(
        known.iter().all(|n| *n > 5_000),
        "looks where networks are: {known:?}"
    );
}

#[tokio::test]
async fn vendors_shapes() {
    let networks = &[
        ("192.0.2.0/24", "DE"),
        ("198.51.100.0/24", "fr"),
        ("203.0.113.0/24", "ZZ"),
    ];
    for field in ["country", "country_code"] {
        let fixture = Fixture::new();
        fs::write(fixture.database(), mmdb::flat(field, networks)).expect("writable");
        let geoip = fixture.open();
        geoip
            .load()
            .await
            .unwrap_or_else(|e| panic!("{field}: {e}"));
        for (text, expected) in [
            ("192.0.2.1", "DE"),
            ("198.51.100.1", "FR"),
            ("203.0.113.1", "??"),
        ] {
            assert_eq!(lookup(&geoip, text), expected, "{field}: {text}");
        }
    }
}

#[tokio::test]
async fn refused_and_the_old_table_stays() {
    const NOT_MMDB: &str = "not an .mmdb file, or it is truncated";
    let fixture = Fixture::new();
    let good = mmdb::small(&[("192.0.2.0/24", "DE")]);
    fixture.replace(&good);
    let geoip = fixture.open();
    geoip.load().await.expect("loads");
    let big = mmdb::small(SMALL);
    let mut bad_pointers = big.clone();
    // Part of the tree: records that point beyond the data.
    bad_pointers[600..1200].fill(0xff);
    for (what, bytes, reason) in [
        ("an empty file", Vec::new(), NOT_MMDB),
        ("text", b"not a database".repeat(1000), NOT_MMDB),
        ("cut in half", big[..big.len() / 2].to_vec(), NOT_MMDB),
        (
            "last bytes missing",
            big[..big.len() - 20].to_vec(),
            NOT_MMDB,
        ),
        (
            "the beginning missing",
            big[big.len() - 300..].to_vec(),
            NOT_MMDB,
        ),
        ("broken pointers", bad_pointers, "corrupt"),
        (
            "an ASN database",
            mmdb::asn(&[("192.0.2.0/24", 64496)]),
            "no country in any",
        ),
        ("no networks", mmdb::empty(), "has no networks"),
    ] {
        fixture.replace(&bytes);
        let error = geoip.reload_if_changed().await.expect_err(what);
        let (debug, error) = (format!("{error:?}"), error.to_string());
        assert!(error.contains(reason), "{what}: {error} {debug}");
        assert!(
            error.contains("country.mmdb"),
            "{what}: names the file: {error}"
        );
        let status = geoip.status();
        assert!(status.error.is_some_and(|e| e.contains(reason)), "{what}");
        assert!(status.table.is_some(), "{what}");
        assert_eq!(lookup(&geoip, "192.0.2.1"), "DE", "{what}");
        assert!(
            !geoip.reload_if_changed().await.expect("not again"),
            "{what}: reported once"
        );
    }
    fs::remove_file(fixture.database()).expect("it is there");
    let error = geoip
        .reload_if_changed()
        .await
        .expect_err("missing")
        .to_string();
    assert!(error.contains("cannot read the GeoIP database"), "{error}");
    assert_eq!(lookup(&geoip, "192.0.2.1"), "DE", "missing");
    fixture.replace(&good);
    assert!(geoip.reload_if_changed().await.expect("loads"));
    assert_eq!(geoip.status().error, None);
}

#[tokio::test]
async fn follows_the_file() {
    let fixture = Fixture::new();
    fixture.replace(&mmdb::small(&[("192.0.2.0/24", "DE")]));
    let geoip = fixture.open();
    assert!(geoip.reload_if_changed().await.expect("loads"));
    assert!(!geoip.reload_if_changed().await.expect("unchanged"));
    fixture.replace(&mmdb::small(&[("192.0.2.0/24", "FR")]));
    assert!(
        geoip.reload_if_changed().await.expect("loads"),
        "renamed over"
    );
    assert_eq!(lookup(&geoip, "192.0.2.1"), "FR");
    fs::write(fixture.database(), mmdb::small(&[("192.0.2.0/23", "GB")])).expect("writable");
    assert!(
        geoip.reload_if_changed().await.expect("loads"),
        "written in place"
    );
    assert_eq!(lookup(&geoip, "192.0.3.1"), "GB");

    let cancel = CancellationToken::new();
    let watcher = tokio::spawn(Arc::clone(&geoip).watch(cancel.clone()));
    fixture.replace(&mmdb::small(&[("192.0.2.0/24", "JP")]));
    let followed = async {
        while lookup(&geoip, "192.0.2.1") != "JP" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), followed)
        .await
        .expect("the watcher sees it");
    cancel.cancel();
    watcher.await.expect("ends when cancelled");
}

#[tokio::test]
async fn the_next_daemon_takes_the_table_over() {
    let fixture = Fixture::new();
    fixture.replace(&mmdb::small(SMALL));
    let first = fixture.open();
    first.load().await.expect("loads");
    let status = Status {
        tried: None,
        ..first.status()
    };
    drop(first);
    fs::write(fixture.database(), b"broken meanwhile").expect("writable");
    let second = fixture.open();
    assert_eq!(second.status(), status, "in force before any load");
    assert_eq!(lookup(&second, "1.2.3.64"), "KR");
    second.load().await.expect_err("broken");
    assert_eq!(lookup(&second, "1.2.3.64"), "KR");
    assert!(second.status().tried.is_some());
    fixture.replace(&mmdb::small(SMALL));
    second.suspend();
    let looked = second.reload_if_changed().await;
    assert!(!looked.expect("nothing is tried"), "another daemon loads");
    second.resume();
    let looked = second.reload_if_changed().await;
    assert!(looked.expect("loads"), "the other one is gone");
    drop(second);
    let mut kernel = Kernel::open(&fixture.pins).expect("the object loads");
    let none = GeoIp::open(&mut kernel, None).expect("opens");
    assert_eq!(lookup(&none, "1.2.3.64"), "??", "no longer configured");
    drop(none);
    assert_eq!(fixture.open().status().table, None);
}

/// The pinned map's rows, for the lookup that the kernel program runs.
struct Rows(Array<MapData, Row>);

struct Copied(Row);

impl std::ops::Deref for Copied {
    type Target = Row;
    fn deref(&self) -> &Row {
        &self.0
    }
}

impl geo::GeoTables for Rows {
    type Row = Copied;
    fn row(&self, index: u32) -> Option<Copied> {
        self.0.get(&index, 0).ok().map(Copied)
    }
}

#[tokio::test]
async fn a_swap_is_never_seen_in_half() {
    const SWAPS: usize = 30;
    let fixture = Fixture::new();
    // In /24 cells, the IPv4 tree and the IPv6 tree, all of one country per generation.
    let generations = ["DE", "FR"].map(|country| {
        let networks = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"];
        mmdb::small(&networks.map(|network| (network, country)))
    });
    fixture.replace(&generations[0]);
    let geoip = fixture.open();
    geoip.load().await.expect("loads");
    let outer = fixture.outer();
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut seen = [0u32; 256];
            while !done.load(Ordering::Relaxed) {
                // As the program: the slot is read once, and what it held stays alive.
                // (Userland gets an id first, whose table may be gone when it is opened: a swap came between.)
                let Ok(table) = outer.get(&0, 0) else {
                    continue;
                };
                let rows = Rows(table);
                let answers = [
                    geo::country4(&rows, u32::from(Ipv4Addr::new(192, 0, 2, 1))),
                    geo::country4(&rows, u32::from(Ipv4Addr::new(198, 51, 100, 7))),
                    geo::country6(&rows, 0x2001_0db8 << 32),
                ];
                assert!(
                    answers.iter().all(|a| *a == answers[0]),
                    "mixed: {answers:?}"
                );
                seen[usize::from(answers[0])] += 1;
            }
            seen
        }
    });
    for i in 1..=SWAPS {
        fixture.replace(&generations[i % 2]);
        assert!(geoip.reload_if_changed().await.expect("loads"));
    }
    done.store(true, Ordering::Relaxed);
    let seen = reader.join().expect("no mixed generation");
    assert_eq!(seen[0], 0, "never without a table");
    assert!(seen.iter().any(|n| *n > 0));
}

#[test]
fn damaged_databases_are_refused_or_read_but_never_panic() {
    let path = Path::new("damaged.mmdb");
    let originals = [
        mmdb::small(SMALL),
        mmdb::flat("country", &[("192.0.2.0/24", "DE")]),
    ];
    let mut state = 42;
    let mut outcomes = [0, 0];
    for round in 0..4_000 {
        let mut bytes = originals[round % 2].clone();
        for _ in 0..=random(&mut state) % 4 {
            let at = random(&mut state) as usize % bytes.len();
            bytes[at] = random(&mut state) as u8;
        }
        outcomes[usize::from(reader::parse(&bytes, path).is_ok())] += 1;
    }
    assert!(outcomes.iter().all(|n| *n > 0), "both happen: {outcomes:?}");
}

/// Every node's children are both the next node: 2^100 leaves in 100 nodes.
fn shared_nodes() -> Vec<u8> {
    const NODES: u32 = 100;
    let mut bytes = Vec::new();
    for node in 1..=NODES {
        let child = &node.to_be_bytes()[1..];
        bytes.extend([child, child].concat());
    }
    let proper = mmdb::empty();
    // Separator, data and metadata of a proper file, with its node count (a 32-bit integer) replaced.
    let tail = &proper[6..];
    let key = b"node_count";
    let at = tail
        .windows(key.len())
        .position(|w| w == key)
        .expect("metadata")
        + key.len();
    bytes.extend(&tail[..at]);
    bytes.extend([0xc1, NODES as u8]);
    bytes.extend(&tail[at + 2..]);
    bytes
}

#[test]
fn a_tree_of_shared_nodes_is_refused() {
    let error = reader::parse(&shared_nodes(), Path::new("shared.mmdb")).expect_err("endless");
    assert!(
        error
            .to_string()
            .contains("shared nodes in its search tree"),
        "{error:?}"
    );
}
