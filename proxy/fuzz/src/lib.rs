//! What reads hostile bytes, without the daemon around it: the modules themselves, so that a target builds in seconds.

#[path = "../../src/client_hello.rs"]
pub mod client_hello;
#[path = "../../src/config.rs"]
pub mod config;
#[path = "../../src/http/response/mod.rs"]
pub mod http_response;
#[path = "../../src/http/strict/mod.rs"]
pub mod http_strict;
#[path = "../../src/spec/mod.rs"]
pub mod spec;

pub use mcdsl::{hostname, proxy_protocol};

/// From an .mmdb file to a table's rows.
#[path = "../../src/geoip"]
pub mod geoip {
    pub mod countries;
    pub mod reader;
    pub mod table;
}

/// Of the firewall, what the configuration asks.
#[path = "../../src/firewall/prefix.rs"]
pub mod firewall;
