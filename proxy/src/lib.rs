//! mc-proxy: the node's ingress.
//!
//! The kernel filters ([`firewall`]), userland reads the ClientHello ([`client_hello`]), the route table in
//! the kernel ([`routes`]) says where to, and an engine ([`relay`]) moves the bytes. [`control`] holds it all
//! together and is what the [`admin`] API speaks to; [`start`] builds it.

pub mod admin;
pub mod bans;
pub mod client_hello;
pub mod config;
pub mod connection;
pub mod control;
pub mod firewall;
pub mod geoip;
pub mod health;
pub mod http;
pub mod kernel;
pub mod listener;
mod memory;
pub mod metrics;
pub mod preflight;
pub mod relay;
pub mod router;
pub mod routes;
mod seed;
pub mod sources;
pub mod spec;
mod start;
pub mod stats;
pub mod store;
pub mod upgrade;
pub mod workers;

pub use mcdsl::{hostname, proxy_protocol};
pub use start::{Handle, StartError, start, start_from};
