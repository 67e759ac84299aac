use super::*;

#[test]
fn names_have_one_spelling() {
    for (description, text, wanted) in [
        ("small letters", "Web.Example.ORG.", Some("web.example.org")),
        ("a wildcard", "*.Example.org", Some("*.example.org")),
        (
            "an A-label",
            "xn--bcher-kva.example",
            Some("xn--bcher-kva.example"),
        ),
        ("an IPv4 address", "192.0.2.1", Some("192.0.2.1")),
        ("an IPv6 address", "2001:DB8:0::1", Some("2001:db8::1")),
        (
            "an IPv4-mapped address",
            "::ffff:192.0.2.1",
            Some("192.0.2.1"),
        ),
        (
            "a SPIFFE ID",
            "spiffe://example.org/a/B",
            Some("spiffe://example.org/a/B"),
        ),
        ("nothing", "", None),
        ("a star alone", "*", None),
        ("a star within", "a.*.example.org", None),
        ("two stars", "*.*.example.org", None),
        ("a star as part of a label", "w*.example.org", None),
        ("an underscore", "_acme.example.org", None),
        ("a U-label", "bücher.example", None),
        ("an A-label of nothing", "xn--.example", None),
        ("an A-label of ASCII", "xn--example-.example", None),
        (
            "an A-label that decodes to none",
            "xn--a-\u{0}.example",
            None,
        ),
        ("a reserved label", "ab--cd.example", None),
        ("an address with leading zeros", "192.0.2.01", None),
        ("a short address", "127.1", None),
        ("a number", "2130706433", None),
        ("a hexadecimal number", "0x0a010203", None),
        ("one with a dot behind it", "0x0a010203.", None),
        ("with capitals", "0X0A010203", None),
        ("parts of one", "0x0a.0x01.0x02.0x03", None),
        ("its prefix alone", "a.0x", None),
        ("an octal one", "012.01.02.03", None),
        ("below a star", "*.0x0a", None),
        (
            "a name that begins like one",
            "0x0a.example",
            Some("0x0a.example"),
        ),
        ("a name that is none", "a.0xyz", Some("a.0xyz")),
        ("an address with a zone", "fe80::1%eth0", None),
        ("a network", "192.0.2.0/24", None),
        ("an e-mail address", "ada@example.org", None),
        ("NUL", "a.example\0.b.example", None),
        ("a space in front", " a.example", None),
        ("a URI of another scheme", "https://example.org/a", None),
        ("a SPIFFE ID without a path", "spiffe://example.org", None),
        (
            "a SPIFFE ID with an empty path",
            "spiffe://example.org/",
            None,
        ),
        ("with a trailing slash", "spiffe://example.org/a/", None),
        ("with dots", "spiffe://example.org/a/../b", None),
        ("with a port", "spiffe://example.org:1/a", None),
        ("with a user", "spiffe://u@example.org/a", None),
        ("with a query", "spiffe://example.org/a?b", None),
        ("with an encoded slash", "spiffe://example.org/a%2fb", None),
        (
            "with capitals in the trust domain",
            "spiffe://Example.org/a",
            None,
        ),
    ] {
        let got = text.parse::<AltName>().ok().map(|name| name.to_string());
        assert_eq!(got.as_deref(), wanted, "{description}");
    }
}

#[test]
fn what_a_certificate_has_is_read_as_it_was_written() {
    for text in [
        "web.example.org",
        "*.example.org",
        "192.0.2.1",
        "2001:db8::1",
        "spiffe://a/b",
    ] {
        let name: AltName = text.parse().unwrap();
        assert_eq!(AltName::certified(&name.general().unwrap()), Ok(name));
    }
    let ia5 = |text: &str| Ia5String::new(text).unwrap();
    let mapped: std::net::Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
    for (description, name) in [
        ("capitals", GeneralName::DnsName(ia5("Web.example.org"))),
        (
            "a trailing dot",
            GeneralName::DnsName(ia5("web.example.org.")),
        ),
        (
            "an address as a name",
            GeneralName::DnsName(ia5("192.0.2.1")),
        ),
        (
            "an e-mail address",
            GeneralName::Rfc822Name(ia5("a@b.example")),
        ),
        ("a mapped address", GeneralName::from(IpAddr::from(mapped))),
        (
            "an address of 5 bytes",
            GeneralName::IpAddress(OctetString::new([1; 5]).unwrap()),
        ),
    ] {
        assert!(AltName::certified(&name).is_err(), "{description}");
    }
}

#[test]
fn names_are_few_and_differ() {
    let of = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        Names::parse(&texts)
    };
    assert_eq!(of(&[]), Err(NamesFault::Empty));
    let twice = of(&["b.example", "a.example", "B.example"]).unwrap();
    let texts: Vec<_> = twice.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["b.example", "a.example"]);
    let wrong = of(&["a b", "a.example", "_x.example"])
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("\"a b\": it has") && wrong.contains("; \"_x.example\": it has"),
        "{wrong}"
    );
    let many: Vec<_> = (0..=MAX_NAMES).map(|n| format!("n{n}.example")).collect();
    assert_eq!(Names::parse(&many), Err(NamesFault::TooMany(101)));
}

#[test]
fn below_and_within_go_by_labels() {
    let dns = |text: &str| text.parse::<DnsName>().unwrap();
    for (name, parent, below, within) in [
        ("a.example", "example", true, true),
        ("a.b.example", "example", true, true),
        ("example", "example", false, true),
        ("badexample", "example", false, false),
        ("*.example", "example", false, true),
        ("*.a.example", "example", true, true),
        ("example", "a.example", false, false),
    ] {
        let (name, parent) = (dns(name), dns(parent));
        assert_eq!(
            (name.is_below(&parent), name.is_within(&parent)),
            (below, within),
            "{name} {parent}"
        );
    }
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    assert!(id("spiffe://a/b/c").is_below(&id("spiffe://a/b")));
    assert!(!id("spiffe://a/bc").is_below(&id("spiffe://a/b")));
    assert!(!id("spiffe://a/b").is_below(&id("spiffe://a/b")));
}
