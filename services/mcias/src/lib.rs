//! MCIAS: identity and access, the platform's root of trust.

mod account;
mod api;
mod bans;
pub mod breached;
mod by;
pub mod config;
mod core;
mod device;
mod error;
mod factors;
mod gate;
pub mod guesses;
mod house;
mod hub;
mod init;
mod keys;
pub mod lock;
mod log;
mod login;
mod login_limit;
mod metrics;
pub mod name;
mod oidc;
mod pages;
mod passkey;
pub mod password;
mod policy;
mod program;
mod random;
mod readable;
mod recover;
mod redirect;
mod restore;
mod revocation;
mod schema;
pub mod seal;
mod service;
mod session;
mod shown;
pub mod sources;
mod standing;
mod start;
mod time;
mod token;
pub mod totp;

pub use error::Error;
pub use init::{InitError, Initialised, init};
pub use pages::admin_paths;
pub use program::program;
pub use recover::{RecoverError, Recovered, Recovery, recover};
pub use restore::{Restoration, RestoreError, Restored, restore};
pub use start::{Handle, StartError, check, start, start_by};

/// This service as tokens, the login policy and snapshots name it.
pub const SERVICE: &str = "mcias";
