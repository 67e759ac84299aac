//! The real daemon in a real network namespace: real clients on one side, real TLS backends on the other.
//!
//! ```text
//! client ns 10.9.1.2, fd09:1::2 -- c0 [node ns: mc-proxy] b0 -- backend ns 10.9.2.2, fd09:2::2
//! ```

mod attacks;
mod backends;
mod clients;
mod control;
mod dashboard;
mod engines;
mod explain;
mod http;
mod in_process;
mod kill_nine;
mod limits;
mod mcias_bans;
mod proxy_header;
mod recovery;
mod relay;
mod scale;
mod status;
mod unit;
mod upgrade;
mod world;
