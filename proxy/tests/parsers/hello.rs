//! Well-formed hellos: hand-made ones against tls-parser, those of rustls's client against rustls's server.

use std::sync::Arc;

use mc_proxy::client_hello::{ClientHello, HelloError, MAX_CLIENT_HELLO, Reader};
use proptest::{prelude::*, sample::Index};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, server::Acceptor};
use tls_parser::{TlsExtension, TlsMessage, TlsMessageHandshake};

use crate::wire::{hellos, message_of, names, records};

/// The name and the protocols, as every implementation here can tell them.
pub(crate) type Seen = (Option<String>, Vec<Vec<u8>>);

pub(crate) fn seen(hello: &ClientHello) -> Seen {
    let protocols = hello.alpn.iter().map(|p| p.to_vec()).collect();
    (
        hello.sni.as_ref().map(|name| name.as_str().to_owned()),
        protocols,
    )
}

/// Everything at once.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    Reader::default().advance(bytes)
}

/// A byte at a time; must not be done before the last byte.
pub(crate) fn read_bytewise(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut reader = Reader::default();
    for end in 0..bytes.len() {
        assert_eq!(
            reader.advance(&bytes[..end])?,
            None,
            "{end} of {} bytes",
            bytes.len()
        );
    }
    reader.advance(bytes)
}

pub(crate) fn seen_by_tls_parser(message: &[u8]) -> Seen {
    let (rest, parsed) = tls_parser::parse_tls_message_handshake(message).unwrap();
    assert!(rest.is_empty());
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = parsed else {
        panic!("{parsed:?}")
    };
    let mut seen = (None, Vec::new());
    let Some(extensions) = hello.ext else {
        return seen;
    };
    let (rest, extensions) = tls_parser::parse_tls_client_hello_extensions(extensions).unwrap();
    assert!(rest.is_empty());
    for extension in extensions {
        match extension {
            TlsExtension::SNI(names) => {
                assert_eq!(names.len(), 1);
                // tls-parser gives the bytes as they are; here names are lower-cased.
                seen.0 = Some(
                    String::from_utf8(names[0].1.to_vec())
                        .unwrap()
                        .to_ascii_lowercase(),
                );
            }
            TlsExtension::ALPN(protocols) => {
                seen.1 = protocols.iter().map(|p| p.to_vec()).collect()
            }
            _ => {}
        }
    }
    seen
}

/// What rustls's server sees: `None` if it wants more, or an error.
pub(crate) fn seen_by_rustls(bytes: &[u8]) -> Result<Option<Seen>, String> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).map_err(|e| e.to_string())?;
        if let Some(accepted) = acceptor.accept().map_err(|(e, _)| e.to_string())? {
            let hello = accepted.client_hello();
            let protocols = hello
                .alpn()
                .into_iter()
                .flatten()
                .map(<[u8]>::to_vec)
                .collect();
            return Ok(Some((
                hello.server_name().map(str::to_ascii_lowercase),
                protocols,
            )));
        }
    }
    Ok(None)
}

/// The first flight of rustls's client: a post-quantum hello in one record.
pub(crate) fn rustls_hello(name: &str, protocols: &[Vec<u8>]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.to_vec();
    let mut client =
        ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn hand_made_hellos_are_read_as_tls_parser_reads_them(
        hello in hellos(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
        behind in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let message = hello.message();
        let bytes = records(hello.record_version, &message, &cuts);
        let got = read_bytewise(&bytes).unwrap().expect("all bytes are there");
        prop_assert_eq!(&seen(&got), &(hello.name.map(|n| n.to_ascii_lowercase()), hello.protocols));
        prop_assert_eq!(&seen(&got), &seen_by_tls_parser(&message));
        prop_assert_eq!(read(&[&bytes[..], &behind].concat()), Ok(Some(got)), "bytes behind it change nothing");
    }

    #[test]
    fn any_segments_give_what_one_segment_gives(
        hello in hellos(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
        segments in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = records(1, &hello.message(), &cuts);
        let mut ends: Vec<usize> = segments.iter().map(|s| s.index(bytes.len())).collect();
        ends.sort_unstable();
        let mut reader = Reader::default();
        for end in ends {
            prop_assert_eq!(reader.advance(&bytes[..end]), Ok(None));
        }
        prop_assert_eq!(reader.advance(&bytes), read(&bytes));
    }

    #[test]
    fn hellos_of_rustls_are_read_as_rustls_reads_them(
        name in names(),
        protocols in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let whole = rustls_hello(&name, &protocols);
        prop_assert!(whole.len() > 1200, "no post-quantum key share in {} bytes", whole.len());
        let bytes = records(1, &message_of(&whole), &cuts);
        let wanted = seen_by_rustls(&bytes).unwrap().expect("rustls reads its own hello");
        prop_assert_eq!(&wanted, &(Some(name.to_ascii_lowercase()), protocols));
        prop_assert_eq!(seen(&read_bytewise(&bytes).unwrap().expect("all bytes are there")), wanted);
    }

    #[test]
    fn a_hello_without_an_end_is_refused_at_the_bound(record in 1..=1000_usize) {
        let filler = [&[22, 3, 1][..], &(record as u16).to_be_bytes(), &vec![0; record]].concat();
        let mut bytes = filler.clone();
        bytes[5..5 + 4.min(record)].copy_from_slice(&[1, 0, 0x3f, 0xf0][..4.min(record)]);
        let mut reader = Reader::default();
        let end = loop {
            match reader.advance(&bytes) {
                Ok(None) => bytes.extend_from_slice(&filler),
                other => break other,
            }
        };
        prop_assert!(end.is_err(), "{end:?}");
        prop_assert!(bytes.len() <= MAX_CLIENT_HELLO + filler.len());
    }
}
