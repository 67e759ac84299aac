use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mc_proto::AccountType;
use mcdsl::policy::{Authorized, Policy, PolicySet, ResourceName};
use x509_cert::{
    Certificate,
    crl::CertificateList,
    der::{Decode as _, Encode as _},
};

use super::{certificate::write, check::check, *};
use crate::engine::pki::{
    constraints::Constraints,
    issuer::Issuer,
    name::Names,
    ocsp::{Asked, Status},
    profile::{Profile, tests::profile},
    revocation::{Reason, Revocation, Revoked},
    serial::Serial,
    urls::Urls,
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

/// What is checked, each part of which a row exchanges.
#[derive(Clone)]
struct Parts<'a> {
    profile: Profile,
    names: Names,
    key: PublicKey,
    under: &'a Issuer,
    ttl: Option<Duration>,
    urls: Option<Urls>,
    now: SystemTime,
}

/// What a row exchanges.
type Change = fn(&mut Parts<'_>);

impl Parts<'_> {
    fn with<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        act(&Request {
            subject: Subject::Leaf {
                profile: ("web", &self.profile),
                names: &self.names,
                key: &self.key,
                ttl: self.ttl,
                under: self.under,
            },
            urls: self.urls.as_ref(),
            now: self.now,
        })
    }
}

#[test]
fn what_is_not_what_was_asked_for_is_not_signed() {
    let (services, other) = (services(), services());
    let parts = Parts {
        profile: profile(),
        names: names(&["exact.example", "a.svc.example"]),
        key: new_key(KeyAlgorithm::EcdsaP256).unwrap().1,
        under: &services,
        ttl: None,
        urls: Some(Urls::new("http://pki.example", "pki", "services")),
        now: now(),
    };
    let allowed = allowed("pki:issue", "profiles", "web");
    let serial = Serial::new([7; 20]);
    let tbs = parts.with(|request| write(request, &serial)).unwrap();
    parts
        .with(|request| check(&allowed, request, &tbs))
        .unwrap();
    let rows: [(&str, Change); 9] = [
        ("other names", |p| p.names = names(&["exact.example"])),
        ("more names", |p| {
            p.names = names(&["exact.example", "a.svc.example", "b.svc.example"]);
        }),
        ("another key", |p| {
            p.key = new_key(KeyAlgorithm::EcdsaP256).unwrap().1
        }),
        ("another use", |p| p.profile.client = true),
        ("a common name", |p| p.profile.common_name = true),
        ("no addresses", |p| p.urls = None),
        ("other addresses", |p| {
            p.urls = Some(Urls::new("http://evil.example", "pki", "services"));
        }),
        ("another time", |p| p.now += HOUR),
        ("a shorter life", |p| p.profile.max_ttl_s = 60),
    ];
    for (description, change) in rows {
        let mut changed = parts.clone();
        change(&mut changed);
        let refused = changed.with(|request| check(&allowed, request, &tbs));
        assert!(refused.is_err(), "{description}");
    }
    let mut changed = parts.clone();
    changed.under = &other;
    let refused = changed.with(|request| check(&allowed, request, &tbs));
    assert!(refused.is_err(), "another issuer");
    // No byte of it may be another one, but for the serial number's, of which each is as good.
    for at in 0..tbs.len() {
        let mut changed = tbs.clone();
        changed[at] ^= 1;
        let checked = parts.with(|request| check(&allowed, request, &changed));
        let in_serial = tbs
            .windows(20)
            .position(|w| w == serial_bytes(&serial))
            .unwrap();
        let good = (in_serial..in_serial + 20).contains(&at);
        assert_eq!(checked.is_ok(), good, "byte {at}");
    }
}

fn serial_bytes(serial: &Serial) -> Vec<u8> {
    serial.number().unwrap().as_bytes().to_vec()
}

#[test]
fn what_was_judged_is_what_is_done() {
    let services = services();
    let parts = Parts {
        profile: profile(),
        names: names(&["exact.example"]),
        key: new_key(KeyAlgorithm::EcdsaP256).unwrap().1,
        under: &services,
        ttl: None,
        urls: None,
        now: now(),
    };
    for (action, place, item, wanted) in [
        ("pki:issue", "profiles", "web", true),
        ("pki:sign", "profiles", "web", true),
        ("pki:renew", "profiles", "web", true),
        ("pki:issue", "profiles", "other", false),
        ("pki:issue", "issuers", "web", false),
        ("pki:read", "profiles", "web", false),
        ("pki:create-issuer", "issuers", "web", false),
    ] {
        let made = parts.with(|request| issue(&allowed(action, place, item), request));
        assert_eq!(made.is_ok(), wanted, "{action} {place}/{item}");
    }
}

