//! OpenID Connect requests (`mc_services_fuzz::oidc`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::oidc;

fuzz_target!(|data: &[u8]| {
    oidc::request(data);
    oidc::verifier(data);
    oidc::redirect(data);
    oidc::basic(data);
});
