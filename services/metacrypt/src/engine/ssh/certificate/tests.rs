use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};

use super::*;
use crate::engine::ssh::{
    authority::Algorithm,
    principal::Allowed,
    profile::Extension,
    testing::{NOW_S, ada, ca, hosts, key, people, shown, stamp, wanted},
};

#[test]
fn ssh_keygen_shows_what_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let key = key(directory.path());
    let user = Profile {
        principals: vec![
            Allowed::Caller,
            Allowed::Exact(Principal::parse(Kind::User, "deploy").unwrap()),
        ],
        extensions: BTreeSet::from([Extension::PermitX11Forwarding, Extension::PermitPty]),
        source_addresses: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ],
        force_command: Some("uptime -p".to_owned()),
        ..people()
    };
    let host = hosts();
    for (profile, principals, algorithm, rest) in [
        (
            &user,
            &["ada", "deploy"][..],
            Algorithm::Ed25519,
            &[
                "Principals:",
                "ada",
                "deploy",
                "Critical Options:",
                "force-command uptime -p",
                "source-address 192.0.2.0/24,2001:db8::/32",
                "Extensions:",
                "permit-X11-forwarding",
                "permit-pty",
            ][..],
        ),
        (
            &host,
            &["web.example.org"],
            Algorithm::EcdsaP256,
            &[
                "Principals:",
                "web.example.org",
                "Critical Options: (none)",
                "Extensions: (none)",
            ],
        ),
    ] {
        let ca = ca(algorithm);
        let wanted = wanted(profile.kind, &key, principals);
        let allowed = ada(profile.name.as_str());
        let made = issue(&allowed, profile, &wanted, &ca, stamp(42, NOW_S)).unwrap();
        let short = match algorithm {
            Algorithm::Ed25519 => "ED25519",
            Algorithm::EcdsaP256 => "ECDSA",
        };
        let signed = format!("{short} {} (using {})", ca.fingerprint(), algorithm.name());
        let first = [
            format!(
                "Type: ssh-ed25519-cert-v01@openssh.com {} certificate",
                profile.kind.name()
            ),
            format!("Public key: ED25519-CERT {}", key.fingerprint()),
            format!("Signing CA: {signed}"),
            "Key ID: \"ada\"".to_owned(),
            "Serial: 42".to_owned(),
            "Valid: from 2027-01-15T07:59:00 to 2027-01-15T09:00:00".to_owned(),
        ];
        let rest = rest.iter().map(|line| (*line).to_owned());
        let lines: Vec<_> = first.into_iter().chain(rest).collect();
        assert_eq!(shown(&made.line), lines);
        assert_eq!(
            (made.valid_after_s, made.valid_before_s),
            (NOW_S - 60, NOW_S + 3600)
        );
    }
}

#[test]
fn the_authority_signed_it() {
    let directory = tempfile::tempdir().unwrap();
    let key = key(directory.path());
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256] {
        let ca = ca(algorithm);
        let wanted = wanted(Kind::User, &key, &["ada"]);
        let made = issue(&ada("people"), &people(), &wanted, &ca, stamp(42, NOW_S)).unwrap();
        let read = Read::from_openssh(&made.line).unwrap();
        let whole = read.to_bytes().unwrap();
        let signature = read.signature();
        let written = algorithm.name().len() + 4 + signature.as_bytes().len() + 4;
        let signed = &whole[..whole.len() - 4 - written];
        let public = &ca.public()[ca.public().len()
            - if algorithm == Algorithm::Ed25519 {
                32
            } else {
                65
            }..];
        match algorithm {
            Algorithm::Ed25519 => {
                let key = UnparsedPublicKey::new(&ED25519, public);
                key.verify(signed, signature.as_bytes()).unwrap();
            }
            Algorithm::EcdsaP256 => {
                let mut rest = signature.as_bytes();
                let mut both = Vec::new();
                for _ in 0..2 {
                    let (length, behind) = rest.split_first_chunk().unwrap();
                    let (number, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
                    let number: Vec<u8> = number.iter().copied().skip_while(|b| *b == 0).collect();
                    both.extend(std::iter::repeat_n(0, 32 - number.len()));
                    both.extend(number);
                    rest = behind;
                }
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
                key.verify(signed, &both).unwrap();
            }
        }
    }
}

