//! Builds hellos by hand, so that nothing but the test says what is in them.

use proptest::{prelude::*, sample::Index};

/// `encrypted_client_hello` (RFC 9849 §5).
const ECH: u16 = 0xfe0d;

/// What a hand-made ClientHello says.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) record_version: u8,
    pub(crate) session_id: Vec<u8>,
    pub(crate) suites: usize,
    pub(crate) name: Option<String>,
    pub(crate) protocols: Vec<Vec<u8>>,
    /// Types that no library knows, and ECH: never server_name nor ALPN.
    pub(crate) others: Vec<(u16, Vec<u8>)>,
    /// Where among the others server_name and ALPN stand.
    pub(crate) place: Index,
}

impl Hello {
    /// The handshake message, header included.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut extensions: Vec<Vec<u8>> = self
            .others
            .iter()
            .map(|(kind, body)| extension(*kind, body))
            .collect();
        let mut insert = |bytes| extensions.insert(self.place.index(extensions.len() + 1), bytes);
        if let Some(name) = &self.name {
            insert(extension(
                0,
                &vector16(&[&[0][..], &vector16(name.as_bytes())].concat()),
            ));
        }
        if !self.protocols.is_empty() {
            let list: Vec<u8> = self
                .protocols
                .iter()
                .flat_map(|p| [&[p.len() as u8][..], p].concat())
                .collect();
            insert(extension(16, &vector16(&list)));
        }
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[self.session_id.len() as u8],
            &self.session_id,
            &vector16(&[0x13, 1].repeat(self.suites)),
            &[1, 0],
            &vector16(&extensions.concat()),
        ]
        .concat();
        [&[1, 0][..], &vector16(&body)].concat()
    }
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [
        &u16::try_from(content.len()).unwrap().to_be_bytes()[..],
        content,
    ]
    .concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(body)].concat()
}

/// A message in records that end at these places.
pub(crate) fn records(version: u8, message: &[u8], cuts: &[Index]) -> Vec<u8> {
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(message.len()))
        .filter(|end| *end > 0)
        .collect();
    ends.push(message.len());
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    ends.iter()
        .flat_map(|end| {
            let fragment = &message[start..*end];
            start = *end;
            [&[22, 3, version][..], &vector16(fragment)].concat()
        })
        .collect()
}

/// The handshake bytes of whole records.
pub(crate) fn message_of(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let (fragment, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(fragment);
        bytes = rest;
    }
    message
}

/// Names that both a server and this proxy take.
pub(crate) fn names() -> impl Strategy<Value = String> {
    "([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9_])?\\.){0,6}[a-zA-Z][a-zA-Z0-9-]{0,20}[a-zA-Z0-9]"
}

/// Well-formed hellos of up to some 5 KiB.
pub(crate) fn hellos() -> impl Strategy<Value = Hello> {
    let unknown = prop_oneof![9 => 0x4000..0x7000_u16, 1 => Just(ECH)];
    let body = prop::collection::vec(any::<u8>(), 0..400);
    (
        1..=4_u8,
        prop::collection::vec(any::<u8>(), 0..=32),
        1..60_usize,
        prop::option::weighted(0.9, names()),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5),
        prop::collection::btree_map(unknown, body, 0..12),
        any::<Index>(),
    )
        .prop_map(
            |(record_version, session_id, suites, name, protocols, others, place)| Hello {
                record_version,
                session_id,
                suites,
                name,
                protocols,
                others: others.into_iter().collect(),
                place,
            },
        )
}