#[test]
fn what_exceeds_the_profile_or_the_issuer_is_refused_by_the_field() {
    let limited = Constraints {
        permitted_dns: vec!["svc.example".parse().unwrap()],
        ..Constraints::default()
    };
    let short = root(KeyAlgorithm::EcdsaP256, 1);
    let (services, limited) = (
        services(),
        below(
            &root(KeyAlgorithm::EcdsaP256, 3650),
            KeyAlgorithm::EcdsaP256,
            &limited,
        ),
    );
    let ending = below(&short, KeyAlgorithm::EcdsaP256, &Constraints::default());
    let parts = |under| Parts {
        profile: profile(),
        names: names(&["exact.example"]),
        key: new_key(KeyAlgorithm::EcdsaP256).unwrap().1,
        under,
        ttl: None,
        urls: None,
        now: now(),
    };
    let allowed = allowed("pki:issue", "profiles", "web");
    let rows: [(&str, &Issuer, Change, Result<(), &str>); 13] = [
        ("as the profile has it", &services, |_| {}, Ok(())),
        ("all its time", &services, |p| p.ttl = Some(DAY), Ok(())),
        (
            "more",
            &services,
            |p| p.ttl = Some(DAY + Duration::from_secs(1)),
            Err("ttl_s: "),
        ),
        (
            "none",
            &services,
            |p| p.ttl = Some(Duration::ZERO),
            Err("ttl_s: "),
        ),
        (
            "beyond the issuer's end",
            &ending,
            |p| (p.profile.max_ttl_s, p.ttl) = (10 * 86400, Some(DAY * 2)),
            Err("ttl_s: the issuer"),
        ),
        (
            "a name it does not allow",
            &services,
            |p| p.names = names(&["b.example"]),
            Err("names: "),
        ),
        (
            "a wildcard",
            &services,
            |p| p.names = names(&["*.svc.example"]),
            Err("names: "),
        ),
        (
            "outside of the constraints",
            &limited,
            |_| {},
            Err("names: "),
        ),
        (
            "within them",
            &limited,
            |p| p.names = names(&["a.svc.example"]),
            Ok(()),
        ),
        (
            "another kind of key",
            &services,
            |p| p.key = new_key(KeyAlgorithm::Ed25519).unwrap().1,
            Err("key: "),
        ),
        ("a root", &short, |_| {}, Err("is a root")),
        (
            "after the issuer's end",
            &ending,
            |p| p.now += DAY * 2,
            Err("not valid now"),
        ),
        (
            "before its begin",
            &ending,
            |p| p.now -= DAY,
            Err("not valid now"),
        ),
    ];
    for (description, under, change, wanted) in rows {
        let mut parts = parts(under);
        change(&mut parts);
        let made = parts.with(|request| issue(&allowed, request));
        match (made, wanted) {
            (Ok(made), Ok(())) => verified(&made.der, under, parts.now).unwrap(),
            (Err(refused), Err(text)) => {
                let said = refused.to_string();
                assert!(said.contains(text), "{description}: {said}");
                assert!(
                    !matches!(refused, Refusal::Flaw(_)),
                    "{description}: {said}"
                );
            }
            (made, _) => panic!("{description}: {made:?}"),
        }
    }
    // What was not asked for ends with its issuer.
    let mut parts = parts(&ending);
    (parts.profile.ttl_s, parts.profile.max_ttl_s) = (100 * 86400, 100 * 86400);
    let made = parts.with(|request| issue(&allowed, request)).unwrap();
    assert_eq!(made.not_after, ending.not_after());
}

#[test]
fn issuers_are_below_roots_alone() {
    let services = services();
    let (_, key) = SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = Request {
        subject: Subject::Issuer {
            item: "deeper",
            name: &named("Deeper"),
            constraints: &Constraints::default(),
            key: key.public(),
            ttl: None,
            under: &services,
        },
        urls: None,
        now: now(),
    };
    let refused = issue(&allowed("pki:create-issuer", "issuers", "deeper"), &request);
    assert!(refused.unwrap_err().to_string().starts_with("under: "));
    for (name, organization, good) in [
        ("Root", "", true),
        ("Würzel", "Ö", true),
        ("", "", false),
        (" Root", "", false),
        ("Ro\not", "", false),
        (&"r".repeat(65), "", false),
        ("Root", &"r".repeat(65), false),
    ] {
        assert_eq!(
            CaName::new(name, organization).is_ok(),
            good,
            "{name:?} {organization:?}"
        );
    }
}

