//! The XDP program's verdicts, through BPF_PROG_TEST_RUN: description, packet, verdict.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use aya::programs::{TestRun as _, TestRunOptions};
use mc_proxy::{
    firewall::{Change, Firewall},
    kernel::{self, Kernel},
    spec::{Action, RateLimit, RateLimits, Rule, RuleKind},
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// A firewall of its own, in a pin directory of its own.
struct Bench {
    kernel: Kernel,
    firewall: Firewall,
    pins: PathBuf,
}

impl Bench {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let pins = PathBuf::from(format!("/sys/fs/bpf/mc-test-{}-{n}", std::process::id()));
        let mut kernel = Kernel::open(&pins).unwrap();
        let firewall = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
        firewall.set_guarded(&[443], &[]).unwrap();
        Self {
            kernel,
            firewall,
            pins,
        }
    }

    fn run(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; 4096];
        let result = self
            .kernel
            .firewall()
            .unwrap()
            .test_run(TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    fn verdict(&mut self, packet: &[u8]) -> u32 {
        self.run(packet).0
    }

    fn set(&self, rules: &[Rule]) {
        let changes: Vec<_> = rules.iter().cloned().map(Change::Set).collect();
        self.firewall.apply(&changes).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = kernel::detach(&self.pins);
        let _ = fs::remove_dir(&self.pins);
    }
}

fn rule(id: u32, kind: RuleKind, cidr: &str, action: Action) -> Rule {
    Rule {
        id,
        kind,
        cidr: cidr.parse().unwrap(),
        action,
        expires: (kind == RuleKind::Ban).then(|| SystemTime::now() + Duration::from_secs(600)),
        comment: String::new(),
        created: SystemTime::now(),
    }
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let mut t = vec![0; 20];
    t[..2].copy_from_slice(&40_000u16.to_be_bytes());
    t[2..4].copy_from_slice(&port.to_be_bytes());
    t[4..8].copy_from_slice(&1000u32.to_be_bytes());
    t[8..12].copy_from_slice(&2000u32.to_be_bytes());
    t[12] = 5 << 4;
    t[13] = flags;
    t
}

fn udp(port: u16) -> Vec<u8> {
    let mut u = vec![0; 8];
    u[2..4].copy_from_slice(&port.to_be_bytes());
    u[5] = 8;
    u
}

fn frame(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        f.extend(tag.to_be_bytes());
        f.extend([0, 7]);
    }
    f.extend(ether_type.to_be_bytes());
    f.extend(payload);
    f
}

/// IPv4; `fragment` is the flags-and-offset field.
fn v4(source: &str, protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0; 20 + options];
    ip[0] = 0x40 | ((20 + options) / 4) as u8;
    ip[2..4].copy_from_slice(&((20 + options + payload.len()) as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    ip[8] = 64;
    ip[9] = protocol;
    let source: std::net::Ipv4Addr = source.parse().unwrap();
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&[10, 0, 0, 1]);
    ip.extend(payload);
    ip
}

fn v6(source: &str, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0; 40];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    ip[6] = next;
    ip[7] = hop_limit;
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(
        &"2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    ip.extend(payload);
    ip
}

fn syn4(source: &str, port: u16) -> Vec<u8> {
    frame(&[], 0x0800, &v4(source, 6, 0, 0, &tcp(port, SYN)))
}

fn ack4(source: &str) -> Vec<u8> {
    frame(&[], 0x0800, &v4(source, 6, 0, 0, &tcp(443, ACK)))
}

fn syn6(source: &str) -> Vec<u8> {
    frame(&[], 0x86dd, &v6(source, 6, 64, &tcp(443, SYN)))
}

/// Extension headers of 8 bytes each, then TCP.
fn extended(kinds: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, _) in kinds.iter().enumerate() {
        payload.extend([kinds.get(i + 1).copied().unwrap_or(6), 0, 0, 0, 0, 0, 0, 0]);
    }
    payload.extend(tcp(443, SYN));
    frame(
        &[],
        0x86dd,
        &v6(
            "2001:db8:b::1",
            kinds.first().copied().unwrap_or(6),
            64,
            &payload,
        ),
    )
}

