//! Profiles: what a certificate may say.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mcdsl::{audit::Detail, policy::Name};
use serde::{Deserialize, Serialize};

use super::{
    authority::Kind,
    key::{KeyType, SubjectKey},
    principal::{Allowed, Principal},
};
use crate::engine::EngineError;

/// Most entries of a profile's list, and most principals of a certificate.
pub(super) const MAX_ENTRIES: usize = 64;
/// Longest command.
const MAX_COMMAND: usize = 1024;
/// Shortest time that a certificate is valid.
const MIN_TTL_S: u64 = 60;
/// Longest time of a user's: 366 days.
const MAX_USER_TTL_S: u64 = 366 * 24 * 60 * 60;
/// Longest time of a host's: five of those.
const MAX_HOST_TTL_S: u64 = 5 * MAX_USER_TTL_S;

/// What a user's certificate permits beside to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Extension {
    PermitPty,
    PermitPortForwarding,
    PermitAgentForwarding,
    PermitX11Forwarding,
    PermitUserRc,
    NoTouchRequired,
}

impl Extension {
    /// As OpenSSH calls it.
    fn name(self) -> &'static str {
        match self {
            Self::PermitPty => "permit-pty",
            Self::PermitPortForwarding => "permit-port-forwarding",
            Self::PermitAgentForwarding => "permit-agent-forwarding",
            Self::PermitX11Forwarding => "permit-X11-forwarding",
            Self::PermitUserRc => "permit-user-rc",
            Self::NoTouchRequired => "no-touch-required",
        }
    }
}

/// Options or extensions by name; an empty text is a flag.
pub(super) type Options = BTreeMap<String, String>;

/// A profile, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) principals: Vec<Allowed>,
    pub(super) extensions: BTreeSet<Extension>,
    /// None: from anywhere.
    pub(super) source_addresses: Vec<IpNet>,
    pub(super) force_command: Option<String>,
    pub(super) verify_required: bool,
    pub(super) ttl_s: u64,
    pub(super) max_ttl_s: u64,
    pub(super) key_types: BTreeSet<KeyType>,
}

fn field(name: &str, why: impl std::fmt::Display) -> EngineError {
    EngineError::field(name, why)
}

fn bounded(field: &str, entries: usize) -> Result<(), EngineError> {
    if entries > MAX_ENTRIES {
        let why = format!("at most {MAX_ENTRIES} entries, not {entries}");
        return Err(EngineError::field(field, why));
    }
    Ok(())
}

