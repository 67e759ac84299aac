//! What people type: names, codes, durations. What is accepted has one spelling, and reads back as itself.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::{
    cidr,
    human::{duration, parse_duration},
    name::{AccountName, Role, Tag},
    policy::{Name, ResourceName},
    totp::Shared,
    typed,
};

fuzz_target!(|data: &[u8]| {
    let (first, second) = data.split_at(data.len() / 2);
    typed::code(first, second);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    typed::name(text);
    names(text);
    networks(text);
    totp(text);
    if let Ok(parsed) = parse_duration(text) {
        assert_eq!(parse_duration(&duration(parsed)), Ok(parsed));
    }
});

fn names(text: &str) {
    if let Ok(name) = text.parse::<AccountName>() {
        assert_eq!(name.to_string(), text);
        assert!(text.len() <= 64 && !text.starts_with(['-', '.']));
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
        );
        assert!(ResourceName::of(["account", text]).is_ok());
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(text.parse::<Name>().is_ok());
    }
    if let Ok(role) = text.parse::<Role>() {
        assert_eq!(role.as_str(), text);
    }
}

fn networks(text: &str) {
    if let Ok(net) = cidr::parse(text) {
        assert_eq!(net, net.trunc());
        assert_eq!(cidr::parse(&net.to_string()), Ok(net));
    }
}

/// RFC 6238, appendix B: a code of 59 s, with something in it that is none of it.
fn totp(text: &str) {
    let shared = Shared::from_bytes(b"12345678901234567890".to_vec());
    let at = UNIX_EPOCH + Duration::from_secs(59);
    let check = |code: &str, last| shared.check(code, last, at).expect("the secret is fine");
    let mixed = format!("287{text}082");
    let step = check(&mixed, 0);
    assert_eq!(
        step.is_some(),
        text.chars().all(char::is_whitespace),
        "{mixed:?}"
    );
    assert_eq!(step.and_then(|step| check(&mixed, step)), None, "twice");
    if check(text, 0).is_some() {
        let digits = text.chars().filter(char::is_ascii_digit).count();
        assert_eq!(digits, 6, "{text:?}");
    }
}
