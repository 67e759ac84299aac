//! Profiles: what certificates may be, whoever asks for one.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};

use super::{
    constraints::Outside,
    issuer::Issuer,
    name::{AltName, DnsName, SpiffeId},
    public_key::KeyAlgorithm,
};

/// Most entries of each list.
pub(crate) const MAX_ENTRIES: usize = 1000;
/// Longest life of a leaf: ten years.
pub(crate) const MAX_TTL_S: u64 = 10 * 365 * 24 * 60 * 60;
/// Characters of what clients are told of one.
const MAX_DESCRIPTION: usize = 256;
/// Shortest.
pub(crate) const MIN_TTL_S: u64 = 60;

/// How ACME's clients show that they control a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcmeRules {
    /// What they are told that the profile is for.
    pub(crate) description: String,
    /// Networks beside the public ones in which names may be looked at.
    pub(crate) networks: BTreeSet<IpNet>,
}

/// What certificates of a kind may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Who signs them: an issuer of the mount.
    pub(crate) issuer: String,
    /// These names.
    pub(crate) dns_names: BTreeSet<DnsName>,
    /// Names below these, at any depth; not these.
    pub(crate) dns_suffixes: BTreeSet<DnsName>,
    /// Whether `*.` may stand before a suffix, or before what is below one.
    pub(crate) wildcards: bool,
    pub(crate) ip_networks: BTreeSet<IpNet>,
    /// These IDs.
    pub(crate) uris: BTreeSet<SpiffeId>,
    /// IDs below these.
    pub(crate) uri_prefixes: BTreeSet<SpiffeId>,
    /// For TLS servers.
    pub(crate) server: bool,
    /// For TLS clients.
    pub(crate) client: bool,
    pub(crate) key_algorithms: BTreeSet<KeyAlgorithm>,
    /// The first name is the subject's common name, for who looks nowhere else.
    pub(crate) common_name: bool,
    /// Seconds of life, if a request says nothing.
    pub(crate) ttl_s: u64,
    /// At most.
    pub(crate) max_ttl_s: u64,
    /// `None`: ACME's clients may not order them.
    #[serde(default)]
    pub(crate) acme: Option<AcmeRules>,
}

/// Why a profile is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProfileFault {
    #[error(
        "names: it allows none; say dns_names, dns_suffixes, ip_networks, uris or uri_prefixes"
    )]
    NoNames,
    #[error("{0}: more than {MAX_ENTRIES} entries")]
    TooMany(&'static str),
    #[error("{0}: {1} has a star; wildcards are allowed by `wildcards` and a suffix")]
    Star(&'static str, DnsName),
    #[error("wildcards: there is no suffix that they could stand before; say dns_suffixes")]
    NoSuffix,
    #[error("server, client: what they are for; say one or both")]
    NoUsage,
    #[error("key_algorithms: none; say which keys are certified")]
    NoAlgorithm,
    #[error("max_ttl_s: a minute to ten years ({MIN_TTL_S} to {MAX_TTL_S} seconds)")]
    MaxTtl,
    #[error("ttl_s: a minute ({MIN_TTL_S} seconds) to max_ttl_s")]
    Ttl,
    #[error(
        "issuer: {0:?} is a root, which signs issuers alone; make an issuer below it and name that"
    )]
    Root(String),
    #[error("{0}: {1}; such certificates would all be refused")]
    Outside(&'static str, Outside),
    #[error(
        "{0}: certificates of the issuer {1:?} are not for that (its extended key usage); name another issuer"
    )]
    Purpose(&'static str, String),
    #[error(
        "acme.description: at most {MAX_DESCRIPTION} characters, none of them a control character"
    )]
    Description,
}