#[test]
fn a_certificate_that_is_not_what_was_allowed_is_not_signed() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (key(directory.path()), tempfile::tempdir().unwrap());
    let two = key(two.path());
    let profile = Profile {
        principals: vec![
            Allowed::Caller,
            Allowed::Exact(Principal::parse(Kind::User, "deploy").unwrap()),
        ],
        ..people()
    };
    let (ca_one, ca_two) = (ca(Algorithm::Ed25519), ca(Algorithm::Ed25519));
    let (ada, bob): (Name, Name) = ("ada".parse().unwrap(), "bob".parse().unwrap());
    let asked = wanted(Kind::User, &one, &["ada"]);
    let terms = Terms {
        profile: &profile,
        caller: &ada,
        wanted: &asked,
        authority: &ca_one,
        stamp: stamp(42, NOW_S),
        ttl_s: 3600,
    };
    assert!(terms.check(terms.draft()).is_ok());
    let none = Wanted {
        principals: BTreeSet::new(),
        ..asked.clone()
    };
    let more = wanted(Kind::User, &one, &["ada", "deploy"]);
    let root = wanted(Kind::User, &one, &["root"]);
    let other_key = wanted(Kind::User, &two, &["ada"]);
    let host = Profile {
        kind: Kind::Host,
        ..profile.clone()
    };
    let forwarding = Profile {
        extensions: BTreeSet::from([Extension::PermitPty, Extension::PermitPortForwarding]),
        ..profile.clone()
    };
    let bare = Profile {
        extensions: BTreeSet::new(),
        ..profile.clone()
    };
    let forced = Profile {
        force_command: Some("true".to_owned()),
        ..profile.clone()
    };
    let from = Profile {
        source_addresses: vec!["192.0.2.0/24".parse().unwrap()],
        ..profile.clone()
    };
    let other_nonce = Stamp {
        nonce: [8; NONCE],
        ..terms.stamp
    };
    let with = |change: &dyn Fn(&mut Terms<'_>)| {
        let mut other = terms;
        change(&mut other);
        other.draft()
    };
    let mut behind = terms.draft();
    behind.push(0);
    let mut cut = terms.draft();
    cut.pop();
    for (description, draft) in [
        ("another key", {
            let other = Terms {
                wanted: &other_key,
                ..terms
            };
            other.draft()
        }),
        (
            "no principal",
            Terms {
                wanted: &none,
                ..terms
            }
            .draft(),
        ),
        (
            "a principal more",
            Terms {
                wanted: &more,
                ..terms
            }
            .draft(),
        ),
        (
            "another principal",
            Terms {
                wanted: &root,
                ..terms
            }
            .draft(),
        ),
        (
            "another key id",
            Terms {
                caller: &bob,
                ..terms
            }
            .draft(),
        ),
        (
            "a host's",
            Terms {
                profile: &host,
                ..terms
            }
            .draft(),
        ),
        (
            "an extension more",
            Terms {
                profile: &forwarding,
                ..terms
            }
            .draft(),
        ),
        (
            "an extension less",
            Terms {
                profile: &bare,
                ..terms
            }
            .draft(),
        ),
        (
            "a command",
            Terms {
                profile: &forced,
                ..terms
            }
            .draft(),
        ),
        (
            "networks",
            Terms {
                profile: &from,
                ..terms
            }
            .draft(),
        ),
        (
            "another authority",
            Terms {
                authority: &ca_two,
                ..terms
            }
            .draft(),
        ),
        ("another serial", with(&|t| t.stamp.serial = 43)),
        ("no serial", with(&|t| t.stamp.serial = 0)),
        (
            "another nonce",
            Terms {
                stamp: other_nonce,
                ..terms
            }
            .draft(),
        ),
        ("a longer time", with(&|t| t.ttl_s = 3601)),
        ("no time", with(&|t| t.ttl_s = 0)),
        ("for ever", with(&|t| t.ttl_s = u64::MAX)),
        ("from later on", with(&|t| t.stamp.now_s += 1)),
        ("a byte more", behind),
        ("a byte less", cut),
        ("nothing", Vec::new()),
    ] {
        assert!(terms.check(draft).is_err(), "{description}");
    }
    for at in 0..terms.draft().len() {
        let mut changed = terms.draft();
        changed[at] ^= 1;
        assert!(terms.check(changed).is_err(), "a bit of byte {at}");
    }
    // What the profile does not allow is refused whatever was asked for.
    let terms = Terms {
        wanted: &root,
        ..terms
    };
    assert!(terms.check(terms.draft()).is_err());
    let terms = Terms {
        wanted: &none,
        ..terms
    };
    assert!(terms.check(terms.draft()).is_err());
    let terms = Terms {
        wanted: &asked,
        ttl_s: profile.max_ttl_s + 1,
        ..terms
    };
    assert!(terms.check(terms.draft()).is_err());
    let terms = Terms {
        ttl_s: 60,
        stamp: stamp(0, NOW_S),
        ..terms
    };
    assert!(terms.check(terms.draft()).is_err());
}
