//! SSH: certificates for those who log in and for machines, and lists of what is revoked.

mod api;
mod authority;
mod certificate;
mod inventory;
mod key;
mod krl;
mod message;
mod principal;
mod profile;
mod revoked;
#[cfg(test)]
mod sshd;
#[cfg(test)]
mod testing;
mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

use mc_proto::metacrypt::v1::ssh_server::SshServer;

use self::{
    authority::{Authority, Kind as Of},
    profile::Profile,
};
use super::{EngineError, Kind};
use crate::barrier::Items;

/// What is judged to sign.
const SIGN: &str = "ssh:sign";

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "ssh",
    description: "signs certificates for SSH, and publishes what is revoked of them",
    actions: &[
        "ssh:read-ca",
        "ssh:manage-ca",
        "ssh:read-profile",
        "ssh:write-profile",
        SIGN,
        "ssh:read-certificate",
        "ssh:revoke-certificate",
        "ssh:read-revocation",
        "ssh:write-revocation",
    ],
    routes: |routes, api| routes.add_service(SshServer::new(api.clone())),
};

/// Where profiles are stored, and what they are judged as.
const PROFILES: &str = "profiles";

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

fn profile_path(name: &str) -> String {
    format!("{PROFILES}/{name}")
}

/// The profile of this name.
fn profile(items: &Items<'_>, name: &str) -> Result<Profile, EngineError> {
    let found = items.get(&profile_path(name))?;
    found.ok_or_else(|| EngineError::NotFound("profile", name.to_owned()))
}

fn authority_path(of: Of) -> String {
    format!("ca/{}", of.name())
}

/// An authority; without a key if none was made.
fn authority(items: &Items<'_>, of: Of) -> Result<Authority, EngineError> {
    Ok(items.get(&authority_path(of))?.unwrap_or_default())
}