#[test]
fn every_program_passes_the_verifier() {
    let mut bench = Bench::new();
    bench.kernel.check().unwrap();
}

#[test]
fn parsing() {
    let mut bench = Bench::new();
    bench.set(&[
        rule(16, RuleKind::Block, "192.0.2.0/24", Action::Drop),
        rule(17, RuleKind::Block, "2001:db8:b::/48", Action::Drop),
    ]);
    let bad = "192.0.2.9";
    let mut padded = frame(&[], 0x0800, &v4(bad, 6, 0x2000, 0, &tcp(443, ACK)[..8]));
    padded.extend([0x50; 26]); // padding that would read as TCP flags
    let rows: Vec<(&str, Vec<u8>, u32)> = vec![
        ("ARP", frame(&[], 0x0806, &[0; 28]), PASS),
        ("SYN of a stranger", syn4("198.51.100.1", 443), PASS),
        ("blocked SYN", syn4(bad, 443), DROP),
        ("blocked SYN, unguarded port", syn4(bad, 22), DROP),
        ("established flow of a blocked source", ack4(bad), PASS),
        (
            "SYN-ACK is not a new connection",
            frame(&[], 0x0800, &v4(bad, 6, 0, 0, &tcp(443, SYN | ACK))),
            PASS,
        ),
        (
            "blocked UDP",
            frame(&[], 0x0800, &v4(bad, 17, 0, 0, &udp(53))),
            DROP,
        ),
        (
            "blocked ICMP",
            frame(&[], 0x0800, &v4(bad, 1, 0, 0, &[8; 8])),
            DROP,
        ),
        (
            "blocked, VLAN",
            frame(&[0x8100], 0x0800, &v4(bad, 6, 0, 0, &tcp(443, SYN))),
            DROP,
        ),
        (
            "blocked, QinQ",
            frame(&[0x88a8, 0x8100], 0x0800, &v4(bad, 6, 0, 0, &tcp(443, SYN))),
            DROP,
        ),
        (
            "stranger, 4 tags",
            frame(
                &[0x8100; 4],
                0x0800,
                &v4("198.51.100.1", 6, 0, 0, &tcp(443, SYN)),
            ),
            PASS,
        ),
        (
            "5 tags are too many",
            frame(
                &[0x8100; 5],
                0x0800,
                &v4("198.51.100.1", 6, 0, 0, &tcp(443, SYN)),
            ),
            DROP,
        ),
        (
            "blocked, IP options",
            frame(&[], 0x0800, &v4(bad, 6, 0, 40, &tcp(443, SYN))),
            DROP,
        ),
        (
            "stranger, IP options",
            frame(&[], 0x0800, &v4("198.51.100.1", 6, 0, 40, &tcp(443, SYN))),
            PASS,
        ),
        (
            "later fragment of a blocked source",
            frame(&[], 0x0800, &v4(bad, 6, 100, 0, &[0; 64])),
            DROP,
        ),
        (
            "later fragment of a stranger",
            frame(&[], 0x0800, &v4("198.51.100.1", 6, 100, 0, &[0; 64])),
            PASS,
        ),
        (
            "fragment over the TCP flags",
            frame(&[], 0x0800, &v4("198.51.100.1", 6, 1, 0, &[0; 64])),
            DROP,
        ),
        ("first fragment without flags, padded", padded, DROP),
        ("blocked IPv6 SYN", syn6("2001:db8:b::1"), DROP),
        ("IPv6 stranger", syn6("2001:db8:c::1"), PASS),
        ("blocked, extension headers", extended(&[0, 60, 43]), DROP),
        ("too many extension headers", extended(&[60; 8]), DROP),
        ("unknown extension header", extended(&[135]), DROP),
        (
            "neighbour solicitation of a blocked source",
            frame(&[], 0x86dd, &v6("2001:db8:b::1", 58, 255, &[135; 24])),
            PASS,
        ),
        (
            "the same from afar",
            frame(&[], 0x86dd, &v6("2001:db8:b::1", 58, 64, &[135; 24])),
            DROP,
        ),
        ("IPv4-mapped blocked source", syn6("::ffff:192.0.2.9"), DROP),
        ("NAT64 blocked source", syn6("64:ff9b::192.0.2.9"), DROP),
    ];
    for (description, packet, verdict) in rows {
        assert_eq!(bench.verdict(&packet), verdict, "{description}");
    }
}