#[test]
fn chains_and_keys_are_compared() {
    let (a, b) = (services(), services());
    let key = |issuer: &Issuer| {
        // Of nobody: only the public half is compared.
        let (_, other) = SigningKey::generate(issuer.key().public().algorithm()).unwrap();
        other
    };
    let (leaf, root) = (a.chain()[0].clone(), a.chain()[1].clone());
    let other = b.chain()[1].clone();
    let of = |chain: &[&Vec<u8>]| {
        let chain = chain.iter().map(|der| (*der).clone()).collect();
        Issuer::new("a", chain, key(&a))
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(of(&[&leaf, &root]).contains("private key"), "another key");
    assert!(of(&[]).contains("there is none"));
    let (pkcs8, key) = SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let made = issue(
        &allowed("pki:create-issuer", "issuers", "services"),
        &Request {
            subject: Subject::Issuer {
                item: "services",
                name: &named("Services"),
                constraints: &Constraints::default(),
                key: key.public(),
                ttl: None,
                under: &super::tests::root(KeyAlgorithm::EcdsaP256, 30),
            },
            urls: None,
            now: now(),
        },
    );
    let made = made.unwrap().der;
    let of = |chain: &[&Vec<u8>]| {
        let key = SigningKey::from_pkcs8(KeyAlgorithm::EcdsaP256, &pkcs8).unwrap();
        let chain = chain.iter().map(|der| (*der).clone()).collect();
        Issuer::new("a", chain, key)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    for (description, chain, wanted) in [
        ("without its root", vec![&made], "no root"),
        ("with another root", vec![&made, &other], "not signed by"),
        (
            "below what may have none",
            vec![&made, &leaf, &root],
            "not signed by",
        ),
        ("too many", vec![&made; 6], "more than"),
        (
            "no certificate",
            vec![&vec![0x30, 0]],
            "certificate 0 is none",
        ),
    ] {
        let said = match description {
            "no certificate" => of(&[&vec![0x30, 0]]),
            _ => of(&chain),
        };
        assert!(said.contains(wanted), "{description}: {said}");
    }
}

#[test]
fn lists_have_all_that_is_revoked() {
    let issuer = services();
    let revoked: Vec<_> = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::CaCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::PrivilegeWithdrawn,
    ]
    .into_iter()
    .enumerate()
    .map(|(n, reason)| Revoked {
        serial: Serial::new([u8::try_from(n).unwrap(); 20]),
        revocation: Revocation {
            at_s: 1_799_999_000,
            reason,
        },
    })
    .collect();
    for revoked in [&revoked[..], &[]] {
        let der = crl(&Crl {
            issuer: &issuer,
            number: 1 << 40,
            this_update: now(),
            next_update: now() + DAY,
            revoked,
        });
        let list: CertificateList = CertificateList::from_der(&der.unwrap()).unwrap();
        let tbs = list.tbs_cert_list.to_der().unwrap();
        let signature = list.signature.as_bytes().unwrap();
        assert!(
            issuer
                .key()
                .public()
                .verifies(&list.signature_algorithm, &tbs, signature)
        );
        let entries = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        assert_eq!(entries.len(), revoked.len());
    }
    let refused = crl(&Crl {
        issuer: &issuer,
        number: 1,
        this_update: now(),
        next_update: now(),
        revoked: &[],
    });
    assert!(refused.is_err(), "it ends as it begins");
}

#[test]
fn requests_of_status_are_bounded() {
    for (description, der, wanted) in [
        ("nothing", vec![], Status::MalformedRequest),
        ("too long", vec![0x30; 10_000], Status::MalformedRequest),
        ("no list", vec![0x30, 2, 0x30, 0], Status::MalformedRequest),
        (
            "an empty list",
            vec![0x30, 4, 0x30, 2, 0x30, 0],
            Status::MalformedRequest,
        ),
    ] {
        assert_eq!(Asked::from_der(&der), Err(wanted), "{description}");
    }
}

#[test]
fn a_root_is_what_it_is() {
    let root = root(KeyAlgorithm::Ed25519, 3650);
    let parsed = Certificate::from_der(&root.chain()[0]).unwrap();
    assert_eq!(
        parsed.tbs_certificate().subject().to_string(),
        "CN=Root,O=Example"
    );
    assert!(root.is_root() && root.may_have_issuers());
    assert!(!services().may_have_issuers());
}
