//! Leaves.

use super::{
    super::{certificate::write, check::check},
    *,
};
use crate::engine::pki::urls::Urls;

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