#[test]
fn cut_anywhere_in_its_headers_a_packet_is_dropped() {
    let mut bench = Bench::new();
    let tagged = frame(
        &[0x8100],
        0x0800,
        &v4("198.51.100.1", 6, 0, 4, &tcp(443, SYN)),
    );
    for (name, packet) in [("IPv4", tagged), ("IPv6", extended(&[0, 60]))] {
        for length in 14..packet.len() {
            assert_eq!(
                bench.verdict(&packet[..length]),
                DROP,
                "{name} cut to {length}"
            );
        }
        assert_eq!(bench.verdict(&packet), PASS, "{name} whole");
    }
}

#[test]
fn order_of_rules() {
    let mut bench = Bench::new();
    bench.set(&[
        rule(16, RuleKind::Allow, "192.0.2.0/24", Action::Drop),
        rule(17, RuleKind::Block, "192.0.2.1/32", Action::Drop),
        rule(18, RuleKind::Ban, "192.0.2.2/32", Action::Drop),
        rule(19, RuleKind::Ban, "203.0.113.2/32", Action::Drop),
        rule(20, RuleKind::Block, "203.0.113.3/32", Action::Observe),
    ]);
    for (description, packet, verdict) in [
        ("allow over block", syn4("192.0.2.1", 443), PASS),
        ("allow over ban", ack4("192.0.2.2"), PASS),
        ("ban cuts an established flow", ack4("203.0.113.2"), DROP),
        ("observe passes", syn4("203.0.113.3", 443), PASS),
    ] {
        assert_eq!(bench.verdict(&packet), verdict, "{description}");
    }
    bench.firewall.set_countries([1; 256]).unwrap();
    assert_eq!(
        bench.verdict(&syn4("192.0.2.200", 443)),
        PASS,
        "allow over country"
    );
    assert_eq!(bench.verdict(&syn4("203.0.113.9", 443)), DROP, "country");
    assert_eq!(
        bench.verdict(&syn4("203.0.113.9", 22)),
        PASS,
        "country, unguarded port"
    );
    assert_eq!(
        bench.verdict(&ack4("203.0.113.9")),
        PASS,
        "country, established"
    );
    let samples = bench.firewall.samples().unwrap();
    assert_eq!(samples[0].address, "203.0.113.3".parse::<IpAddr>().unwrap());
    let trace = bench
        .firewall
        .explain("192.0.2.1".parse().unwrap(), 443)
        .unwrap();
    assert_eq!(trace.decision.rule, 16, "{trace:?}");
    let twin = bench.firewall.admit("203.0.113.9".parse().unwrap(), 443);
    assert_eq!(twin.decision.rule, mc_edge_common::firewall::rule::COUNTRY);
    bench.firewall.apply(&[Change::Remove(19)]).unwrap();
    assert_eq!(bench.verdict(&ack4("203.0.113.2")), PASS, "the ban is gone");
}

#[test]
fn a_ban_ends_by_itself() {
    let mut bench = Bench::new();
    let mut ban = rule(16, RuleKind::Ban, "203.0.113.2/32", Action::Drop);
    ban.expires = Some(SystemTime::now());
    bench.set(&[ban]);
    assert_eq!(bench.verdict(&ack4("203.0.113.2")), PASS);
}

