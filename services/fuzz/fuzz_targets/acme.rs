//! What ACME reads of strangers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::pki::acme;

fuzz_target!(|data: &[u8]| {
    acme::request(data);
    acme::answer(data);
    if let Ok(text) = std::str::from_utf8(data) {
        acme::key(text);
        acme::nonce(text);
    }
});
