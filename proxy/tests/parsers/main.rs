//! The parsers of hostile bytes against other implementations of the same specifications: tls-parser, rustls and
//! rustls-pki-types, ppp; and against the hellos of real clients. Each deliberate difference is named where it is
//! allowed for.

mod hello;
mod hello_mutated;
mod hostname;
mod proxy_header;
mod real_clients;
mod wire;
