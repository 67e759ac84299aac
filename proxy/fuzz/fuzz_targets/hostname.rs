//! Hostnames and patterns: what is accepted is normal, and reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::hostname::{HostPattern, Hostname};

fuzz_target!(|data: &[u8]| {
    if let Ok(name) = Hostname::from_bytes(data) {
        let text = name.as_str();
        assert!(
            text.len() <= 253 && !text.bytes().any(|b| b.is_ascii_uppercase()),
            "{text}"
        );
        assert_eq!(text.parse::<Hostname>().as_ref(), Ok(&name));
        assert_eq!(name.candidates().count(), text.split('.').count());
    }
    if let Ok(Ok(pattern)) = std::str::from_utf8(data).map(str::parse::<HostPattern>) {
        assert_eq!(pattern.as_str().parse::<HostPattern>(), Ok(pattern));
    }
});
