//! The configuration: whatever stands in the file, loading and checking it answers; and a variable is its key's value, or an error.
#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::config::{Config, Raw, validate_route};
use mcdsl::config::{EXEMPT, load};
use serde::Deserialize;
use tempfile::TempDir;

// In memory: the loader takes a path.
static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in("/dev/shm").expect("/dev/shm is writable"));

fuzz_target!(|data: &[u8]| {
    file(data);
    if let Ok(text) = std::str::from_utf8(data) {
        variables(text);
    }
});

fn file(data: &[u8]) {
    let file = DIRECTORY.path().join("mc-proxy.toml");
    fs::write(&file, data).expect("/dev/shm has room");
    let Ok(loaded) = load::<Raw>("mc-proxy", Some(&file), std::iter::empty()) else {
        return;
    };
    if let Ok(config) = Config::check(loaded.value, &file, Path::new("/srv/mc-proxy")) {
        assert!(config.metrics.is_none_or(|m| m.ip().is_loopback()));
        assert!(config.seed.routes.iter().all(|r| validate_route(r).is_ok()));
        assert!(
            config
                .seed
                .rules
                .iter()
                .all(|r| r.cidr == r.cidr.trunc() && r.expires.is_none())
        );
    }
}

/// A key of each kind that variables have.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Keys {
    text: String,
    list: Vec<String>,
    section: Section,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Section {
    flag: Option<bool>,
    small_number: u16,
}

fn variables(text: &str) {
    let with = |key: &str, text: &str| {
        let variable = (format!("A_B_{key}"), text.to_owned());
        let loaded = load::<Keys>("a-b", None, std::iter::once(variable));
        loaded.ok().map(|loaded| loaded.value)
    };
    let told = with("TEXT", text).expect("any text is one");
    assert_eq!(told.text, text);
    let told = with("SECTION_FLAG", text);
    let flag = match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    assert_eq!(told.and_then(|told| told.section.flag), flag);
    let told = with("SECTION_SMALL_NUMBER", text);
    let number = text.parse::<u16>().ok();
    assert_eq!(told.map(|told| told.section.small_number), number);
    if !text.trim_start().starts_with('[') {
        let told = with("LIST", text).expect("any list is one");
        let items = text.split(',').map(str::trim);
        assert!(told.list.iter().eq(items.filter(|item| !item.is_empty())));
    }
    // A name that is no key's is an error, not without effect.
    let told = with(text, "1");
    let exempt = text.is_empty() || EXEMPT.contains(&text);
    let key = ["TEXT", "LIST", "SECTION"]
        .iter()
        .any(|key| text.starts_with(key));
    assert!(
        told.is_none_or(|told| key || exempt && told == Keys::default()),
        "{text}"
    );
}