impl Profile {
    /// Whether it is one.
    pub(crate) fn check(&self) -> Result<(), ProfileFault> {
        let lengths = [
            ("dns_names", self.dns_names.len()),
            ("dns_suffixes", self.dns_suffixes.len()),
            ("ip_networks", self.ip_networks.len()),
            ("uris", self.uris.len()),
            ("uri_prefixes", self.uri_prefixes.len()),
        ];
        if let Some((field, _)) = lengths.iter().find(|(_, n)| *n > MAX_ENTRIES) {
            return Err(ProfileFault::TooMany(field));
        }
        if lengths.iter().all(|(_, n)| *n == 0) {
            return Err(ProfileFault::NoNames);
        }
        for (field, names) in [
            ("dns_names", &self.dns_names),
            ("dns_suffixes", &self.dns_suffixes),
        ] {
            if let Some(name) = names.iter().find(|name| name.is_wildcard()) {
                return Err(ProfileFault::Star(field, name.clone()));
            }
        }
        if self.wildcards && self.dns_suffixes.is_empty() {
            return Err(ProfileFault::NoSuffix);
        }
        if !self.server && !self.client {
            return Err(ProfileFault::NoUsage);
        }
        if self.key_algorithms.is_empty() {
            return Err(ProfileFault::NoAlgorithm);
        }
        if !(MIN_TTL_S..=MAX_TTL_S).contains(&self.max_ttl_s) {
            return Err(ProfileFault::MaxTtl);
        }
        if !(MIN_TTL_S..=self.max_ttl_s).contains(&self.ttl_s) {
            return Err(ProfileFault::Ttl);
        }
        let acme = self.acme.as_ref();
        let description = acme.map_or("", |acme| &acme.description);
        if description.chars().count() > MAX_DESCRIPTION
            || description.chars().any(char::is_control)
        {
            return Err(ProfileFault::Description);
        }
        if acme.is_some_and(|acme| acme.networks.len() > MAX_ENTRIES) {
            return Err(ProfileFault::TooMany("acme.networks"));
        }
        Ok(())
    }

    /// Whether certificates may be for this name.
    pub(crate) fn allows(&self, name: &AltName) -> bool {
        match name {
            // All that it stands for is below what stands behind the star.
            AltName::Dns(name) if name.is_wildcard() => {
                let within = |suffix| name.is_within(suffix);
                self.wildcards && self.dns_suffixes.iter().any(within)
            }
            AltName::Dns(name) => {
                let below = |suffix| name.is_below(suffix);
                self.dns_names.contains(name) || self.dns_suffixes.iter().any(below)
            }
            AltName::Ip(address) => self.ip_networks.iter().any(|net| net.contains(address)),
            AltName::Uri(id) => {
                let below = |prefix| id.is_below(prefix);
                self.uris.contains(id) || self.uri_prefixes.iter().any(below)
            }
        }
    }

    /// The names that it allows, some of them, for who asked for others.
    pub(crate) fn allowed(&self) -> String {
        let mut all = Vec::new();
        add(&mut all, "", &self.dns_names);
        add(&mut all, "names below ", &self.dns_suffixes);
        if self.wildcards {
            all.push("wildcards there".to_owned());
        }
        add(&mut all, "addresses of ", &self.ip_networks);
        add(&mut all, "", &self.uris);
        add(&mut all, "SPIFFE IDs below ", &self.uri_prefixes);
        all.join("; ")
    }

    /// That its issuer may sign what it allows: no profile is of certificates that nobody makes.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn fits(&self, under: &Issuer) -> Result<(), ProfileFault> {
        if under.is_root() {
            return Err(ProfileFault::Root(self.issuer.clone()));
        }
        let outside = |field: &'static str| move |why: Outside| ProfileFault::Outside(field, why);
        for (field, names) in [
            ("dns_names", &self.dns_names),
            ("dns_suffixes", &self.dns_suffixes),
        ] {
            for name in names {
                let permitted = under.permits(&AltName::Dns(name.clone()));
                permitted.map_err(outside(field))?;
            }
        }
        for net in &self.ip_networks {
            under.permits_net(*net).map_err(outside("ip_networks"))?;
        }
        for (field, ids) in [("uris", &self.uris), ("uri_prefixes", &self.uri_prefixes)] {
            for id in ids {
                let permitted = under.permits(&AltName::Uri(id.clone()));
                permitted.map_err(outside(field))?;
            }
        }
        for (field, wanted, purpose) in [
            ("server", self.server, ID_KP_SERVER_AUTH),
            ("client", self.client, ID_KP_CLIENT_AUTH),
        ] {
            if wanted && !under.may_be_for(purpose) {
                return Err(ProfileFault::Purpose(field, self.issuer.clone()));
            }
        }
        Ok(())
    }

    /// The longest life.
    pub(crate) fn max_ttl(&self) -> Duration {
        Duration::from_secs(self.max_ttl_s)
    }
}

