//! CRLs as they are served: made anew when something was revoked, and before the one that was served is old.

use std::{sync::Arc, time::Duration};

use super::{
    ready::{self, Ready, Served},
    signed::{Crl, crl},
    store::{CrlState, revoked, seconds},
};
use crate::{barrier::Items, engine::EngineError, entered::Entered};

/// How long one is valid: a service that stays sealed for a weekend has no clients that refuse everything.
const LIFE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// After which it is made anew.
const RENEWED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long what has ended is still in it (RFC 5280 §3.3: once more after its end).
pub(super) const AFTER_END: Duration = LIFE;

/// The list of an issuer, in DER.
///
/// # Errors
/// If there is no such issuer.
pub(super) async fn current(at: &Arc<Entered>, issuer: &str) -> Result<Arc<Served>, EngineError> {
    let ready = Ready::of(at.mount())?;
    let kept = |now| {
        let found = ready.kept().crls.get(issuer).cloned();
        found.filter(|served| now < served.renewed_at)
    };
    if let Some(served) = kept(at.now()) {
        return Ok(served);
    }
    let _turn = ready.making.lock().await;
    let now = at.now();
    if let Some(served) = kept(now) {
        return Ok(served);
    }
    let name = issuer.to_owned();
    let make = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let issuer = ready::issuer(at.mount(), items, &name)?;
        let mut state = CrlState::get(items, &name)?;
        state.number += 1;
        let revoked = revoked(items, &name, seconds(now - AFTER_END))?;
        state.entries = revoked.len();
        let der = crl(&Crl {
            issuer: &issuer,
            number: state.number,
            this_update: now,
            next_update: now + LIFE,
            revoked: &revoked,
        })?;
        state.put(items, &name)?;
        let renewed_at = now + RENEWED;
        Ok((name, Arc::new(Served { der, renewed_at })))
    };
    let then = |(name, served): (String, Arc<Served>), at: &Entered| -> Result<_, EngineError> {
        let mut kept = Ready::of(at.mount())?.kept();
        kept.crls.insert(name, Arc::clone(&served));
        Ok(served)
    };
    at.keep(make, then).await?
}
