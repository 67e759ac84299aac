//! What the services share, from their configuration to their pages.
//!
//! What lives here is used by two services, or is the other half of what is: mc-proxy alone writes PROXY headers and looks at names of
//! certificates, and both belong to what all read. Each module is one idiom, so that every service is configured, started, watched and
//! stopped alike. The one service that is known here is MCIAS, since all others are its clients (`auth::client`, `web::sso`, `service`).

#[cfg(feature = "service")]
pub mod archive;
#[cfg(feature = "service")]
pub mod audit;
#[cfg(feature = "service")]
pub mod auth;
#[cfg(feature = "service")]
pub mod certificate;
pub mod cidr;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
#[cfg(feature = "service")]
mod dial;
pub mod files;
pub mod hostname;
pub mod human;
#[cfg(feature = "service")]
pub mod lock;
#[cfg(feature = "service")]
pub mod owner;
#[cfg(feature = "service")]
pub mod policy;
pub mod proxy_protocol;
#[cfg(feature = "service")]
pub mod restore;
#[cfg(feature = "service")]
mod secret_file;
#[cfg(feature = "service")]
pub mod server;
#[cfg(feature = "web")]
pub mod service;
pub mod shown;
pub mod shutdown;
pub mod telemetry;
pub mod turns;
#[cfg(feature = "web")]
pub mod web;
