//! Whatever is asked for: what is issued is within the profile, as another implementation reads it, and what is not says why.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use proptest::prelude::*;
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{BasicConstraints, SubjectAltName},
};

use super::{
    tests::{allowed, below, names, now, root, verified},
    *,
};
use crate::engine::pki::{
    constraints::Constraints, issuer::Issuer, name::AltName, profile::Profile,
};

const NAMES: [&str; 12] = [
    "a.example",
    "b.a.example",
    "*.a.example",
    "c.b.a.example",
    "*.b.a.example",
    "example",
    "xa.example",
    "10.0.0.1",
    "10.1.0.1",
    "2001:db8::1",
    "spiffe://a/b",
    "spiffe://a/b/c",
];

fn some<T: std::str::FromStr + Ord + Clone + std::fmt::Debug>(
    all: &'static [&'static str],
) -> impl Strategy<Value = BTreeSet<T>>
where
    T::Err: std::fmt::Debug,
{
    let chosen = proptest::sample::subsequence(all, 0..=all.len());
    chosen.prop_map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect())
}

prop_compose! {
    fn profiles()(
        dns_names in some(&["a.example", "example", "b.a.example"]),
        dns_suffixes in some(&["a.example", "b.a.example"]),
        ip_networks in some(&["10.0.0.0/16", "2001:db8::/32"]),
        uris in some(&["spiffe://a/b"]),
        uri_prefixes in some(&["spiffe://a/b"]),
        wildcards: bool,
        server: bool,
        client: bool,
        common_name: bool,
        max_ttl_s in 100u64..200,
        ttl_s in 60u64..120,
    ) -> Profile {
        Profile {
            issuer: "services".to_owned(),
            dns_names, dns_suffixes, wildcards, ip_networks, uris, uri_prefixes, server, client,
            key_algorithms: BTreeSet::from([KeyAlgorithm::Ed25519]),
            common_name, ttl_s, max_ttl_s, acme: None,
        }
    }
}

fn issuers() -> [(Constraints, Issuer); 2] {
    let root = root(KeyAlgorithm::Ed25519, 3650);
    let limited = Constraints {
        permitted_dns: vec!["a.example".parse().unwrap()],
        excluded_dns: vec!["b.a.example".parse().unwrap()],
        permitted_ips: vec!["10.0.0.0/8".parse().unwrap()],
        excluded_ips: vec!["10.1.0.0/16".parse().unwrap()],
    };
    let free = Constraints::default();
    let [of_free, of_limited] =
        [&free, &limited].map(|all| below(&root, KeyAlgorithm::Ed25519, all));
    [(free, of_free), (limited, of_limited)]
}

#[test]
fn what_is_issued_is_within_profile_and_issuer() {
    let issuers = issuers();
    let key = new_key(KeyAlgorithm::Ed25519).unwrap().1;
    let allowed = allowed("pki:issue", "profiles", "web");
    let asked = proptest::sample::subsequence(&NAMES, 1..=2);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2048)
    };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let all = (
        profiles(),
        asked,
        0usize..2,
        proptest::option::of(50u64..220),
    );
    let counted = std::cell::Cell::new(0);
    let run = |(profile, asked, which, ttl): (Profile, Vec<&str>, usize, Option<u64>)| {
        let (constraints, under) = &issuers[which];
        if profile.check().is_err() {
            return Ok(());
        }
        let asked = names(&asked);
        let request = Request {
            subject: Subject::Leaf {
                profile: ("web", &profile),
                names: &asked,
                key: &key,
                ttl: ttl.map(Duration::from_secs),
                under,
            },
            urls: None,
            now: now(),
        };
        let good = asked
            .iter()
            .all(|name| profile.allows(name) && constraints.allow(name).is_ok())
            && ttl.is_none_or(|ttl| (60..=profile.max_ttl_s).contains(&ttl));
        let made = match issue(&allowed, &request) {
            Err(refused) => {
                let by_field = matches!(refused, Refusal::Request("names" | "ttl_s", _));
                prop_assert!(by_field && !good, "{refused}");
                return Ok(());
            }
            Ok(made) => made,
        };
        prop_assert!(good);
        counted.set(counted.get() + 1);
        let read = Certificate::from_der(&made.der).unwrap();
        let tbs = read.tbs_certificate();
        let (_, found) = tbs.get_extension::<SubjectAltName>().unwrap().unwrap();
        let found: Vec<_> = found
            .0
            .iter()
            .map(AltName::asked)
            .collect::<Result<_, _>>()
            .unwrap();
        prop_assert_eq!(found, asked.iter().cloned().collect::<Vec<_>>());
        prop_assert!(tbs.get_extension::<BasicConstraints>().unwrap().is_none());
        let life = made.not_after.duration_since(now()).unwrap();
        prop_assert!(life <= profile.max_ttl());
        prop_assert_eq!(verified(&made.der, under, now()).is_ok(), profile.server);
        Ok(())
    };
    runner.run(&all, run).unwrap();
    let issued = counted.get();
    assert!(issued > 20, "{issued} are too few to tell");
}

#[test]
fn no_address_is_two_names() {
    for text in NAMES {
        let name: AltName = text.parse().unwrap();
        assert_eq!(
            matches!(name, AltName::Ip(_)),
            text.parse::<IpAddr>().is_ok(),
            "{text}"
        );
    }
}
