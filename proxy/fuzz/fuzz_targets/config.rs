//! The configuration file: whatever stands in it, loading and checking it answers.
#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::config::{Config, Raw, validate_route};
use tempfile::TempDir;

// In memory: the loader takes a path.
static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in("/dev/shm").expect("/dev/shm is writable"));

fuzz_target!(|data: &[u8]| {
    let file = DIRECTORY.path().join("mc-proxy.toml");
    fs::write(&file, data).expect("/dev/shm has room");
    let Ok(loaded) = mcdsl::config::load::<Raw>("mc-proxy", Some(&file), std::iter::empty()) else {
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
});
