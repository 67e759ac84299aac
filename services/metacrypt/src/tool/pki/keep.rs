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
        // Who finds all good writes nothing, no lock either.
        if let Found::Good { until, serial } = self.look(client, true).await? {
            return self.kept(until, &serial, out);
        }
        let files = self.to.lock(Some(&self.key), None)?;
        let mut pki = client.pki().await?;
        // Another command may have replaced them meanwhile.
        let why = match self.look(client, false).await? {
            Found::Good { until, serial } => return self.kept(until, &serial, out),
            Found::Bad(why) => why,
        };
        // Before anything is certified that could not be kept.
        let over = match self.replace {
            true => Over::Anything,
            false => {
                let there = Pair::read(&self.to.cert, Some(&self.key))?;
                there.key_may_go()?;
                there.chain_may_go(client, &self.profile).await?;
                self.is_for_one_of(there.judged())?;
                Over::Alike
            }
        };
        let files = files.files(over)?;
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
        let until = issued.not_after.and_then(|at| at.try_into().ok());
        let value = json!({
            "renewed": true,
            "why": why,
            "serial": issued.serial,
            "until": until.map(view::utc),
            "files": files,
        });
        Ok(out.done(&sentence, &value)?)
    }

    fn kept(&self, until: SystemTime, serial: &str, out: Output) -> Result {
        let value = json!({ "renewed": false, "serial": serial, "until": view::utc(until) });
        Ok(out.done(&self.is_kept(until), &value)?)
    }

    fn is_kept(&self, until: SystemTime) -> String {
        let (cert, until) = (self.to.cert.display(), view::system_time(until));
        format!("{cert} is kept, until {until}")
    }

    /// What is there, as its service knows it. Who looks again warns no more.
    async fn look(&self, client: &Client, warns: bool) -> Result<Found> {
        let found = self.found(SystemTime::now(), warns);
        if let Found::Good { until, serial } = &found
            && self.is_revoked(client, serial, *until).await?
        {
            return Ok(Found::Bad("it was revoked, or its issuer".to_owned()));
        }
        Ok(found)
    }

    /// Asks whether what is there is revoked; who may not read it is warned.
    async fn is_revoked(&self, client: &Client, serial: &str, until: SystemTime) -> Result<bool> {
        let At { mount, .. } = self.profile.clone();
        let serial = serial.to_owned();
        let request = pb::GetCertificateRequest { mount, serial };
        match client.pki().await?.get_certificate(request).await {
            Ok(found) => {
                let found = found.into_inner();
                Ok(found.revoked.is_some() || found.issuer_revoked())
            }
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
                let (kept, failure) = (self.is_kept(until), status_failure(&status));
                Err(Failure {
                    message: format!("{kept}; whether it is revoked cannot be asked: {failure}"),
                    ..failure
                })
            }
        }
    }

    fn found(&self, now: SystemTime, warns: bool) -> Found {
        if !self.to.cert.exists() {
            return Found::Bad("there was none".to_owned());
        }
        if !self.key.exists() {
            return Found::Bad("there was no key".to_owned());
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
        let before = self.before(life, warns);
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
    fn before(&self, life: Duration, warns: bool) -> Duration {
        let Some(said) = self.renew_before.map(Duration::from_secs) else {
            return life / 3;
        };
        let most = life * 2 / 3;
        if said > most && warns {
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
        let Some(leaf) = leaf else {
            return Ok(());
        };
        // What cannot be read is for none of them.
        let leaf = Certificate::from_der(leaf);
        let has = leaf.map(|leaf| names(&leaf).0).unwrap_or_default();
        let asked = |name: &AltName| {
            (self.name.iter()).any(|asked| asked.parse().ok().as_ref() == Some(name))
        };
        if has.iter().any(asked) {
            return Ok(());
        }
        let other = has.first().map(|other| format!(" for {other},"));
        let what = format!(
            "{} holds a certificate{} which has none of the names that are to be kept, and is not overwritten",
            self.to.cert.display(),
            other.unwrap_or_default()
        );
        Err(Failure::new(Exit::Refused, what).hint(OTHERWISE))
    }

    /// A name that it has not, or has and is not asked for.
    fn otherwise(&self, leaf: &Certificate) -> Option<String> {
        let (has, all) = names(leaf);
        let mut asked = BTreeSet::new();
        for name in &self.name {
            match name.parse() {
                Ok(parsed) if has.contains(&parsed) => asked.insert(parsed),
                // What is no name is refused by the service.
                _ => return Some(format!("it was not for {name}")),
            };
        }
        match has.difference(&asked).next() {
            Some(more) => Some(format!("it was for {more}, too")),
            None if all => None,
            None => Some("it was for what is no name of a server, too".to_owned()),
        }
    }
}

/// What it is for, and whether that is all: it may have what nobody asks for here (an e-mail address).
fn names(leaf: &Certificate) -> (BTreeSet<AltName>, bool) {
    let san = leaf.tbs_certificate().get_extension::<SubjectAltName>();
    let all = san.is_ok();
    let san = san.ok().flatten().map(|(_, san)| san.0).unwrap_or_default();
    let has: BTreeSet<_> = san.iter().flat_map(AltName::asked).collect();
    let all = all && san.iter().all(|name| AltName::asked(name).is_ok());
    (has, all)
}

fn life(leaf: &Certificate, not_after: SystemTime) -> Duration {
    let begin = leaf.tbs_certificate().validity().not_before;
    let life = not_after.duration_since(begin.to_system_time());
    life.unwrap_or_default()
}
