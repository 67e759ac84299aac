//! CAs and their chains.

use super::*;

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
                under: &super::root(KeyAlgorithm::EcdsaP256, 30),
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
