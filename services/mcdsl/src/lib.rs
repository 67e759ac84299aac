//! What the services share, from their configuration to their pages.
//!
//! Only what two services use lives here. Each module is one idiom, so that every service is configured,
//! started, watched and stopped alike; none of them knows a particular service.

#[cfg(feature = "service")]
pub mod archive;
#[cfg(feature = "service")]
pub mod audit;
#[cfg(feature = "service")]
pub mod auth;
#[cfg(feature = "service")]
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
#[cfg(feature = "service")]
mod dial;
pub mod hostname;
pub mod human;
#[cfg(feature = "service")]
pub mod policy;
pub mod proxy_protocol;
#[cfg(feature = "service")]
mod secret_file;
#[cfg(feature = "service")]
pub mod server;
#[cfg(feature = "web")]
pub mod service;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "web")]
pub mod web;