/// Most entries of a list that are told of.
const TOLD: usize = 5;

fn add<T: ToString>(to: &mut Vec<String>, what: &str, all: &BTreeSet<T>) {
    let mut texts: Vec<_> = all.iter().take(TOLD).map(ToString::to_string).collect();
    if all.len() > TOLD {
        texts.push(format!("{} others", all.len() - TOLD));
    }
    if !texts.is_empty() {
        to.push(format!("{what}{}", texts.join(", ")));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn set<T: std::str::FromStr + Ord>(texts: &[&str]) -> BTreeSet<T> {
        let parse = |text: &&str| text.parse().ok().unwrap();
        texts.iter().map(parse).collect()
    }

    pub(in super::super) fn profile() -> Profile {
        Profile {
            issuer: "services".to_owned(),
            dns_names: set(&["exact.example", "localhost"]),
            dns_suffixes: set(&["svc.example"]),
            wildcards: false,
            ip_networks: set(&["10.0.0.0/8"]),
            uris: set(&["spiffe://example/one"]),
            uri_prefixes: set(&["spiffe://example/below"]),
            server: true,
            client: false,
            key_algorithms: BTreeSet::from([KeyAlgorithm::EcdsaP256]),
            common_name: false,
            ttl_s: 3600,
            max_ttl_s: 86400,
            acme: None,
        }
    }

    #[test]
    fn names_are_allowed_exactly_or_below() {
        let none = profile();
        let stars = Profile {
            wildcards: true,
            ..profile()
        };
        for (name, wanted, with_stars) in [
            ("exact.example", true, true),
            ("a.exact.example", false, false),
            ("*.exact.example", false, false),
            ("svc.example", false, false),
            ("a.svc.example", true, true),
            ("a.b.svc.example", true, true),
            ("badsvc.example", false, false),
            ("*.svc.example", false, true),
            ("*.a.svc.example", false, true),
            ("*.example", false, false),
            ("10.1.2.3", true, true),
            ("11.1.2.3", false, false),
            ("::ffff:10.1.2.3", true, true),
            ("spiffe://example/one", true, true),
            ("spiffe://example/one/two", false, false),
            ("spiffe://example/below", false, false),
            ("spiffe://example/below/a", true, true),
            ("spiffe://example/belowa", false, false),
        ] {
            let name: AltName = name.parse().unwrap();
            assert_eq!(
                (none.allows(&name), stars.allows(&name)),
                (wanted, with_stars),
                "{name}"
            );
        }
    }

    #[test]
    fn what_allows_nothing_or_too_much_is_none() {
        type Change = fn(&mut Profile);
        let change: [(Change, ProfileFault); 9] = [
            (
                |p| {
                    p.dns_names.clear();
                    p.dns_suffixes.clear();
                    p.ip_networks.clear();
                    p.uris.clear();
                    p.uri_prefixes.clear();
                },
                ProfileFault::NoNames,
            ),
            (
                |p| p.dns_suffixes = set(&["*.example"]),
                ProfileFault::Star("dns_suffixes", "*.example".parse().unwrap()),
            ),
            (
                |p| (p.wildcards, p.dns_suffixes) = (true, BTreeSet::new()),
                ProfileFault::NoSuffix,
            ),
            (|p| p.server = false, ProfileFault::NoUsage),
            (|p| p.key_algorithms.clear(), ProfileFault::NoAlgorithm),
            (|p| p.max_ttl_s = 59, ProfileFault::MaxTtl),
            (|p| p.max_ttl_s = MAX_TTL_S + 1, ProfileFault::MaxTtl),
            (|p| p.ttl_s = p.max_ttl_s + 1, ProfileFault::Ttl),
            (|p| p.ttl_s = 0, ProfileFault::Ttl),
        ];
        assert_eq!(profile().check(), Ok(()));
        for (change, wanted) in change {
            let mut changed = profile();
            change(&mut changed);
            assert_eq!(changed.check(), Err(wanted));
        }
    }
}
