//! What the services share: configuration, database, telemetry, shutdown, CLI output.
//!
//! Only what two services use lives here. Each module is one idiom, so that every service is configured,
//! started, watched and stopped alike; none of them knows a particular service.

pub mod archive;
pub mod audit;
pub mod auth;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod db;
pub mod hostname;
pub mod human;
pub mod policy;
pub mod proxy_protocol;
pub mod server;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "web")]
pub mod web;
