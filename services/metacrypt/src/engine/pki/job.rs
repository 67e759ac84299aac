//! What the CA does of itself: CRLs are made before they are old, and what ended long ago is forgotten.

use std::{sync::Arc, time::Duration};

use mcdsl::audit::Detail;

use super::{
    acme, crls, ready,
    store::{PAGE, Record, issuers, serial_of},
};
use crate::{
    barrier::Items,
    engine::{EngineError, Work, seconds},
    entered::Entered,
};

pub(super) const NAME: &str = "pki.tidy";
pub(super) const EVERY: Duration = Duration::from_secs(60 * 60);
/// How long certificates are kept that have ended.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

pub(super) fn run(at: Arc<Entered>) -> Work {
    Box::pin(async move {
        acme::resume(&at).await;
        let all = at.read(|items, _| issuers(items)).await?;
        for issuer in &all {
            if let Err(error) = list(&at, issuer).await {
                tracing::error!(mount = at.mount().name(), issuer, %error, "its CRL cannot be made");
            }
        }
        Ok(forget(&at).await? | acme::run(&at).await?)
    })
}

async fn list(at: &Arc<Entered>, name: &str) -> Result<(), EngineError> {
    let name = name.to_owned();
    let issuer = at.read(move |items, at| ready::issuer(at.mount(), items, &name));
    crls::current(at, &issuer.await?).await.map(drop)
}

/// Forgets some of what ended long ago; whether there is more.
async fn forget(at: &Arc<Entered>) -> Result<bool, EngineError> {
    let before = format!("expiry/{:012}/", seconds(at.sure_now() - KEPT));
    let old = |items: &Items<'_>| -> Result<Vec<String>, EngineError> {
        Ok(items.names("expiry/", "", PAGE)?)
    };
    let ended = before.clone();
    let some = at
        .read(move |items, _| Ok(old(items)?.first().is_some_and(|path| *path < ended)))
        .await?;
    if !some {
        return Ok(false);
    }
    let forget = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let mut count = 0;
        for path in old(items)?.iter().take_while(|path| **path < before) {
            let serial = serial_of(path)?;
            acme::store::forget_issued(items, &serial)?;
            match Record::find(items, &serial)? {
                Some(record) => record.forget(items, &serial)?,
                // What finds nothing.
                None => drop(items.delete(path)?),
            }
            count += 1;
        }
        let forgotten = i64::try_from(count).unwrap_or(i64::MAX);
        Ok((count, Detail::new().number("forgotten", forgotten)))
    };
    let count = at.record_with(forget).await?;
    Ok(count == PAGE)
}
