//! Where a name leads to.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
};

use tokio::net::UdpSocket;

use super::*;

/// A resolver by which all names have these addresses.
async fn resolver(all: Vec<IpAddr>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let asked = &buffer[..length];
            let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let six = asked[end - 3] == 28;
            let ours = all.iter().filter(|address| address.is_ipv6() == six);
            let data: Vec<Vec<u8>> = ours
                .map(|address| match address {
                    IpAddr::V4(four) => four.octets().to_vec(),
                    IpAddr::V6(six) => six.octets().to_vec(),
                })
                .collect();
            let mut answer = asked[..end].to_vec();
            (answer[2], answer[3]) = (0x81, 0x80);
            answer[7] = u8::try_from(data.len()).unwrap();
            answer[10..12].copy_from_slice(&[0, 0]);
            for one in data {
                answer.extend([0xc0, 12, 0, asked[end - 3], 0, 1, 0, 0, 0, 1, 0]);
                answer.push(u8::try_from(one.len()).unwrap());
                answer.extend(one);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    at
}

#[tokio::test]
async fn only_addresses_that_are_allowed_are_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = "127.0.0.0/8";
    for (description, addresses, networks, connects) in [
        ("loopback", &["127.0.0.1"][..], &[][..], false),
        ("of both kinds", &["127.0.0.1", "::1"], &[], false),
        (
            "private ones",
            &["10.0.0.1", "192.168.0.1", "fd00::1"],
            &[],
            false,
        ),
        ("mapped", &["::ffff:127.0.0.1"], &[], false),
        ("mapped, and allowed", &["::ffff:127.0.0.1"], &[here], true),
        (
            "by NAT64",
            &["64:ff9b::127.0.0.1"],
            &["64:ff9b::/96"],
            false,
        ),
        ("allowed", &["127.0.0.1"], &[here], true),
        (
            "the last one is allowed",
            &["10.0.0.1", "169.254.169.254", "::1", "127.0.0.1"],
            &[here],
            true,
        ),
        (
            "others are allowed",
            &["127.0.0.1", "::1"],
            &["10.0.0.0/8"],
            false,
        ),
    ] {
        let all = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let around = Around {
            names: Names::parse(&["a.example".to_owned()]).unwrap(),
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            resolver: Resolver::new(vec![resolver(all).await]),
        };
        let name = "a.example".parse().unwrap();
        match around.connect(&name, port).await {
            Ok(_) => assert!(connects, "{description}"),
            Err(Miss::Ever(problem)) => {
                assert!(!connects, "{description}: {problem:?}");
                assert_eq!(problem.kind, Type::Connection, "{description}");
            }
            Err(Miss::Now(problem)) => panic!("{description}: {problem:?}"),
        }
        // One that was made may come a moment after it was.
        listener.set_nonblocking(!connects).unwrap();
        match listener.accept() {
            Ok(_) => assert!(connects, "{description}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        // Nobody asked for that one.
        let other = "b.example".parse().unwrap();
        assert!(around.connect(&other, port).await.is_err(), "{description}");
    }
    let around = Around {
        names: Names::parse(&["127.0.0.1".to_owned()]).unwrap(),
        networks: Vec::new(),
        resolver: Resolver::new(Vec::new()),
    };
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let got = around.connect(&AltName::Ip(address), port).await;
        assert!(matches!(got, Err(Miss::Ever(_))), "{address}");
    }
}