impl Profile {
    /// Whether it makes sense: what is stored was looked at.
    ///
    /// # Errors
    /// Which field does not.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.principals.is_empty() {
            return Err(field(
                "principals",
                "empty; say which principals may be asked for",
            ));
        }
        bounded("principals", self.principals.len())?;
        bounded("source_addresses", self.source_addresses.len())?;
        if let Some(at) = self.principals.iter().position(|a| a.kind() != self.kind) {
            let why = match self.kind {
                Kind::User => "`below` and hosts are of a profile for hosts",
                Kind::Host => "`account` is of a profile for users",
            };
            return Err(field(&format!("principals[{at}]"), why));
        }
        if self.kind == Kind::Host {
            let users = "of a profile for users; OpenSSH knows none for hosts";
            for (said, name) in [
                (!self.extensions.is_empty(), "extensions"),
                (!self.source_addresses.is_empty(), "source_addresses"),
                (self.force_command.is_some(), "force_command"),
                (self.verify_required, "verify_required"),
            ] {
                if said {
                    return Err(field(name, users));
                }
            }
        }
        if let Some(command) = &self.force_command {
            let good = command.len() <= MAX_COMMAND && !command.chars().any(char::is_control);
            if !good || command.trim().is_empty() {
                let why = format!("one line of at most {MAX_COMMAND} bytes, or none");
                return Err(field("force_command", why));
            }
        }
        if self.key_types.is_empty() {
            return Err(field(
                "key_types",
                "empty; say which types of keys are signed",
            ));
        }
        let hardware = self.key_types.iter().all(|t| t.is_in_hardware());
        if self.verify_required && !hardware {
            let why = "only security keys verify: say SK key_types alone";
            return Err(field("verify_required", why));
        }
        let longest = match self.kind {
            Kind::User => MAX_USER_TTL_S,
            Kind::Host => MAX_HOST_TTL_S,
        };
        if !(MIN_TTL_S..=longest).contains(&self.max_ttl_s) {
            return Err(field(
                "max_ttl_s",
                format!("{MIN_TTL_S} to {longest} seconds"),
            ));
        }
        if !(MIN_TTL_S..=self.max_ttl_s).contains(&self.ttl_s) {
            let why = format!("{MIN_TTL_S} to {} seconds (max_ttl_s)", self.max_ttl_s);
            return Err(field("ttl_s", why));
        }
        Ok(())
    }

    /// What the log has of it: who may be whom by it, and for how long.
    pub(super) fn detail(&self) -> Detail {
        let principals: Vec<_> = self.principals.iter().map(ToString::to_string).collect();
        let networks: Vec<_> = self.source_addresses.iter().map(IpNet::to_string).collect();
        let key_types: Vec<_> = self.key_types.iter().map(ToString::to_string).collect();
        let detail = Detail::new()
            .text("kind", self.kind.name())
            .list("principals", principals.iter().map(String::as_str))
            .number(
                "max_ttl_s",
                i64::try_from(self.max_ttl_s).unwrap_or(i64::MAX),
            )
            .list("key_types", key_types.iter().map(String::as_str));
        if self.kind == Kind::Host {
            return detail;
        }
        let detail = detail
            .list("extensions", self.extensions.iter().map(|e| e.name()))
            .list("source_addresses", networks.iter().map(String::as_str))
            .flag("verify_required", self.verify_required);
        match &self.force_command {
            Some(command) => detail.text("force_command", command),
            None => detail,
        }
    }

    /// The critical options of its certificates, exactly.
    pub(super) fn critical_options(&self) -> Options {
        let mut options = Options::new();
        if let Some(command) = &self.force_command {
            options.insert("force-command".to_owned(), command.clone());
        }
        if !self.source_addresses.is_empty() {
            let networks: Vec<_> = self.source_addresses.iter().map(IpNet::to_string).collect();
            options.insert("source-address".to_owned(), networks.join(","));
        }
        if self.verify_required {
            options.insert("verify-required".to_owned(), String::new());
        }
        options
    }

    /// The extensions of its certificates, exactly.
    pub(super) fn extensions(&self) -> Options {
        let flag = |extension: &Extension| (extension.name().to_owned(), String::new());
        self.extensions.iter().map(flag).collect()
    }

    /// Whether a caller of this name may have all of these, of which there is one at least.
    pub(super) fn allows_all(
        &self,
        principals: &BTreeSet<Principal>,
        caller: &Name,
    ) -> Result<(), EngineError> {
        if principals.is_empty() {
            let why =
                "empty; a certificate without a principal would be for all: say whom it is for";
            return Err(EngineError::field("principals", why));
        }
        bounded("principals", principals.len())?;
        for principal in principals {
            let mut allowed = self.principals.iter();
            if !allowed.any(|allowed| allowed.allows(principal, caller)) {
                let all: Vec<_> = self.principals.iter().map(ToString::to_string).collect();
                let why = format!(
                    "the profile does not allow {:?}; it allows {}",
                    principal.to_string(),
                    all.join(", ")
                );
                return Err(EngineError::field("principals", why));
            }
        }
        Ok(())
    }

    /// Whether keys of its type are signed.
    pub(super) fn takes(&self, key: &SubjectKey) -> Result<(), EngineError> {
        if self.key_types.contains(&key.key_type()) {
            return Ok(());
        }
        let taken: Vec<_> = self.key_types.iter().map(ToString::to_string).collect();
        let why = format!("{} is not taken; {} is", key.key_type(), taken.join(" or "));
        Err(EngineError::field("public_key", why))
    }

    /// How long a certificate is valid if a request says this; 0: as the profile says.
    pub(super) fn ttl(&self, asked_s: u64) -> Result<u64, EngineError> {
        match asked_s {
            0 => Ok(self.ttl_s),
            asked_s if (MIN_TTL_S..=self.max_ttl_s).contains(&asked_s) => Ok(asked_s),
            _ => {
                let why = format!(
                    "{MIN_TTL_S} to {} seconds, or nothing (as the profile says)",
                    self.max_ttl_s
                );
                Err(EngineError::field("ttl_s", why))
            }
        }
    }
}
