//! The .mmdb reader and the table that is built of what it finds: any file is refused or answers for every address.
//! Memory is libFuzzer's to watch (`-malloc_limit_mb`).
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mc_edge_common::geo::{Header, SEARCH, country4, country6};
use mc_proxy_fuzz::geoip::reader::{MAX_NETWORKS, parse};

/// Of a table 16 MiB are written, whatever is in it: that of every 16th file, or little else would be done.
const BUILT: usize = 16;

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&framed(data));
});

fn check(bytes: &[u8]) {
    let Ok(database) = parse(bytes, Path::new("fuzz.mmdb")) else {
        return;
    };
    assert!(database.networks.len() <= MAX_NETWORKS);
    if bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % BUILT != 0 {
        return;
    }
    let Ok(table) = database.networks.build(Header::default()) else {
        return;
    };
    for word in bytes.windows(8).step_by(7) {
        let address = u64::from_be_bytes(word.try_into().expect("8 bytes"));
        assert_ne!(country4(&&table, address as u32), SEARCH);
        assert_ne!(country6(&&table, address), SEARCH);
    }
}

/// As a search tree and data, with the metadata that they need. A byte of the tree is a record: mostly the next node, nothing, or
/// one of the data; the data begin with a country.
fn framed(data: &[u8]) -> Vec<u8> {
    let [form, nodes, rest @ ..] = data else {
        return Vec::new();
    };
    let nodes = usize::from(*nodes) + 1;
    let (records, rest) = rest.split_at(rest.len().min(2 * nodes));
    let data = [&b"\xe1\x47country\xe1\x48iso_code\x42DE"[..], rest].concat();
    let mut next = 0;
    let mut record = |byte: u8| match byte {
        0..100 if next + 1 < nodes => {
            next += 1;
            next
        }
        0..150 => nodes,
        150..200 => nodes + 16,
        200..250 => nodes + 16 + usize::from(byte - 200) * data.len() / 50,
        _ => usize::from(byte) % nodes,
    };
    let bits = [24, 28, 32, 24][usize::from(form & 3)];
    let mut file = Vec::new();
    for node in 0..nodes {
        let mut child = |side| record(records.get(2 * node + side).copied().unwrap_or(100)) as u32;
        let (left, right) = (child(0).to_be_bytes(), child(1).to_be_bytes());
        match bits {
            24 => file.extend([&left[1..], &right[1..]].concat()),
            // The middle byte holds the high bits of both, which are zero here.
            28 => file.extend([&left[1..], &[0], &right[1..]].concat()),
            _ => file.extend([left, right].concat()),
        }
    }
    file.extend([0; 16]);
    file.extend(data);
    let version = if form & 4 == 0 { 6 } else { 4 };
    file.extend(b"\xab\xcd\xefMaxMind.com\xe9");
    file.extend(b"\x5bbinary_format_major_version\xa1\x02");
    file.extend(b"\x5bbinary_format_minor_version\xa0");
    file.extend(b"\x4bbuild_epoch\x01\x02\x01");
    file.extend(b"\x4ddatabase_type\x41x");
    file.extend(b"\x4bdescription\xe0");
    file.extend(b"\x4aip_version\xa1");
    file.push(version);
    file.extend(b"\x49languages\x00\x04");
    file.extend(b"\x4anode_count\xc2");
    file.extend((nodes as u16).to_be_bytes());
    file.extend(b"\x4brecord_size\xa1");
    file.push(bits);
    file
}