#[test]
fn rates() {
    let mut bench = Bench::new();
    let limit = RateLimit {
        per_second: 0.001,
        burst: 3,
        action: Action::Drop,
    };
    bench
        .firewall
        .set_rates(&RateLimits {
            connections: Some(limit),
            packets: None,
        })
        .unwrap();
    let verdicts: Vec<_> = (0..5)
        .map(|_| bench.verdict(&syn4("203.0.113.2", 443)))
        .collect();
    assert_eq!(verdicts, [PASS, PASS, PASS, DROP, DROP]);
    assert_eq!(
        bench.verdict(&syn4("203.0.113.3", 443)),
        PASS,
        "another source"
    );
    assert_eq!(
        bench.verdict(&ack4("203.0.113.2")),
        PASS,
        "an established flow"
    );
    let address = "203.0.113.2".parse().unwrap();
    let twin: Vec<_> = (0..4)
        .map(|_| bench.firewall.admit(address, 443).decision.rule)
        .collect();
    assert_eq!(twin, [0, 0, 0, 3], "the twin's own buckets");
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        sum += part
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum::<u32>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn resets_are_correct() {
    let mut bench = Bench::new();
    bench.set(&[
        rule(16, RuleKind::Block, "192.0.2.0/24", Action::Reset),
        rule(17, RuleKind::Block, "2001:db8:b::/64", Action::Reset),
        rule(18, RuleKind::Ban, "192.0.2.7/32", Action::Reset),
    ]);
    let mut long = tcp(443, SYN);
    long.extend([0; 10]); // data in the SYN counts
    let tagged = frame(&[0x8100], 0x0800, &v4("192.0.2.9", 6, 0, 8, &long));
    let (verdict, out) = bench.run(&tagged);
    assert_eq!((verdict, out.len()), (TX, 18 + 40));
    assert_eq!(
        out[..12],
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
        "MAC addresses"
    );
    assert_eq!(out[12..18], tagged[12..18], "the tag");
    assert_eq!(out[30..38], [10, 0, 0, 1, 192, 0, 2, 9], "addresses");
    assert_eq!(checksum(&[&out[18..38]]), 0xffff, "IPv4 checksum");
    let t = &out[38..];
    assert_eq!(
        t[..4],
        [443u16.to_be_bytes(), 40_000u16.to_be_bytes()].concat()
    );
    assert_eq!(
        t[4..12],
        [0, 0, 0, 0, 0, 0, 3, 243],
        "SEQ 0, ACK 1000 + 1 + 10"
    );
    assert_eq!(t[13], RST | ACK);
    assert_eq!(
        checksum(&[&out[30..38], &[0, 6, 0, 20], t]),
        0xffff,
        "TCP checksum"
    );

    let (verdict, out) = bench.run(&syn6("2001:db8:b::1"));
    assert_eq!((verdict, out.len()), (TX, 14 + 60));
    assert_eq!(
        checksum(&[&out[22..54], &[0, 6, 0, 20], &out[54..]]),
        0xffff,
        "TCP checksum, IPv6"
    );

    let (verdict, out) = bench.run(&ack4("192.0.2.7"));
    assert_eq!(verdict, TX, "a ban resets an established flow");
    assert_eq!(
        (&out[38..42], out[47]),
        (&2000u32.to_be_bytes()[..], RST),
        "SEQ = SEG.ACK, no ACK"
    );
    let answer = frame(&[], 0x0800, &v4("192.0.2.7", 6, 0, 0, &tcp(443, RST)));
    assert_eq!(bench.verdict(&answer), DROP, "an RST is not answered");
    let udp = frame(&[], 0x0800, &v4("192.0.2.9", 17, 0, 0, &udp(53)));
    assert_eq!(bench.verdict(&udp), DROP, "UDP cannot be reset");
}

#[test]
fn ten_thousand_prefixes_and_overlaps() {
    let mut bench = Bench::new();
    let cidr = |i: u32| {
        format!(
            "{}/28",
            std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096)
        )
    };
    let mut rules: Vec<_> = (0..10_000)
        .map(|i| rule(16 + i, RuleKind::Block, &cidr(i), Action::Drop))
        .collect();
    bench.set(&rules);
    for i in (0..10_000u32).step_by(997) {
        let inside = std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096 + 3).to_string();
        let outside = std::net::Ipv4Addr::from_bits(0x2000_0000 + i * 4096 + 16).to_string();
        assert_eq!(bench.verdict(&syn4(&inside, 443)), DROP, "{inside}");
        assert_eq!(bench.verdict(&syn4(&outside, 443)), PASS, "{outside}");
    }
    let wide = rule(20_000, RuleKind::Block, "32.0.0.0/8", Action::Drop);
    bench.set(std::slice::from_ref(&wide));
    assert_eq!(bench.verdict(&syn4("32.255.1.1", 443)), DROP, "by the /8");
    bench.firewall.apply(&[Change::Remove(20_000)]).unwrap();
    assert_eq!(
        bench.verdict(&syn4("32.255.1.1", 443)),
        PASS,
        "the /8 is gone"
    );
    assert_eq!(
        bench.verdict(&syn4("32.0.0.3", 443)),
        DROP,
        "the /28 within it is not"
    );
    assert!(bench.firewall.reconcile(&rules, false).unwrap().is_empty());
    let lost = rules.pop().unwrap();
    let found = bench.firewall.reconcile(&rules, true).unwrap();
    assert!(found.iter().any(|d| d.map == "BLOCK4"), "{found:?}");
    assert!(
        bench.firewall.reconcile(&rules, false).unwrap().is_empty(),
        "repaired"
    );
    let first = lost.cidr.network().to_string();
    assert_eq!(bench.verdict(&syn4(&first, 443)), PASS);
}

