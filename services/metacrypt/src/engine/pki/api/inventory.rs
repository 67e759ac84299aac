//! The inventory of certificates. What an index tells is judged first, and only what may be read is opened.

use std::collections::HashMap;

use mc_proto::metacrypt::v1::{ListCertificatesRequest, ListCertificatesResponse};
use mcdsl::server::Caller;

use super::message;
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError, MAX_LOOKED_AT, Positions, limit,
        pki::{
            CERTIFICATES, KIND, action,
            issuer::IssuerId,
            name::{AltName, Names},
            store::{Entry, Of, PAGE, Record, StoredIssuer, expiry_at, name_at},
        },
        seconds,
    },
};

/// Whose certificates a list is of.
enum SignedBy {
    Any,
    One(IssuerId),
    /// There is no such CA, which how the list goes on does not tell.
    Nobody,
}

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
    /// Where those are that may be in it: from where on, and to where.
    fn place(&self) -> (String, String, String) {
        // Behind all digits.
        let end = |place: &str| format!("{place}~");
        match (&self.name, self.expires_before_s) {
            (Some(name), _) => {
                let place = name_at(name);
                let end = end(&place);
                (place, String::new(), end)
            }
            (None, Some(before_s)) => {
                let (from, to) = (expiry_at(self.now_s), expiry_at(before_s));
                ("expiry/".to_owned(), from, to)
            }
            (None, None) => ("expiry/".to_owned(), String::new(), end("expiry/")),
        }
    }

    /// By what an index has of one.
    fn may_have(&self, entry: &Entry, by: &SignedBy) -> bool {
        let of = match &entry.of {
            Of::Profile(name) => self.profile.is_empty() || self.profile == *name,
            Of::Issuer(_) => self.profile.is_empty(),
        };
        let signed = match by {
            SignedBy::Any => true,
            SignedBy::Nobody => false,
            SignedBy::One(id) => id.is(&entry.by),
        };
        of && signed
    }

    /// `void`: by its CA.
    fn has(&self, record: &Record, void: bool) -> bool {
        let ends = self.expires_before_s.is_none_or(|before_s| {
            record.not_after_s < before_s && record.not_after_s > self.now_s
        });
        let mut names = record.names.iter().flat_map(Names::iter);
        let named = self
            .name
            .as_ref()
            .is_none_or(|name| names.any(|n| n == name));
        ends && named && (record.revoked.is_some() || void || !self.revoked)
    }

    /// An answer, and the path behind which there may be more.
    fn page(
        &self,
        items: &Items<'_>,
        may: &dyn Fn(&[&str]) -> bool,
        after: String,
        limit: usize,
    ) -> Result<Page, EngineError> {
        let by = match &*self.issuer {
            "" => SignedBy::Any,
            name => match StoredIssuer::find(items, name)? {
                Some(stored) => SignedBy::One(stored.id),
                None => SignedBy::Nobody,
            },
        };
        let (place, from, to) = self.place();
        let mut page = Page::default();
        let (mut at, mut allowed, mut looked_at) = (from.max(after), HashMap::new(), 0);
        let mut revoked = HashMap::new();
        loop {
            let paths = items.names(&place, &at, PAGE)?;
            let last = paths.len() < PAGE;
            for path in paths {
                if path >= to {
                    return Ok(page);
                }
                if page.found.len() == limit || looked_at == MAX_LOOKED_AT {
                    page.next = Some(at);
                    return Ok(page);
                }
                looked_at += 1;
                let entry = Entry::of(&path)?;
                at = path;
                let judged = allowed.entry(entry.of.clone());
                let may = *judged.or_insert_with_key(|of| may(&of.path()));
                if !may || !self.may_have(&entry, &by) {
                    continue;
                }
                let Some(record) = Record::find(items, &entry.serial)? else {
                    continue;
                };
                let revoked_s = match revoked.get(&record.by) {
                    Some(known) => *known,
                    None => StoredIssuer::signer_revoked_s(items, &record)?,
                };
                let void = record.is_void_by(revoked_s);
                if self.has(&record, void) {
                    let mut one = message::certificate(&entry.serial, &record)?;
                    one.issuer_revoked = Some(void);
                    page.found.push(one);
                }
                revoked.insert(record.by, revoked_s);
            }
            if last {
                return Ok(page);
            }
        }
    }
}

#[derive(Default)]
struct Page {
    found: Vec<mc_proto::metacrypt::v1::PkiCertificate>,
    next: Option<String>,
}

pub(super) async fn list_certificates(
    api: &Api,
    caller: &Caller,
    asked: ListCertificatesRequest,
) -> Result<ListCertificatesResponse, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let limit = limit(asked.limit);
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
    let before = filter.expires_before_s.map(|s| s.to_string());
    let list = [
        &*asked.name,
        &*before.unwrap_or_default(),
        if filter.revoked { "revoked" } else { "" },
        &*filter.issuer,
        &*filter.profile,
    ];
    let positions = Positions::of(caller, &asked.mount, CERTIFICATES, &list)?;
    let after = positions.open(&asked.after)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&[&str]) -> bool| {
        filter.page(items, may, after, limit)
    };
    let list = visit.list(action::READ, &[CERTIFICATES], Some(&[]), read);
    let page = list.await?;
    Ok(ListCertificatesResponse {
        certificates: page.found,
        next: positions.seal(&page.next.unwrap_or_default())?,
    })
}
