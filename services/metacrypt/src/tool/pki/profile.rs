//! `metacrypt pki profile`.

use clap::{ArgGroup, Subcommand};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call, prompt, view, write_out};
use serde_json::json;

use super::{
    At, Client, Key, Result, at, json, json_list, key_name,
    seconds::{length, seconds},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Shows the profiles that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
    },
    /// Shows a profile
    Show {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
    },
    /// Adds a profile, or replaces it as a whole
    Put(Box<Put>),
    /// Removes a profile; certificates by it stay as they are
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

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
}

impl Put {
    fn request(&self) -> pb::PutPkiProfileRequest {
        let At { mount, name } = self.profile.clone();
        let keys = self
            .key
            .iter()
            .map(|key| pb::CertificateKey::from(*key).into());
        let profile = pb::PkiProfile {
            name: name.clone(),
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
            ttl_s: self.ttl,
            max_ttl_s: self.max_ttl,
            acme: self.acme.then(|| pb::AcmeRules {
                description: self.acme_description.clone(),
                networks: self.acme_network.clone(),
            }),
        };
        pb::PutPkiProfileRequest {
            mount,
            name,
            profile: Some(profile),
        }
    }
}

impl ProfileCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let profile = match self {
            Self::List { mount } => {
                let (mut profiles, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListPkiProfilesRequest {
                        mount: mount.clone(),
                        after,
                        limit: 0,
                    };
                    let page = call(pki.list_profiles(request)).await?;
                    profiles.extend(page.profiles);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let row = |profile: &pb::PkiProfile| {
                    let names = names(profile);
                    let most = length(profile.max_ttl_s);
                    vec![
                        profile.name.clone(),
                        profile.issuer.clone(),
                        names,
                        usage(profile),
                        most,
                    ]
                };
                let rows = profiles.iter().map(row).collect();
                let header = ["PROFILE", "ISSUER", "NAMES", "FOR", "AT MOST"];
                let empty = format!("there is no profile in {mount} that you may read");
                let value = json_list("PkiProfile", &profiles)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { profile } => {
                let At { mount, name } = profile.clone();
                call(pki.get_profile(pb::GetPkiProfileRequest { mount, name })).await?
            }
            Self::Put(put) => call(pki.put_profile(put.request())).await?,
            Self::Delete { profile, yes } => {
                let At { mount, name } = profile.clone();
                prompt::confirm(&format!("the profile {mount}/{name} will be removed"), *yes)?;
                let sentence = format!("{mount}/{name} is removed");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(pki.delete_profile(pb::DeletePkiProfileRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("PkiProfile", &profile)?)?);
        }
        let keys: Vec<_> = profile.key_algorithms().map(key_name).collect();
        let acme = match &profile.acme {
            None => "no".to_owned(),
            Some(rules) if rules.networks.is_empty() => "yes".to_owned(),
            Some(rules) => format!("yes, also in {}", rules.networks.join(" ")),
        };
        let rows = [
            ("profile", profile.name.clone()),
            ("issuer", profile.issuer.clone()),
            ("names", names(&profile)),
            ("wildcards", view::yes(profile.wildcards)),
            ("for", usage(&profile)),
            ("keys", view::names(&keys)),
            ("common name", view::yes(profile.common_name)),
            ("ACME", acme),
            ("valid for", length(profile.ttl_s)),
            ("at most", length(profile.max_ttl_s)),
        ];
        Ok(write_out(&view::lines(&rows))?)
    }
}

fn names(profile: &pb::PkiProfile) -> String {
    let exact = [&profile.dns_names, &profile.ip_networks, &profile.uris];
    let exact = exact.into_iter().flatten().cloned();
    let below = profile.dns_suffixes.iter().chain(&profile.uri_prefixes);
    let below = below.map(|name| format!("(below {name})"));
    view::text(&exact.chain(below).collect::<Vec<_>>().join(" "))
}

fn usage(profile: &pb::PkiProfile) -> String {
    let parts = [(profile.server, "servers"), (profile.client, "clients")];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    parts.collect::<Vec<_>>().join(" and ")
}