#[test]
fn a_rule_that_no_map_can_hold_is_told_and_keeps_no_other_out() {
    let mut bench = Bench::new();
    let rules = [
        rule(16, RuleKind::Block, "::ffff:192.0.2.0/120", Action::Drop),
        rule(17, RuleKind::Block, "198.51.100.0/24", Action::Drop),
    ];
    let found = bench.firewall.reconcile(&rules, true).unwrap();
    assert!(found.iter().any(|d| d.key.contains("rule 16")), "{found:?}");
    assert_eq!(bench.verdict(&syn4("198.51.100.1", 443)), DROP);
    let found = bench.firewall.reconcile(&rules, false).unwrap();
    assert_eq!(found.len(), 1, "only the bad rule remains: {found:?}");
}

#[test]
fn policies_are_compared_and_repaired() {
    let mut bench = Bench::new();
    bench.firewall.set_countries([0; 256]).unwrap();
    // Another writer to the same maps.
    let mut kernel = Kernel::open(&bench.pins).unwrap();
    let other = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
    other.set_countries([1; 256]).unwrap();
    other.set_config(0, 7).unwrap();
    other.set_guarded(&[444], &[]).unwrap();
    let found = bench.firewall.reconcile(&[], false).unwrap();
    for map in ["COUNTRY_POLICY", "CONFIG", "GUARDED"] {
        assert!(found.iter().any(|d| d.map == map), "{map}: {found:?}");
        assert!(!bench.firewall.dump(Some(map)).unwrap().is_empty(), "{map}");
    }
    assert_eq!(bench.verdict(&syn4("203.0.113.9", 444)), DROP);
    bench.firewall.reconcile(&[], true).unwrap();
    assert_eq!(bench.verdict(&syn4("203.0.113.9", 444)), PASS);
    assert_eq!(bench.firewall.reconcile(&[], false).unwrap(), []);
}

#[test]
fn a_ban_that_ends_at_another_time_is_a_difference() {
    let bench = Bench::new();
    let end = SystemTime::now() + Duration::from_secs(600);
    let ban = |cidr: &str, end| Rule {
        expires: Some(end),
        ..rule(16, RuleKind::Ban, cidr, Action::Drop)
    };
    for cidr in ["203.0.113.2/32", "2001:db8:b::/64"] {
        bench.firewall.reconcile(&[ban(cidr, end)], true).unwrap();
        for (description, shift, differences) in [
            ("the same", 0, 0),
            ("rounded", 1, 0),
            ("another end", 100, 1),
        ] {
            let moved = ban(cidr, end + Duration::from_secs(shift));
            let found = bench.firewall.reconcile(&[moved], false).unwrap();
            assert_eq!(found.len(), differences, "{cidr} {description}: {found:?}");
        }
    }
}

#[test]
fn a_port_behind_a_proxy_is_judged_by_the_header_only() {
    let mut bench = Bench::new();
    bench.firewall.set_guarded(&[443], &[8443]).unwrap();
    bench.firewall.set_countries([1; 256]).unwrap();
    let client = "203.0.113.9";
    for (port, in_kernel) in [(443, DROP), (8443, PASS)] {
        assert_eq!(bench.verdict(&syn4(client, port)), in_kernel, "{port}");
        let twin = bench.firewall.admit(client.parse().unwrap(), port);
        assert_eq!(
            twin.decision.rule,
            mc_edge_common::firewall::rule::COUNTRY,
            "{port}"
        );
    }
}
