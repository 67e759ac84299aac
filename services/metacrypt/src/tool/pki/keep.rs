//! `metacrypt pki keep`: for a timer, so that a server's certificate never ends.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    certificate,
    cli::{Exit, Failure, Output, call, chain, status_failure, view},
    human::{self, hex},
};
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};
use serde_json::json;
use tonic::Code;
use x509_cert::{Certificate, der::Decode as _, ext::pkix::SubjectAltName};

use super::{
    At, Client, IssuedKey, Result, at,
    files::Over,
    issue::To,
    pair::{OTHERWISE, Pair},
    seconds::seconds,
    subject,
};
use crate::engine::pki::AltName;

#[derive(Debug, clap::Args)]
pub(crate) struct Keep {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// For this DNS name, address or SPIFFE ID; repeatable
    #[arg(long, value_name = "NAME", required = true, value_parser = subject)]
    name: Vec<String>,
    #[command(flatten)]
    to: To,
    /// Its key, for its owner alone (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the key is [default: as the profile says]
    #[arg(long, value_enum)]
    key_algorithm: Option<IssuedKey>,
    /// Certifies anew so long before its end, like 2d; at most two thirds of its life [default: a third of it]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    renew_before: Option<u64>,
    /// Replaces a certificate that is of another CA and a key that does not fit it, too: both are lost. Said once, not in a timer's line
    #[arg(long)]
    replace: bool,
}

/// What is there.
enum Found {
    /// It does until then.
    Good { until: SystemTime, serial: String },
    /// It does not, and why.
    Bad(String),
}

impl Keep {
    /// By which it is certified.
    pub(in super::super) fn profile(&self) -> &At {
        &self.profile
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let _lock = self.to.lock()?;
        let why = match self.found(SystemTime::now()) {
            Found::Good { until, serial } => {
                let kept = format!(
                    "{} is kept, until {}",
                    self.to.cert.display(),
                    view::system_time(until)
                );
                match self.is_revoked(client, serial, &kept).await? {
                    true => "it was revoked".to_owned(),
                    false => return Ok(out.done(&kept, &json!({ "renewed": false }))?),
                }
            }
            Found::Bad(why) => why,
        };
        let mut pki = client.pki().await?;
        // Before anything is certified that could not be kept.
        let over = match self.replace {
            true => Over::Anything,
            false => {
                let there = Pair::read(&self.to.cert, Some(&self.key))?;
                there.key_may_go()?;
                there.chain_may_go(client, &self.profile).await?;
                self.is_for_one_of(there.leaf())?;
                Over::Alike
            }
        };
        let files = self.to.files(Some(&self.key), None, over)?;
        let At { mount, name } = self.profile.clone();
        let algorithm = self.key_algorithm.map(pb::CertificateKey::from);
        let request = pb::IssueCertificateRequest {
            mount,
            profile: name,
            names: self.name.clone(),
            ttl_s: self.to.ttl,
            key_algorithm: algorithm.unwrap_or_default().into(),
        };
        let issued = call(pki.issue(request)).await?;
        // Who reads both between the two finds that they do not fit, and keeps what he has; who is killed there certifies anew the next time.
        let files = files.place(&self.profile.mount, &issued)?;
        let sentence = format!(
            "{}: {why}; serial {}, until {}",
            files.join(", "),
            issued.serial,
            view::time(issued.not_after.as_ref())
        );
        let value = json!({ "renewed": true, "why": why, "serial": issued.serial, "files": files });
        Ok(out.done(&sentence, &value)?)
    }

    /// Asks whether what is there is revoked; who may not read it is warned.
    async fn is_revoked(&self, client: &Client, serial: String, kept: &str) -> Result<bool> {
        let At { mount, .. } = self.profile.clone();
        let request = pb::GetCertificateRequest { mount, serial };
        match client.pki().await?.get_certificate(request).await {
            Ok(found) => Ok(found.into_inner().revoked.is_some()),
            Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => {
                eprintln!(
                    "warning: whether {} is revoked is not known: {}; who keeps it needs `pki:read` on {}/profiles/{}",
                    self.to.cert.display(),
                    status.message(),
                    self.profile.mount,
                    self.profile.name
                );
                Ok(false)
            }
            Err(status) => {
                let failure = status_failure(&status);
                Err(Failure {
                    message: format!("{kept}; whether it is revoked cannot be asked: {failure}"),
                    ..failure
                })
            }
        }
    }

