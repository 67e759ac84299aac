//! `metacrypt pki profile`.

use clap::ArgGroup;
use mc_proto::metacrypt::v1::{self as pb, pki_client::PkiClient};
use mcdsl::cli::{CommandLine, call, view};

use super::{
    At, Key, Result, at, key_name, profiles,
    seconds::{length, seconds},
};
use crate::tool::Authorized;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("usage").required(true).multiple(true).args(["for_server", "for_client"]))]
pub(crate) struct Put {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// Who signs: an issuer that is no root
    #[arg(long, value_name = "NAME")]
    issuer: String,
    /// This name; repeatable
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Names below this one, at any depth; repeatable
    #[arg(long, value_name = "DOMAIN")]
    below: Vec<String>,
    /// Names may begin with `*.`
    #[arg(long)]
    wildcards: bool,
    /// Addresses of this network; repeatable
    #[arg(long, value_name = "CIDR")]
    ip: Vec<String>,
    /// This SPIFFE ID; repeatable
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// SPIFFE IDs below this one; repeatable
    #[arg(long, value_name = "URI")]
    uri_below: Vec<String>,
    /// For TLS servers
    #[arg(long)]
    for_server: bool,
    /// For TLS clients
    #[arg(long)]
    for_client: bool,
    /// Keys that are certified; repeatable
    #[arg(long, value_enum, default_value = "ecdsa-p256")]
    key: Vec<Key>,
    /// The first name is the subject's common name too
    #[arg(long)]
    common_name: bool,
    /// Programs may ask for them by ACME
    #[arg(long)]
    acme: bool,
    /// What programs are told that it is for [default: its name]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        requires = "acme"
    )]
    acme_description: String,
    /// Names may be looked at in this network, beside public addresses; repeatable
    #[arg(long, value_name = "CIDR", requires = "acme")]
    acme_network: Vec<String>,
    /// How long a certificate is valid if its request does not say, like 90d [default: --max-ttl]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
    /// The longest that it may be
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl: u64,
    /// Does not ask before a profile is replaced
    #[arg(long)]
    yes: bool,
}

impl profiles::Put for Put {
    type Profile = pb::PkiProfile;

    fn at(&self) -> &At {
        &self.profile
    }

    fn yes(&self) -> bool {
        self.yes
    }

    fn profile(&self) -> pb::PkiProfile {
        let keys = self
            .key
            .iter()
            .map(|key| pb::CertificateKey::from(*key).into());
        pb::PkiProfile {
            name: self.profile.name.clone(),
            issuer: self.issuer.clone(),
            dns_names: self.dns.clone(),
            dns_suffixes: self.below.clone(),
            wildcards: self.wildcards,
            ip_networks: self.ip.clone(),
            uris: self.uri.clone(),
            uri_prefixes: self.uri_below.clone(),
            server: self.for_server,
            client: self.for_client,
            key_algorithms: keys.collect(),
            common_name: self.common_name,
            ttl_s: if self.ttl == 0 {
                self.max_ttl
            } else {
                self.ttl
            },
            max_ttl_s: self.max_ttl,
            acme: self.acme.then(|| pb::AcmeRules {
                description: self.acme_description.clone(),
                networks: self.acme_network.clone(),
            }),
        }
    }
}

profiles::profile_calls!(
    PkiClient,
    PkiProfile,
    ListPkiProfilesRequest,
    GetPkiProfileRequest,
    PutPkiProfileRequest,
    DeletePkiProfileRequest
);

impl profiles::Profile for pb::PkiProfile {
    const MESSAGE: &'static str = "PkiProfile";
    const HEADER: &'static [&'static str] = &["PROFILE", "ISSUER", "NAMES", "FOR", "AT MOST"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.issuer.clone(),
            names(self),
            usage(self),
            length(self.max_ttl_s),
        ]
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let acme = match &self.acme {
            None => "no".to_owned(),
            Some(rules) if rules.networks.is_empty() => "yes".to_owned(),
            Some(rules) => format!("yes, also in {}", rules.networks.join(" ")),
        };
        let description = self.acme.as_ref().map_or("", |acme| &acme.description);
        vec![
            ("profile", self.name.clone()),
            ("issuer", self.issuer.clone()),
            ("names", names(self)),
            ("wildcards", view::yes(self.wildcards)),
            ("for", usage(self)),
            ("keys", view::names(&keys(self))),
            ("common name", view::yes(self.common_name)),
            ("ACME", acme),
            ("ACME says", view::text(description)),
            ("valid for", length(self.ttl_s)),
            ("at most", length(self.max_ttl_s)),
        ]
    }

    fn command(&self, at: &str) -> CommandLine {
        let acme = self.acme.as_ref();
        CommandLine::new(&["metacrypt", "pki", "profile", "put", at])
            .option("issuer", &self.issuer)
            .options("dns", &self.dns_names)
            .options("below", &self.dns_suffixes)
            .flag("wildcards", self.wildcards)
            .options("ip", &self.ip_networks)
            .options("uri", &self.uris)
            .options("uri-below", &self.uri_prefixes)
            .flag("for-server", self.server)
            .flag("for-client", self.client)
            .options("key", keys(self))
            .flag("common-name", self.common_name)
            .flag("acme", acme.is_some())
            .option(
                "acme-description",
                acme.map_or("", |acme| &acme.description),
            )
            .options("acme-network", acme.iter().flat_map(|acme| &acme.networks))
            .option("ttl", &length(self.ttl_s))
            .option("max-ttl", &length(self.max_ttl_s))
    }
}

/// In one order, as the service has them.
fn keys(profile: &pb::PkiProfile) -> Vec<String> {
    let mut keys: Vec<_> = profile.key_algorithms().map(key_name).collect();
    keys.sort();
    keys
}

fn names(profile: &pb::PkiProfile) -> String {
    let exact = [&profile.dns_names, &profile.ip_networks, &profile.uris];
    let exact = exact.into_iter().flatten().cloned();
    let below = profile.dns_suffixes.iter().chain(&profile.uri_prefixes);
    let below = below.map(|name| format!("(below {name})"));
    let mut all: Vec<_> = exact.chain(below).collect();
    all.sort();
    view::text(&all.join(" "))
}

fn usage(profile: &pb::PkiProfile) -> String {
    let parts = [(profile.server, "servers"), (profile.client, "clients")];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    parts.collect::<Vec<_>>().join(" and ")
}
