//! The inventory of certificates.

use std::collections::HashMap;

use mc_proto::metacrypt::v1::{ListCertificatesRequest, ListCertificatesResponse};
use mcdsl::server::Caller;

use super::message;
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError,
        pki::{
            CERTIFICATES, KIND, action,
            name::{AltName, Names},
            store::{Of, PAGE, Record, expiry_at, name_at, seconds, serial_of},
        },
    },
};

/// Most certificates of an answer.
const MAX_LISTED: usize = 100;
/// Most certificates that are looked at for one answer.
const MAX_LOOKED_AT: usize = 1000;

/// What a list is of.
struct Filter {
    name: Option<AltName>,
    expires_before_s: Option<u64>,
    revoked: bool,
    issuer: String,
    profile: String,
    now_s: u64,
}

impl Filter {
    /// Where those are that may be in it, and from where on.
    fn place(&self) -> (String, String) {
        match (&self.name, self.expires_before_s) {
            (Some(name), _) => (name_at(name), String::new()),
            (None, Some(_)) => ("expiry/".to_owned(), expiry_at(self.now_s)),
            (None, None) => (format!("{CERTIFICATES}/"), String::new()),
        }
    }

    fn has(&self, record: &Record) -> bool {
        let ends = self.expires_before_s.is_none_or(|before_s| {
            record.not_after_s < before_s && record.not_after_s > self.now_s
        });
        let named = self.name.as_ref().is_none_or(|name| {
            record
                .names
                .iter()
                .flat_map(Names::iter)
                .any(|other| other == name)
        });
        let of = match &record.of {
            Of::Profile(name) => self.profile.is_empty() || self.profile == *name,
            Of::Issuer(_) => self.profile.is_empty(),
        };
        let issuer = self.issuer.is_empty() || self.issuer == record.issuer;
        ends && named && of && issuer && (record.revoked.is_some() || !self.revoked)
    }
}

pub(super) async fn list_certificates(
    api: &Api,
    caller: &Caller,
    asked: ListCertificatesRequest,
) -> Result<ListCertificatesResponse, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let limit = match usize::try_from(asked.limit) {
        Ok(limit @ 1..MAX_LISTED) => limit,
        _ => MAX_LISTED,
    };
    let name = Some(&asked.name).filter(|name| !name.is_empty());
    let name = name.map(|name| name.parse::<AltName>()).transpose();
    let before = asked
        .expires_before
        .map(std::time::SystemTime::try_from)
        .transpose();
    let before = before.map_err(|e| EngineError::field("expires_before", e))?;
    let filter = Filter {
        name: name.map_err(|e| EngineError::field("name", e))?,
        expires_before_s: before.map(seconds),
        revoked: asked.revoked,
        issuer: asked.issuer,
        profile: asked.profile,
        now_s: seconds(api.0.seal.clock().now()),
    };
    let after = asked.after;
    let read = move |items: &Items<'_>, may: &dyn Fn(&[&str]) -> bool| -> Result<_, EngineError> {
        let (place, from) = filter.place();
        let mut at = from.max(after);
        let (mut found, mut allowed) = (Vec::new(), HashMap::new());
        let mut looked_at = 0;
        loop {
            let page = items.names(&place, &at, PAGE)?;
            let last = page.len() < PAGE;
            for path in page {
                if found.len() == limit || looked_at == MAX_LOOKED_AT {
                    return Ok((found, at));
                }
                looked_at += 1;
                let serial = serial_of(&path)?;
                let beyond = filter
                    .expires_before_s
                    .is_some_and(|before_s| place == "expiry/" && path >= expiry_at(before_s));
                if beyond {
                    return Ok((found, String::new()));
                }
                at = path;
                let Some(record) = Record::find(items, &serial)? else {
                    continue;
                };
                let may = allowed
                    .entry(record.of.clone())
                    .or_insert_with_key(|of| may(&of.path()));
                if *may && filter.has(&record) {
                    found.push(message::certificate(&serial, &record)?);
                }
            }
            if last {
                return Ok((found, String::new()));
            }
        }
    };
    let (certificates, next) = visit.list(action::READ, &[CERTIFICATES], read).await?;
    Ok(ListCertificatesResponse { certificates, next })
}
