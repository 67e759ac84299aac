//! Hellos that went wrong: never a panic, never another answer than a server that accepts the same bytes.

use mc_proxy::client_hello::{HelloError, Reader};
use proptest::{prelude::*, sample::Index};

use crate::{
    hello::{read, rustls_hello, seen, seen_by_rustls},
    wire::{hellos, message_of, names, records},
};

#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Truncate(Index),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        6 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, b)| Mutation::Insert(at, b)),
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<Index>().prop_map(Mutation::Truncate),
    ];
    prop::collection::vec(one, 1..4)
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        match mutation {
            Mutation::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Mutation::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

/// Feeding stops at the first answer, as it does in the daemon.
fn read_in_segments(bytes: &[u8], step: usize) -> Result<Option<Box<[u8]>>, HelloError> {
    let mut reader = Reader::default();
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        if let Some(hello) = reader.advance(&bytes[..end])? {
            return Ok(Some(format!("{:?}", seen(&hello)).into_bytes().into()));
        }
    }
    Ok(None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes_give_one_answer_however_they_arrive(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (hellos(), prop::collection::vec(any::<Index>(), 0..4), mutations()).prop_map(|(hello, cuts, mutations)| {
                let mut bytes = records(hello.record_version, &hello.message(), &cuts);
                mutate(&mut bytes, &mutations);
                bytes
            }),
        ],
        step in 1..9_usize,
    ) {
        // Which of two flaws is told may depend on how much was seen.
        let all = read_in_segments(&bytes, usize::MAX).map_err(drop);
        prop_assert_eq!(read_in_segments(&bytes, step).map_err(drop), all.clone());
        prop_assert_eq!(read_in_segments(&bytes, 1).map_err(drop), all);
    }

    /// The one that matters for routing: whoever decides by this name and the backend that reads it again agree.
    /// The reader may refuse what rustls accepts and the other way round; the tests below say what.
    #[test]
    fn a_name_is_never_another_than_the_one_rustls_sees(
        name in names(),
        protocols in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..4),
        mutations in mutations(),
        cuts in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let mut message = message_of(&rustls_hello(&name, &protocols));
        mutate(&mut message, &mutations);
        if message.is_empty() {
            return Ok(());
        }
        let bytes = records(1, &message, &cuts);
        if let (Ok(Some(ours)), Ok(Some(theirs))) = (read(&bytes), seen_by_rustls(&bytes)) {
            prop_assert_eq!(seen(&ours), theirs);
        }
    }

    #[test]
    fn what_rustls_accepts_is_refused_only_for_a_reason(
        name in names(),
        mutations in mutations(),
    ) {
        let mut message = message_of(&rustls_hello(&name, &[b"h2".to_vec()]));
        mutate(&mut message, &mutations);
        if message.is_empty() {
            return Ok(());
        }
        let bytes = records(1, &message, &[]);
        if let (Err(refused), Ok(Some(theirs))) = (read(&bytes), seen_by_rustls(&bytes)) {
            prop_assert!(deliberate(refused), "{refused} but rustls sees {theirs:?}");
        }
    }
}

/// Where this reader is stricter than rustls on purpose.
fn deliberate(refused: HelloError) -> bool {
    match refused {
        // rustls passes over an IP address in SNI (RFC 6066 §3 forbids it); it cannot route.
        HelloError::BadName(_) => true,
        // rustls takes the host_name and passes over names of other types behind it. None was ever defined, so here
        // such a list is refused rather than read by two parties in two ways.
        HelloError::Malformed(what) => what == "server name list",
        HelloError::NotTls | HelloError::TooLarge => false,
    }
}
