//! What the CAs read of strangers and clients.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::{pki, ssh};

fuzz_target!(|data: &[u8]| {
    pki::csr(data);
    pki::status(data);
    ssh::fields(data);
    if let Ok(text) = std::str::from_utf8(data) {
        pki::name(text);
        pki::pem(text);
        ssh::line(text);
    }
});
