use super::{line as written_line, *};
use crate::engine::ssh::{
    authority::{Algorithm, Kind},
    certificate::issue,
    testing::{NOW_S, ada, ca, line, pair, people, shown, stamp, wanted},
    wire::Wire,
};

#[test]
fn keys_of_all_types_are_signed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let made = |name: &str, kind: &[&str]| line(&pair(at, name, kind));
    let p256 = made("p256", &["ecdsa", "-b", "256"]);
    let point = SubjectKey::parse(&p256).unwrap();
    let point = &point.fields()[4 + "nistp256".len() + 4..];
    let ed25519 = made("ed25519", &["ed25519"]);
    let raw = SubjectKey::parse(&ed25519).unwrap();
    let raw = &raw.fields()[4..];
    let sk = "sk-ssh-ed25519@openssh.com";
    let sk_ed25519 = Wire::new().string(sk).string(raw).string("ssh:").bytes();
    let sk_ed25519 = written_line(sk, &sk_ed25519);
    let sk = "sk-ecdsa-sha2-nistp256@openssh.com";
    let sk_ecdsa = Wire::new()
        .string(sk)
        .string("nistp256")
        .string(point)
        .string("ssh:");
    let sk_ecdsa = written_line(sk, sk_ecdsa.as_bytes());
    let ca = ca(Algorithm::Ed25519);
    for (key_type, text) in [
        (KeyType::Ed25519, ed25519),
        (KeyType::Ecdsa, p256),
        (KeyType::Ecdsa, made("p384", &["ecdsa", "-b", "384"])),
        (KeyType::Ecdsa, made("p521", &["ecdsa", "-b", "521"])),
        (KeyType::Rsa, made("rsa", &["rsa", "-b", "3072"])),
        (KeyType::SkEd25519, sk_ed25519),
        (KeyType::SkEcdsa, sk_ecdsa),
    ] {
        let key = SubjectKey::parse(&text).unwrap();
        assert_eq!(key.key_type(), key_type, "{text}");
        let wanted = wanted(Kind::User, &key, &["ada"]);
        let made = issue(&ada("people"), &people(), &wanted, &ca, stamp(42, NOW_S)).unwrap();
        let lines = shown(&made.line);
        assert!(lines[1].ends_with(&key.fingerprint()), "{lines:?}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let good = line(&pair(at, "good", &["ed25519"]));
    let good = good.trim();
    let key = SubjectKey::parse(good).unwrap();
    let wanted = wanted(Kind::User, &key, &["ada"]);
    let ca = ca(Algorithm::Ed25519);
    let made = issue(&ada("people"), &people(), &wanted, &ca, stamp(42, NOW_S)).unwrap();
    let of = |name: &str, wire: Wire| {
        let wire = Wire::new().string(name).raw(wire.as_bytes());
        written_line(name, wire.as_bytes())
    };
    let rsa = |e: &[u8], n: &[u8]| of("ssh-rsa", Wire::new().mpint(e).mpint(n));
    let mut off = vec![4; 65];
    off[64] = 5;
    let p256 = |point: &[u8]| {
        let wire = Wire::new().string("nistp256").string(point);
        of("ecdsa-sha2-nistp256", wire)
    };
    let ed25519 = |first: u8| {
        let point = [&[first][..], &[0; 31]].concat();
        of("ssh-ed25519", Wire::new().string(point))
    };
    let sk_ed25519 = Wire::new().string([0; 32]).string("ssh:");
    let sk_ed25519 = of("sk-ssh-ed25519@openssh.com", sk_ed25519);
    let dsa = (0..4).fold(Wire::new(), |wire, _| wire.mpint(&[0x7f; 20]));
    for (description, text, why) in [
        ("nothing", String::new(), NotAKey::Form),
        ("a word", "ssh-ed25519".to_owned(), NotAKey::Form),
        ("no Base64", "ssh-ed25519 !".to_owned(), NotAKey::Form),
        ("two lines", format!("{good}\n{good}"), NotAKey::Form),
        ("options in front", format!("no-pty {good}"), NotAKey::Form),
        (
            "another type in front",
            good.replace("ssh-ed25519", "ssh-rsa"),
            NotAKey::Form,
        ),
        ("cut", good[..40].to_owned(), NotAKey::Form),
        (
            "long",
            format!("{good} {}", "a".repeat(8192)),
            NotAKey::TooLong,
        ),
        ("a certificate", made.line.clone(), NotAKey::Certificate),
        (
            "DSA",
            of("ssh-dss", dsa),
            NotAKey::Type("ssh-dss".to_owned()),
        ),
        (
            "short RSA",
            rsa(&[1, 0, 1], &[0xff; 256]),
            NotAKey::Bits(2048),
        ),
        (
            "a bit too short",
            rsa(&[1, 0, 1], &[[0x7f].as_slice(), &[0xff; 383]].concat()),
            NotAKey::Bits(3071),
        ),
        (
            "long RSA",
            rsa(&[1, 0, 1], &[0xff; 1025]),
            NotAKey::Bits(8200),
        ),
        (
            "an exponent of 3",
            rsa(&[3], &[0xff; 384]),
            NotAKey::Exponent,
        ),
        (
            "an even one",
            rsa(&[1, 0, 2], &[0xff; 384]),
            NotAKey::Exponent,
        ),
        ("a long one", rsa(&[1; 5], &[0xff; 384]), NotAKey::Exponent),
        ("not on the curve", p256(&off), NotAKey::Point),
        ("Ed25519, not on the curve", ed25519(2), NotAKey::Point),
        ("Ed25519, the neutral element", ed25519(1), NotAKey::Point),
        ("Ed25519, of order 4", ed25519(0), NotAKey::Point),
        ("in a security key, of order 4", sk_ed25519, NotAKey::Point),
    ] {
        let refused = SubjectKey::parse(&text).map(|key| key.line());
        assert_eq!(refused, Err(why), "{description}");
    }
}
