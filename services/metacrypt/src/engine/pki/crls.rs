//! CRLs as they are served: made anew when something was revoked, and before the one that was served is old.
//!
//! Entries are read in pages, and the list is written and signed beside the database; only its number is written there. What is revoked meanwhile makes the
//! list old at once: each revocation is counted with its commit, and a list is of as many as there were before its entries were read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    COST_US,
    issuer::Issuer,
    ready::{Ready, Served},
    signed::{BACKDATED, Crl, crl},
    store::{IssuerState, revoked},
};
use crate::{
    engine::{EngineError, seconds},
    entered::Entered,
};

/// How long one is valid: a service that stays sealed for a weekend has no clients that refuse everything.
const LIFE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// After which it is made anew.
const RENEWED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long what has ended is still in it (RFC 5280 §3.3: once more after its end).
pub(super) const AFTER_END: Duration = LIFE;
/// Entries that are read at once.
const PAGE: usize = 1000;
/// For so many entries a list is served a second longer, though something was revoked since: making one takes about a tenth of that.
const A_SECOND_FOR: usize = 10_000;

/// The list of an issuer. Those who ask at the same time wait for one.
///
/// # Errors
/// If it cannot be made.
pub(super) async fn current(
    at: &Arc<Entered>,
    issuer: &Arc<Issuer>,
) -> Result<Arc<Served>, EngineError> {
    let ready = Ready::of(at.mount())?;
    if let Some(served) = ready.served(issuer.id(), at.now()) {
        return Ok(served);
    }
    let _turn = ready.making.lock().await;
    let now = at.now();
    if let Some(served) = ready.served(issuer.id(), now) {
        return Ok(served);
    }
    let revocations = ready.revocations(issuer.id());
    let id = issuer.id().clone();
    let before = at
        .read(move |items, _| Ok(IssuerState::get(items, &id)?.revoked()))
        .await?;
    let since_s = seconds(now - AFTER_END);
    let (mut all, mut after) = (Vec::new(), Some(String::new()));
    while let Some(from) = after {
        let id = issuer.id().clone();
        let read = at.read(move |items, _| revoked(items, &id, since_s, &from, PAGE));
        let (page, more) = read.await?;
        all.extend(page);
        after = more;
    }
    let entries = all.len();
    let (id, now_s) = (issuer.id().clone(), seconds(now));
    let number = at
        .keep(move |items, _| IssuerState::number(items, &id, now_s, (before, entries)))
        .await?;
    let signer = Arc::clone(issuer);
    let der = at.beside(COST_US, move || {
        let list = Crl {
            issuer: &signer,
            number,
            this_update: now - BACKDATED,
            next_update: now + LIFE,
            revoked: &all,
        };
        Ok(crl(&list)?)
    });
    let longer = Duration::from_secs(u64::try_from(entries / A_SECOND_FOR).unwrap_or(u64::MAX));
    let served = Arc::new(Served {
        der: Bytes::from(der.await?),
        made_at: now,
        renewed_at: now + RENEWED,
        settled_at: now + longer,
        revocations,
    });
    ready.serve(issuer.id(), &served);
    Ok(served)
}
