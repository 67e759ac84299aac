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
mod public;
mod revoked;
#[cfg(test)]
mod sshd;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wire;

use std::{sync::Arc, time::Duration};

use mc_proto::metacrypt::v1::ssh_server::SshServer;

use self::{
    authority::{Authority, Kind as Of},
    profile::Profile,
};
use super::{EngineError, Job, Kind, seconds};
use crate::{
    barrier::{Items, Mount, SealError},
    entered::Entered,
};

/// What may be done.
pub(crate) mod action {
    actions! {
        ALL:
        // On whatever is read: `ca/<kind>`, `profiles/<name>` (also of what is found by its serial number), `revocations/<id>`.
        READ = "ssh:read",
        // On `ca/<kind>`.
        CREATE_CA_KEY = "ssh:create-ca-key",
        USE_CA_KEY = "ssh:use-ca-key",
        DELETE_CA_KEY = "ssh:delete-ca-key",
        // On `profiles/<name>`, and on `ca/<kind>` of its kind.
        PUT_PROFILE = "ssh:put-profile",
        DELETE_PROFILE = "ssh:delete-profile",
        // On `profiles/<name>`, also of what is found by its serial number.
        SIGN = "ssh:sign",
        REVOKE = "ssh:revoke",
        // On `revocations/<id>`.
        CREATE_REVOCATION = "ssh:create-revocation",
        DELETE_REVOCATION = "ssh:delete-revocation",
    }
}

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "ssh",
    description: "signs certificates for SSH, and publishes what is revoked of them",
    actions: action::ALL,
    routes: |routes, api| routes.add_service(SshServer::new(api.clone())),
    http: public::router,
    // OpenSSH reads no signed list: TLS vouches for it.
    public: |_| axum::Router::new(),
    keeps: kept,
    job: Some(Job {
        name: "ssh.tidy",
        every: Duration::from_secs(3600),
        run: |at| Box::pin(tidy(at)),
    }),
};

/// Authorities whose keys hosts may trust.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    for of in [Of::User, Of::Host] {
        if !authority(items, of)?.keys.is_empty() {
            return Ok(Some(format!("the {} authority's keys", of.name())));
        }
    }
    Ok(None)
}

/// Drops certificates that expired long ago.
async fn tidy(at: Arc<Entered>) -> Result<bool, EngineError> {
    let now_s = seconds(at.sure_now());
    let drop = move |items: &Items<'_>, _: &Entered| inventory::drop_old(items, now_s);
    let then = |dropped: inventory::Dropped, at: &Entered| match dropped.revoked {
        true => published(dropped.more, at),
        false => Ok(dropped.more),
    };
    at.keep_then(drop, then).await?
}

/// What was committed is what is published.
fn published<T>(done: T, at: &Entered) -> Result<T, EngineError> {
    Memory::of(at.mount())?.published.change();
    Ok(done)
}

/// What is kept in memory of a mount.
#[derive(Default)]
struct Memory {
    published: revoked::Published,
    serials: inventory::Serials,
}

impl Memory {
    fn of(mount: &Mount) -> Result<&Self, EngineError> {
        let memory: Option<&Self> = mount.memory();
        Ok(memory.ok_or_else(|| SealError::NoMount(mount.name().to_owned()))?)
    }
}

/// Where profiles are stored, and what they are judged as.
const PROFILES: &str = "profiles";
/// Where authorities are, for stores and rules.
const CA: &str = "ca";

fn profile_path(name: &str) -> String {
    format!("{PROFILES}/{name}")
}

/// The profile of this name.
fn profile(items: &Items<'_>, name: &str) -> Result<Profile, EngineError> {
    let found = items.get(&profile_path(name))?;
    found.ok_or_else(|| EngineError::NotFound("profile", name.to_owned()))
}

fn authority_path(of: Of) -> String {
    format!("{CA}/{}", of.name())
}

/// An authority; without a key if none was made.
fn authority(items: &Items<'_>, of: Of) -> Result<Authority, EngineError> {
    Ok(items.get(&authority_path(of))?.unwrap_or_default())
}
