//! What is refused.

use super::*;
use crate::engine::ssh::{
    authority::Algorithm,
    key::KeyType,
    testing::{NOW_S, ada, allowed, ca, key, line, pair, people, stamp, wanted},
};

#[test]
fn what_is_refused_says_which_field() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let key = key(at);
    let rsa = SubjectKey::parse(&line(&pair(at, "rsa", &["rsa", "-b", "3072"]))).unwrap();
    let ca = ca(Algorithm::Ed25519);
    let hardware = Profile {
        key_types: BTreeSet::from([KeyType::SkEd25519, KeyType::SkEcdsa]),
        ..people()
    };
    let user = |key, principals: &[&str]| wanted(Kind::User, key, principals);
    let long = |ttl_s| Wanted {
        ttl_s,
        ..user(&key, &["ada"])
    };
    let many: Vec<_> = (0..65).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (description, profile, wanted, names) in [
        (
            "no principal",
            people(),
            user(&key, &[]),
            "principals: empty",
        ),
        (
            "another's",
            people(),
            user(&key, &["bob"]),
            "principals: the profile does not allow \"bob\"; it allows ",
        ),
        (
            "one of two",
            people(),
            user(&key, &["ada", "bob"]),
            "\"bob\"",
        ),
        (
            "many",
            people(),
            user(&key, &many),
            "principals: at most 64",
        ),
        (
            "a host",
            people(),
            wanted(Kind::Host, &key, &["ada"]),
            "principals: ",
        ),
        (
            "too short",
            people(),
            long(59),
            "ttl_s: 60 to 7200 seconds, or nothing (as the profile says)",
        ),
        ("too long", people(), long(7201), "ttl_s: "),
        ("for ever", people(), long(u64::MAX), "ttl_s: "),
        (
            "not in hardware",
            hardware,
            user(&rsa, &["ada"]),
            "public_key: RSA is not taken",
        ),
    ] {
        let refused = issue(
            &ada(profile.name.as_str()),
            &profile,
            &wanted,
            &ca,
            stamp(1, NOW_S),
        );
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(names), "{description}: {refused}");
    }
    for (description, allowed) in [
        ("another profile", ada("hosts")),
        ("another action", allowed("ada", "ssh:read", "people")),
    ] {
        let wanted = user(&key, &["ada"]);
        let refused = issue(&allowed, &people(), &wanted, &ca, stamp(1, NOW_S));
        assert!(
            matches!(refused, Err(EngineError::Unsound(_))),
            "{description}"
        );
    }
}
