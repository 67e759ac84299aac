//! Description, packet, verdict.

use std::{net::IpAddr, time::SystemTime};

use mc_proxy::{
    firewall::Change,
    spec::{Action, RateLimit, RateLimits, RuleKind},
};

use crate::{Bench, DROP, PASS, TX, packet::*, rule};

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
            "blocked, old QinQ",
            frame(&[0x9200, 0x9100], 0x0800, &v4(bad, 6, 0, 0, &tcp(443, SYN))),
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
        (
            "blocked, PPPoE",
            pppoe(&[], 0x0021, &v4(bad, 6, 0, 0, &tcp(443, SYN))),
            DROP,
        ),
        (
            "stranger, PPPoE",
            pppoe(&[], 0x0021, &v4("198.51.100.1", 6, 0, 0, &tcp(443, SYN))),
            PASS,
        ),
        (
            "blocked, IPv6 in PPPoE in VLAN",
            pppoe(
                &[0x8100],
                0x0057,
                &v6("2001:db8:b::1", 6, 64, &tcp(443, SYN)),
            ),
            DROP,
        ),
        (
            "LCP echo",
            pppoe(&[], 0xc021, &[9, 1, 0, 8, 1, 2, 3, 4]),
            PASS,
        ),
        (
            "a PPP protocol that is an Ethernet type of IP",
            pppoe(&[], 0x0800, &v4(bad, 6, 0, 0, &tcp(443, SYN))),
            PASS,
        ),
        (
            "PPPoE discovery",
            frame(&[], 0x8863, &[0x11, 9, 0, 0, 0, 0]),
            PASS,
        ),
        (
            "PPPoE of another version",
            frame(&[], 0x8864, &[0x21, 0, 0, 9, 0, 4, 0xc0, 0x21]),
            DROP,
        ),
        (
            "PPPoE session with a code",
            frame(&[], 0x8864, &[0x11, 9, 0, 9, 0, 4, 0xc0, 0x21]),
            DROP,
        ),
        (
            "PPP protocol of one byte",
            frame(
                &[],
                0x8864,
                &[
                    &[0x11, 0, 0, 9, 0, 41, 0x21],
                    &v4(bad, 6, 0, 0, &tcp(443, SYN))[..],
                ]
                .concat(),
            ),
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
    let session = pppoe(&[0x88a8], 0x0057, &v6("2001:db8::9", 6, 64, &tcp(443, SYN)));
    for (name, packet) in [
        ("IPv4", tagged),
        ("IPv6", extended(&[0, 60])),
        ("PPPoE", session),
    ] {
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

    for (protocol, header, packet) in [
        (0x0021u16, 20, v4("192.0.2.9", 6, 0, 8, &long)),
        (0x0057, 40, v6("2001:db8:b::1", 6, 64, &long)),
    ] {
        let session = pppoe(&[0x8100], protocol, &packet);
        let (verdict, out) = bench.run(&session);
        assert_eq!((verdict, out.len()), (TX, 26 + header + 20), "PPPoE");
        assert_eq!(out[12..22], session[12..22], "tag and session");
        let length = (2 + header + 20) as u16;
        assert_eq!(out[22..24], length.to_be_bytes(), "its length");
        assert_eq!(out[24..26], protocol.to_be_bytes());
        let (ip, t) = out[26..].split_at(header);
        let addresses = &ip[if header == 20 { 12 } else { 8 }..];
        assert_eq!(
            checksum(&[addresses, &[0, 6, 0, 20], t]),
            0xffff,
            "TCP checksum in PPPoE"
        );
    }

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
