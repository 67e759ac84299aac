//! `metacrypt pki keep`: for a timer, so that a server's certificate never ends.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    certificate,
    cli::{Output, call, chain, view},
};
use rustls::{
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use serde_json::json;
use x509_cert::{Certificate, der::Decode as _};

use super::{At, Client, IssuedKey, Result, at, files::Over, issue::To, seconds::seconds, subject};

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
    /// Certifies anew so long before its end, like 2d [default: a third of its life]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    renew_before: Option<u64>,
}

/// What is there.
enum Found {
    /// It does until then.
    Good(SystemTime),
    /// It does not, and why.
    Bad(String),
}

impl Keep {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let why = match self.found(SystemTime::now()) {
            Found::Good(until) => {
                let until = view::system_time(until);
                let sentence = format!("{} is kept, until {until}", self.to.cert.display());
                return Ok(out.done(&sentence, &json!({ "renewed": false }))?);
            }
            Found::Bad(why) => why,
        };
        let mut pki = client.pki().await?;
        // Before anything is certified that could not be kept.
        let files = self.to.files(Some(&self.key), None, Over::Alike)?;
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
        if let Some(name) = self.name.iter().find(|name| !is_for(leaf, name)) {
            return Found::Bad(format!("it was not for {name}"));
        }
        let before = match self.renew_before {
            Some(seconds) => Duration::from_secs(seconds),
            None => life(leaf, found.not_after) / 3,
        };
        match now + before < found.not_after {
            true => Found::Good(found.not_after),
            false => Found::Bad(format!(
                "it would end {}",
                view::system_time(found.not_after)
            )),
        }
    }
}

/// Whether it is for a name; of what is no name of a server (a wildcard, a SPIFFE ID) the profile's word is taken.
fn is_for(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else {
        return true;
    };
    let parsed = ParsedCertificate::try_from(leaf);
    parsed.is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
}

fn life(leaf: &[u8], not_after: SystemTime) -> Duration {
    let begin = Certificate::from_der(leaf).ok().map(|leaf| {
        let validity = *leaf.tbs_certificate().validity();
        validity.not_before.to_system_time()
    });
    begin
        .and_then(|begin| not_after.duration_since(begin).ok())
        .unwrap_or_default()
}
