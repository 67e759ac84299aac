//! Requests of programs, REST's and gRPC's (`mc_services_fuzz::rest`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::rest;

/// Deeper than any parser goes on its stack.
const DEEP: usize = 100_000;

fuzz_target!(|data: &[u8]| {
    let [number, length, rest @ ..] = data else {
        return;
    };
    let (text, body) = rest.split_at(rest.len().min(usize::from(length & 7)));
    let text = String::from_utf8_lossy(text);
    rest::request(&text, u32::from(*number), body);
    rest::frames(usize::from(*number), body);
    // Seldom: it takes longer than all else.
    if body.len() == 3 {
        for (open, close) in [(r#"{"below":["#, "]}"), ("[", "]"), (r#"{"a":"#, "}")] {
            let deep = [open.repeat(DEEP), close.repeat(DEEP)].concat();
            let field = |name: &str| format!(r#"{{"{name}":{deep}}}"#);
            rest::request("", 0, field("tree").as_bytes());
            rest::request("", 0, field("any_json").as_bytes());
        }
    }
});