    fn found(&self, now: SystemTime) -> Found {
        if !self.to.cert.exists() {
            return Found::Bad("there was none".to_owned());
        }
        let provider = aws_lc_rs::default_provider();
        let loaded = certificate::load(&self.to.cert, &self.key, None, None, &provider, now);
        let found = match loaded {
            Ok(found) => found,
            Err(error) => return Found::Bad(chain(&error)),
        };
        let Some(leaf) = found.key.cert.first() else {
            return Found::Bad("the file has none".to_owned());
        };
        let Ok(leaf) = Certificate::from_der(leaf) else {
            return Found::Bad("the file has none that can be read".to_owned());
        };
        if let Some(other) = self.otherwise(&leaf) {
            return Found::Bad(other);
        }
        let life = life(&leaf, found.not_after);
        let before = self.before(life);
        match now + before < found.not_after {
            true => Found::Good {
                until: found.not_after,
                serial: hex(leaf.tbs_certificate().serial_number().as_bytes()),
            },
            false => Found::Bad(format!(
                "it would end {}",
                view::system_time(found.not_after)
            )),
        }
    }

    /// How long before its end one of such a life is not kept any more. What is just issued is kept, whatever was said: else each call would issue.
    fn before(&self, life: Duration) -> Duration {
        let Some(said) = self.renew_before.map(Duration::from_secs) else {
            return life / 3;
        };
        let most = life * 2 / 3;
        if said > most {
            eprintln!(
                "warning: --renew-before {} is more than two thirds of the certificate's life of {}, and is taken for {}",
                human::duration_short(said),
                human::duration_short(life),
                human::duration_short(most)
            );
        }
        said.min(most)
    }

    /// Refuses a certificate that is for none of the names, whoever put it there: its file is another's.
    fn is_for_one_of(&self, leaf: Option<&CertificateDer<'_>>) -> Result {
        let leaf = leaf.and_then(|der| Certificate::from_der(der).ok());
        let Some(has) = leaf.as_ref().and_then(names) else {
            return Ok(());
        };
        let asked = |name: &AltName| {
            (self.name.iter()).any(|asked| asked.parse().ok().as_ref() == Some(name))
        };
        let Some(other) = has.first().filter(|_| !has.iter().any(asked)) else {
            return Ok(());
        };
        let what = format!(
            "{} holds a certificate for {other}, which has none of the names that are to be kept, and is not overwritten",
            self.to.cert.display()
        );
        Err(Failure::new(Exit::Refused, what).hint(OTHERWISE))
    }

    /// A name that it has not, or has and is not asked for.
    fn otherwise(&self, leaf: &Certificate) -> Option<String> {
        let has = names(leaf)?;
        // What is none is refused by the service.
        let asked = self.name.iter().map(|name| name.parse::<AltName>());
        let asked: BTreeSet<_> = asked.collect::<std::result::Result<_, _>>().ok()?;
        if let Some(name) = asked.difference(&has).next() {
            return Some(format!("it was not for {name}"));
        }
        let more = has.difference(&asked).next();
        more.map(|name| format!("it was for {name}, too"))
    }
}

/// What it is for; `None` if that is nothing that one asks for.
fn names(leaf: &Certificate) -> Option<BTreeSet<AltName>> {
    let san = leaf.tbs_certificate().get_extension::<SubjectAltName>();
    let san = san.ok().flatten().map(|(_, san)| san.0).unwrap_or_default();
    let names = san.iter().map(AltName::asked);
    names.collect::<std::result::Result<_, _>>().ok()
}

fn life(leaf: &Certificate, not_after: SystemTime) -> Duration {
    let begin = leaf.tbs_certificate().validity().not_before;
    let life = not_after.duration_since(begin.to_system_time());
    life.unwrap_or_default()
}
