//! What pages read of a request (`mc_services_fuzz::web`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::web;

fuzz_target!(|data: &[u8]| {
    web::cookies(data);
    web::local(data);
    web::origin(data);
    web::tokens(data);
});
