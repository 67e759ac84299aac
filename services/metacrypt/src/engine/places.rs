//! On what actions are judged, as rules and people name it: `*` in the place of the mount and of each name.
//!
//! Engines judge where they act; this is what they do told once, so that a rule that could never apply is refused, and who writes one is told where.

use super::actions;

/// Each action, and patterns of what it is judged on.
const PLACES: &[(&str, &[&str])] = &[
    ("mount:read", &["*"]),
    ("audit:read", &["system/audit"]),
    ("pki:create-issuer", &[ISSUERS]),
    ("pki:update-issuer", &[ISSUERS]),
    ("pki:delete-issuer", &[ISSUERS]),
    ("pki:set-default", &["*/default"]),
    ("pki:set-urls", &["*/urls"]),
    ("pki:put-profile", &[PROFILES, ISSUERS]),
    ("pki:delete-profile", &[PROFILES]),
    ("pki:issue", &[PROFILES]),
    ("pki:sign", &[PROFILES]),
    ("pki:renew", &[PROFILES]),
    ("pki:revoke", &[PROFILES, ISSUERS]),
    ("pki:set-acme", &["*/acme"]),
    ("pki:create-acme-key", &["*/acme"]),
    ("pki:delete-acme-key", &["*/acme/keys/*"]),
    (
        "pki:read",
        &[PROFILES, ISSUERS, "*/urls", "*/acme", "*/acme/keys/*"],
    ),
    ("ssh:read", &[CAS, PROFILES, REVOCATIONS]),
    ("ssh:create-ca-key", &[CAS]),
    ("ssh:use-ca-key", &[CAS]),
    ("ssh:delete-ca-key", &[CAS]),
    ("ssh:put-profile", &[PROFILES, CAS]),
    ("ssh:delete-profile", &[PROFILES, CAS]),
    ("ssh:sign", &[PROFILES]),
    ("ssh:revoke", &[PROFILES]),
    ("ssh:create-revocation", &[REVOCATIONS]),
    ("ssh:delete-revocation", &[REVOCATIONS]),
    ("transit:create", &[KEYS]),
    ("transit:read", &[KEYS]),
    ("transit:update", &[KEYS]),
    ("transit:rotate", &[KEYS]),
    ("transit:trim", &[KEYS]),
    ("transit:delete", &[KEYS]),
    ("transit:export", &[KEYS]),
    ("transit:encrypt", &[KEYS]),
    ("transit:decrypt", &[KEYS]),
    ("transit:rewrap", &[KEYS]),
    ("transit:datakey", &[KEYS]),
    ("transit:datakey-wrapped", &[KEYS]),
    ("transit:sign", &[KEYS]),
    ("transit:verify", &[KEYS]),
    ("transit:random", &["*/random"]),
    ("user:create", &[USERS]),
    ("user:rotate", &[USERS]),
    ("user:trim", &[USERS]),
    ("user:read", &[USERS]),
    ("user:delete", &[USERS]),
    ("user:seal", &[USERS]),
    ("user:open", &[USERS]),
];

const ISSUERS: &str = "*/issuers/*";
const PROFILES: &str = "*/profiles/*";
const CAS: &str = "*/ca/*";
const REVOCATIONS: &str = "*/revocations/*";
const KEYS: &str = "*/keys/*";
const USERS: &str = "*/users/*";

/// All actions, each with what it is judged on.
pub(crate) fn places() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    actions().map(|action| (action.0, of(action.0)))
}

/// What an action is judged on.
fn of(action: &str) -> &'static [&'static str] {
    let found = PLACES.iter().find(|(known, _)| *known == action);
    found.map_or(&["**"], |(_, on)| on)
}

/// As people read it: `MOUNT/keys/NAME`.
pub(crate) fn spelled(pattern: &str) -> String {
    match pattern.strip_prefix('*') {
        Some(rest) => format!("MOUNT{}", rest.replace('*', "NAME")),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_action_has_its_places() {
        let known: BTreeSet<_> = actions().map(|action| action.0).collect();
        let told: BTreeSet<_> = PLACES.iter().map(|(action, _)| *action).collect();
        assert_eq!(known, told);
        assert_eq!(told.len(), PLACES.len(), "each once");
        assert_eq!(spelled("*/acme/keys/*"), "MOUNT/acme/keys/NAME");
        assert_eq!(spelled("*"), "MOUNT");
        assert_eq!(spelled("system/audit"), "system/audit");
    }
}
