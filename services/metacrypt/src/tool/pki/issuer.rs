//! `metacrypt pki issuer`.

use std::path::PathBuf;

use clap::{ArgGroup, Subcommand};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, read_private, view, write_out};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{
    At, Client, IssuedKey, MAX_PEM, Result, at, certificate::Reason, json, json_list, key_name,
    mount_name, read_text, removed, seconds::seconds, seen,
};

/// Bits of a mode that a key's file may not have: others may not read it.
const OTHERS: u32 = 0o077;

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Makes a root, which signs issuers alone
    CreateRoot(Create),
    /// Makes an issuer below a root, which signs certificates
    Create {
        #[command(flatten)]
        create: Create,
        /// The root
        #[arg(long, value_name = "NAME")]
        under: String,
        /// Certificates may be for this name and all below it; repeatable
        #[arg(long, value_name = "DOMAIN")]
        permit_dns: Vec<String>,
        /// Certificates may not be for this name and all below it; repeatable
        #[arg(long, value_name = "DOMAIN")]
        exclude_dns: Vec<String>,
        /// Certificates may be for addresses of this network; repeatable
        #[arg(long, value_name = "CIDR")]
        permit_ip: Vec<String>,
        /// Certificates may not be for addresses of this network; repeatable
        #[arg(long, value_name = "CIDR")]
        exclude_ip: Vec<String>,
    },
    /// Takes a CA that was made elsewhere
    Import {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// Its certificate, then those above it, the root last (PEM)
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// Its private key, not encrypted (PKCS #8 in PEM)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Shows the roots and issuers that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Shows an issuer, and its chain
    Show {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
    },
    /// Changes an issuer
    #[command(group = ArgGroup::new("change").required(true).args(["make_default", "disable", "enable"]))]
    Update {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// `/ca` and `/crl` of the mount are of it, which the action pki:set-default on MOUNT/default is for
        #[arg(long)]
        make_default: bool,
        /// It issues nothing more; what it issued stays valid (`revoke` ends that), and CRL and OCSP go on
        #[arg(long)]
        disable: bool,
        /// It issues again
        #[arg(long)]
        enable: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Revokes an issuer's own certificate, for ever: it issues nothing more, and who checks the whole chain trusts nothing that it issued; who asks about a certificate alone is told that it is good
    Revoke {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// Why
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: Reason,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Deletes a CA with its key, if no certificate of it is valid any more (until then: `update --disable`)
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// Also one that a profile names
        #[arg(long)]
        with_all: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Create {
    /// MOUNT/ISSUER
    #[arg(value_parser = at)]
    issuer: At,
    /// The common name of its subject
    #[arg(long, value_name = "NAME")]
    common_name: String,
    /// The organization of its subject
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    organization: String,
    /// Its key
    #[arg(long, value_enum, default_value = "ecdsa-p384")]
    key: IssuedKey,
    /// How long it is valid, like 3650d [default: ten years of a root, five of an issuer]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
}

impl IssuerCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let issuer = match self {
            Self::CreateRoot(create) => {
                let At { mount, name } = create.issuer.clone();
                let request = pb::CreateRootRequest {
                    mount,
                    name,
                    key_algorithm: pb::CertificateKey::from(create.key).into(),
                    common_name: create.common_name.clone(),
                    organization: create.organization.clone(),
                    ttl_s: create.ttl,
                };
                call(pki.create_root(request)).await?
            }
            Self::Create {
                create,
                under,
                permit_dns,
                exclude_dns,
                permit_ip,
                exclude_ip,
            } => {
                let At { mount, name } = create.issuer.clone();
                let constraints = pb::NameConstraints {
                    permitted_dns: permit_dns.clone(),
                    excluded_dns: exclude_dns.clone(),
                    permitted_ips: permit_ip.clone(),
                    excluded_ips: exclude_ip.clone(),
                };
                let none = constraints == pb::NameConstraints::default();
                let request = pb::CreateIssuerRequest {
                    mount,
                    name,
                    under: under.clone(),
                    key_algorithm: pb::CertificateKey::from(create.key).into(),
                    common_name: create.common_name.clone(),
                    organization: create.organization.clone(),
                    ttl_s: create.ttl,
                    constraints: (!none).then_some(constraints),
                };
                call(pki.create_issuer(request)).await?
            }
            Self::Import { issuer, chain, key } => {
                let At { mount, name } = issuer.clone();
                let what = || Failure::usage(format_args!("there is no {}", key.display()));
                let key =
                    read_private(key, MAX_PEM, OTHERS, "make another key")?.ok_or_else(what)?;
                let request = pb::ImportIssuerRequest {
                    mount,
                    name,
                    chain: read_text(chain, MAX_PEM)?,
                    private_key: key.expose_secret().to_owned(),
                };
                call(pki.import_issuer(request)).await?
            }
            Self::List { mount } => {
                let (mut issuers, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListIssuersRequest {
                        mount: mount.clone(),
                        after,
                        limit: 0,
                    };
                    let page = call(pki.list_issuers(request)).await?;
                    issuers.extend(page.issuers);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let rows = issuers.iter().map(issuer_row).collect();
                let header = ["ISSUER", "SUBJECT", "UNDER", "UNTIL", "STATE"];
                let empty = "there is no CA that you may read (`metacrypt pki issuer create-root` makes a root)";
                let empty = match issuers.is_empty() {
                    true => client.nothing(mount, "pki", empty).await?,
                    false => String::new(),
                };
                return Ok(out.table(&header, rows, &empty, &json_list("PkiIssuer", &issuers)?)?);
            }
            Self::Show { issuer } => {
                let At { mount, name } = issuer.clone();
                call(pki.get_issuer(pb::GetIssuerRequest { mount, name })).await?
            }
            Self::Update {
                issuer,
                make_default,
                disable,
                enable,
                yes,
            } => {
                let At { mount, name } = issuer.clone();
                if *disable {
                    let what = format!(
                        "{mount}/{name} will issue nothing more, at once; profiles that name it fail"
                    );
                    prompt::confirm(&what, *yes)?;
                }
                if *make_default {
                    let issuer = name;
                    call(pki.set_default(pb::SetDefaultRequest { mount, issuer })).await?
                } else {
                    let request = pb::UpdateIssuerRequest {
                        mount,
                        name,
                        disabled: (*disable || *enable).then_some(*disable),
                    };
                    call(pki.update_issuer(request)).await?
                }
            }
            Self::Revoke {
                issuer,
                reason,
                yes,
            } => {
                let At { mount, name } = issuer.clone();
                let request = pb::GetIssuerRequest {
                    mount: mount.clone(),
                    name: name.clone(),
                };
                let found = call(pki.get_issuer(request.clone())).await?;
                if found.under.is_empty() {
                    let what = format!(
                        "the certificate of {mount}/{name} is of no CA of this mount, so that none here can revoke it"
                    );
                    let hint = "have whoever signed it do that; a root has to be taken away where it is trusted. `metacrypt pki issuer update --disable` has it issue nothing more";
                    return Err(Failure::new(Exit::Refused, what).hint(hint));
                }
                let what = format!(
                    "the CA {mount}/{name} ({}) will be revoked for ever, and with it all that it issued",
                    found.subject
                );
                prompt::confirm(&what, *yes)?;
                let revoke = pb::RevokeCertificateRequest {
                    mount,
                    serial: found.serial,
                    reason: pb::RevocationReason::from(*reason).into(),
                };
                call(pki.revoke(revoke)).await?;
                call(pki.get_issuer(request)).await?
            }
            Self::Delete {
                issuer,
                with_all,
                yes,
            } => {
                let At { mount, name } = issuer.clone();
                let request = pb::GetIssuerRequest {
                    mount: mount.clone(),
                    name: name.clone(),
                };
                let found = seen(*yes, pki.get_issuer(request)).await?;
                let of = found.map(|found| format!(" ({})", found.subject));
                let what = format!(
                    "{mount}/{name}{} will be deleted with its key: nothing of it can be revoked any more",
                    of.unwrap_or_default()
                );
                prompt::confirm(&what, *yes)?;
                let sentence = format!("{mount}/{name} is deleted");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                let confirm = with_all.then(|| name.clone()).unwrap_or_default();
                let request = pb::DeleteIssuerRequest {
                    mount,
                    name,
                    confirm,
                };
                removed(pki.delete_issuer(request)).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("PkiIssuer", &issuer)?)?);
        }
        let text = view::lines(&issuer_lines(&issuer));
        Ok(write_out(&format!("{text}{}", issuer.chain))?)
    }
}

fn state(issuer: &pb::PkiIssuer) -> String {
    let parts = [
        (issuer.root, "root"),
        (issuer.default, "default"),
        (issuer.revoked.is_some(), "revoked"),
        (issuer.disabled && issuer.revoked.is_none(), "disabled"),
    ];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    view::text(&parts.collect::<Vec<_>>().join(", "))
}

fn issuer_row(issuer: &pb::PkiIssuer) -> Vec<String> {
    vec![
        issuer.name.clone(),
        issuer.subject.clone(),
        view::text(&issuer.under),
        view::time(issuer.not_after.as_ref()),
        state(issuer),
    ]
}

fn issuer_lines(issuer: &pb::PkiIssuer) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("issuer", issuer.name.clone()),
        ("subject", issuer.subject.clone()),
        ("key", key_name(issuer.key_algorithm())),
        ("under", view::text(&issuer.under)),
        ("from", view::time(issuer.not_before.as_ref())),
        ("until", view::time(issuer.not_after.as_ref())),
        ("state", state(issuer)),
        ("serial", view::text(&issuer.serial)),
        ("fingerprint", issuer.fingerprint.clone()),
    ];
    if let Some(constraints) = &issuer.constraints {
        rows.extend([
            ("permits DNS", view::names(&constraints.permitted_dns)),
            ("excludes DNS", view::names(&constraints.excluded_dns)),
            ("permits IP", view::names(&constraints.permitted_ips)),
            ("excludes IP", view::names(&constraints.excluded_ips)),
        ]);
    }
    rows
}
