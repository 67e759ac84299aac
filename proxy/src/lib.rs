//! mc-proxy: the node's ingress.
//!
//! The kernel filters ([`firewall`]), userland reads the ClientHello ([`client_hello`]), the route table in
//! the kernel ([`routes`]) says where to, and an engine ([`relay`]) moves the bytes.

pub mod client_hello;
pub mod firewall;
pub mod geoip;
pub mod hostname;
pub mod kernel;
pub mod proxy_protocol;
pub mod relay;
pub mod routes;
pub mod spec;
pub mod store;
