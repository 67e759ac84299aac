//! What people type to open Metacrypt's seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::shares;

fuzz_target!(|data: &[u8]| {
    let (first, second) = data.split_at(data.len() / 2);
    shares::slips(first, second);
    shares::chosen(first, second);
    if let Ok(text) = std::str::from_utf8(data) {
        shares::anything(text);
    }
});
