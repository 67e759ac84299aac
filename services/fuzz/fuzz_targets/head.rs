//! What a request's head says of who asks, whom, and from which page (`mc_services_fuzz::head`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::head;

fuzz_target!(|data: &[u8]| {
    head::tokens(data);
    head::hosts(data);
    head::origins(data);
});
