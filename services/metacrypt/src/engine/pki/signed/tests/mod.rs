mod issuers;
mod leaves;
mod lists;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mc_proto::AccountType;
use mcdsl::policy::{Authorized, Policy, PolicySet, ResourceName};
use x509_cert::{Certificate, der::Decode as _};

use super::*;
use crate::engine::pki::{
    constraints::Constraints,
    issuer::Issuer,
    name::Names,
    profile::{Profile, tests::profile},
    serial::Serial,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86400);

/// A moment within UTCTime, and not at a whole second.
pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_500)
}

/// What an administrator may do.
pub(super) fn allowed(action: &str, place: &str, item: &str) -> Authorized {
    let policy = Policy {
        admin_bypass: true,
        rules: Vec::new(),
    };
    let admin = mcdsl::policy::Subject {
        account: "1".parse().unwrap(),
        name: "admin".parse().unwrap(),
        account_type: AccountType::Human,
        roles: BTreeSet::from(["admin".parse().unwrap()]),
        tags: BTreeSet::new(),
    };
    let set = PolicySet::compile(&policy).unwrap();
    let on = ResourceName::of(["pki", place, item]).unwrap();
    set.authorize(&admin, &action.parse().unwrap(), &on.into())
        .unwrap()
}

pub(super) fn named(name: &str) -> CaName {
    CaName::new(name, "Example").unwrap()
}

/// A root of so many days.
pub(super) fn root(algorithm: KeyAlgorithm, days: u32) -> Issuer {
    let (_, key) = SigningKey::generate(algorithm).unwrap();
    let request = Request {
        subject: Subject::Root {
            item: "root",
            name: &named("Root"),
            key: &key,
            ttl: DAY * days,
        },
        urls: None,
        now: now(),
    };
    let made = issue(&allowed("pki:create-issuer", "issuers", "root"), &request).unwrap();
    Issuer::new("root", vec![made.der], key).unwrap()
}

/// An issuer below a root.
pub(super) fn below(root: &Issuer, algorithm: KeyAlgorithm, constraints: &Constraints) -> Issuer {
    let (_, key) = SigningKey::generate(algorithm).unwrap();
    let request = Request {
        subject: Subject::Issuer {
            item: "services",
            name: &named("Services"),
            constraints,
            key: key.public(),
            ttl: None,
            under: root,
        },
        urls: None,
        now: now(),
    };
    let made = issue(
        &allowed("pki:create-issuer", "issuers", "services"),
        &request,
    )
    .unwrap();
    let chain = [vec![made.der], root.chain().to_vec()].concat();
    Issuer::new("services", chain, key).unwrap()
}

pub(super) fn names(texts: &[&str]) -> Names {
    let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
    Names::parse(&texts).unwrap()
}

fn services() -> Issuer {
    below(
        &root(KeyAlgorithm::EcdsaP384, 3650),
        KeyAlgorithm::EcdsaP256,
        &Constraints::default(),
    )
}

#[test]
fn every_algorithm_makes_chains_that_others_verify() {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519};
    for (of_root, of_issuer, of_leaf) in [
        (Ed25519, EcdsaP256, EcdsaP384),
        (EcdsaP384, Ed25519, EcdsaP256),
        (EcdsaP256, EcdsaP384, Ed25519),
    ] {
        let root = root(of_root, 3650);
        let issuer = below(&root, of_issuer, &Constraints::default());
        let profile = Profile {
            key_algorithms: BTreeSet::from([of_leaf]),
            ..profile()
        };
        let (pkcs8, key) = new_key(of_leaf).unwrap();
        assert_eq!(
            SigningKey::from_pkcs8(of_leaf, &pkcs8).unwrap().public(),
            &key
        );
        let wanted = names(&["exact.example", "a.svc.example", "10.0.0.1"]);
        let request = Request {
            subject: Subject::Leaf {
                profile: ("web", &profile),
                names: &wanted,
                key: &key,
                ttl: None,
                under: &issuer,
            },
            urls: None,
            now: now(),
        };
        let made = issue(&allowed("pki:issue", "profiles", "web"), &request).unwrap();
        verified(&made.der, &issuer, now()).unwrap();
        let leaf = made.der.as_slice().into();
        let leaf = webpki::EndEntityCert::try_from(&leaf).unwrap();
        for (name, wanted) in [
            ("a.svc.example", true),
            ("10.0.0.1", true),
            ("b.example", false),
        ] {
            let name = rustls_pki_types_name(name);
            assert_eq!(leaf.verify_is_valid_for_subject_name(&name).is_ok(), wanted);
        }
    }
}

fn rustls_pki_types_name(name: &str) -> rustls::pki_types::ServerName<'_> {
    name.try_into().unwrap()
}

/// Whether another implementation takes a certificate for a server's.
pub(super) fn verified(der: &[u8], issuer: &Issuer, now: SystemTime) -> Result<(), webpki::Error> {
    let (root, between) = issuer.chain().split_last().unwrap();
    let root = root.as_slice().into();
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let between: Vec<_> = between.iter().map(|der| der.as_slice().into()).collect();
    let leaf = der.into();
    let since = now.duration_since(UNIX_EPOCH).unwrap();
    webpki::EndEntityCert::try_from(&leaf)?.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &between,
        rustls::pki_types::UnixTime::since_unix_epoch(since),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )?;
    Ok(())
}
