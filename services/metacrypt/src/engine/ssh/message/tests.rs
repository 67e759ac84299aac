use super::*;
use crate::engine::ssh::testing::sent_people as people;

#[test]
fn a_profile_that_makes_no_sense_is_refused_by_its_field() {
    let put = |name: &str, sent| profile_of(name, sent).map(|made| profile(&made));
    let principal = |what| vec![pb::SshPrincipal { what: Some(what) }];
    let exact = |text: &str| principal(pb::ssh_principal::What::Exact(text.to_owned()));
    let below = |text: &str| principal(pb::ssh_principal::What::Below(text.to_owned()));
    let host = || pb::SshProfile {
        kind: pb::SshKind::Host.into(),
        principals: below("example.org"),
        ..people()
    };
    let no_kind = pb::SshProfile {
        kind: 0,
        ..people()
    };
    let with = |principals| pb::SshProfile {
        principals,
        ..people()
    };
    let hosts = |principals| pb::SshProfile {
        principals,
        ..host()
    };
    let extensions = |extensions: &[i32]| pb::SshProfile {
        extensions: extensions.to_vec(),
        ..people()
    };
    let from = |text: &str| pb::SshProfile {
        source_addresses: vec![text.to_owned()],
        ..people()
    };
    let forced = |text: &str| pb::SshProfile {
        force_command: text.to_owned(),
        ..people()
    };
    let ttl = |ttl_s, max_ttl_s| pb::SshProfile {
        ttl_s,
        max_ttl_s,
        ..people()
    };
    let both = pb::SshProfile {
        no_extensions: true,
        ..extensions(&[1])
    };
    let verified = pb::SshProfile {
        verify_required: true,
        ..people()
    };
    let named = pb::SshProfile {
        name: "other".to_owned(),
        ..people()
    };
    let what = |what| vec![pb::SshPrincipal { what }];
    let many = vec![principal(pb::ssh_principal::What::Account(true)).remove(0); 65];
    let away = pb::ssh_principal::What::Account(false);
    for (description, profile, field) in [
        ("no kind", no_kind, "kind: "),
        ("another name", named, "profile.name: "),
        ("no principal", with(Vec::new()), "principals: empty"),
        ("many", with(many), "principals: at most 64"),
        ("nothing said", with(what(None)), "principals[0]: "),
        ("nothing said", with(what(Some(away))), "principals[0]: "),
        ("all", with(exact("*")), "principals[0]: "),
        ("empty", with(exact("")), "principals[0]: empty"),
        ("a host's", with(below("example.org")), "principals[0]: "),
        (
            "a user's",
            hosts(principal(pb::ssh_principal::What::Account(true))),
            "principals[0]: ",
        ),
        (
            "a pattern",
            hosts(exact("*.example.org")),
            "principals[0]: ",
        ),
        (
            "a pattern",
            hosts(below("*.example.org")),
            "principals[0]: ",
        ),
        (
            "a host's extension",
            pb::SshProfile {
                extensions: vec![1],
                ..host()
            },
            "extensions: ",
        ),
        (
            "a host's command",
            pb::SshProfile {
                force_command: "true".to_owned(),
                ..host()
            },
            "force_command: ",
        ),
        ("no extension", extensions(&[0]), "extensions[0]: "),
        (
            "one that there is not",
            extensions(&[1, 99]),
            "extensions[1]: ",
        ),
        ("none and one", both, "no_extensions: "),
        (
            "host bits",
            from("192.0.2.1/24"),
            "source_addresses[0]: 192.0.2.1/24 has host bits",
        ),
        ("no network", from("example.org"), "source_addresses[0]: "),
        ("two lines", forced("a\nb"), "force_command: "),
        ("nothing", forced(" "), "force_command: "),
        ("long", forced(&"a".repeat(1025)), "force_command: "),
        ("software keys", verified, "verify_required: "),
        ("no longest time", ttl(0, 0), "max_ttl_s: 60 to "),
        ("for ever", ttl(0, u64::MAX), "max_ttl_s: 60 to "),
        ("longer than that", ttl(7201, 7200), "ttl_s: 60 to 7200"),
        (
            "a type that there is not",
            pb::SshProfile {
                key_types: vec![9],
                ..people()
            },
            "key_types[0]: ",
        ),
    ] {
        let text = put("bad", profile).unwrap_err().to_string();
        assert!(text.starts_with(field), "{description}: {text}");
    }
    let plain = put("plain", people()).unwrap();
    assert_eq!((plain.extensions, plain.key_types.len()), (vec![1], 5));
    let none = pb::SshProfile {
        no_extensions: true,
        source_addresses: vec!["192.0.2.7".to_owned(), "::ffff:198.51.100.0/120".to_owned()],
        ..people()
    };
    let none = put("none", none).unwrap();
    assert_eq!(none.extensions, [0; 0]);
    assert_eq!(none.source_addresses, ["192.0.2.7/32", "198.51.100.0/24"]);
    assert!(put("again", none.clone()).is_err(), "another name");
    assert_eq!(
        put("none", none.clone()).unwrap(),
        none,
        "what was read is taken"
    );
}
