use super::*;
use std::{net::Ipv4Addr, time::SystemTime};

#[test]
fn what_is_said_first_counts() {
    let about = About::default();
    assert_eq!(about.said(), None);
    let long = "ü".repeat(About::MAX + 1);
    for (description, said, kept) in [
        ("nothing", "", None),
        ("much", &*long, Some(&long[..About::MAX * 'ü'.len_utf8()])),
        ("more", "more", Some(&long[..About::MAX * 'ü'.len_utf8()])),
    ] {
        about.clone().say(said);
        assert_eq!(about.said(), kept, "{description}");
    }
}

/// A person.
pub(in crate::server) fn identity() -> Identity {
    Identity {
        account: "id".to_owned(),
        name: "somebody".to_owned(),
        account_type: AccountType::Human,
        roles: Vec::new(),
        tags: Vec::new(),
        token: "token".to_owned(),
        session: "login".to_owned(),
        methods: Vec::new(),
        issued: SystemTime::UNIX_EPOCH,
        expires: SystemTime::UNIX_EPOCH,
    }
}

/// One who calls that, known or not.
pub(in crate::server) fn caller(method: &'static str, known: bool) -> Caller {
    let source = Ipv4Addr::LOCALHOST.into();
    Caller::elsewhere(known.then(identity), source, method)
}
