//! What ACME does of itself: what was to be looked at when the seal was closed is looked at, what MCIAS revoked ends, and what ended is forgotten.

use std::sync::Arc;

use super::{
    Memory, account, look,
    store::{AcmeAccount, Binding, KEYS, PAGE, Standing, forget},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, seconds},
    entered::Entered,
};

/// Goes on with what was to be looked at when the seal was closed; if that cannot be, in a moment.
pub(in super::super) async fn resume(at: &Arc<Entered>) {
    let api = Api(Arc::clone(at.metacrypt()));
    if let Err(error) = look::resume(&api, at.mount().name()).await {
        let mount = at.mount().name();
        tracing::warn!(mount, %error, "what is to be looked at is not known; it is asked for again");
        if let Ok(memory) = Memory::of(at.mount()) {
            look::later(&api, mount, &memory.line);
        }
    }
}

/// Keys that are looked at in one transaction, and ended.
const PIECE: usize = 100;

/// Does a piece of it; whether there is more.
pub(in super::super) async fn run(at: &Arc<Entered>) -> Result<bool, EngineError> {
    let (now_s, sure_s) = (seconds(at.now()), seconds(at.sure_now()));
    let old = move |items: &Items<'_>, _: &Entered| forget(items, sure_s, PAGE);
    if at.keep(old).await? {
        return Ok(true);
    }
    ended(at, now_s, sure_s).await?;
    Ok(false)
}

/// Ends the accounts of which MCIAS revoked what they were given by, for it forgets that in a while; forgets keys that nobody used in time, and accounts that
/// had ended long ago by `sure_s`.
async fn ended(at: &Arc<Entered>, now_s: u64, sure_s: u64) -> Result<(), EngineError> {
    let Some(mcias) = at.metacrypt().mcias.get().cloned() else {
        return Ok(());
    };
    let mut after = String::new();
    loop {
        let (from, mcias) = (after.clone(), Arc::clone(&mcias));
        let look = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let page: Vec<(String, Binding)> = items.list(KEYS, &from, PIECE)?;
            let last = page.last().map(|(path, _)| path.clone());
            let mut gone = Vec::new();
            for (path, binding) in page {
                let over = match &binding.used_by {
                    None => {
                        binding.ends_s <= sure_s
                            || mcias.is_revoked(&binding.owner.shown()) == Some(true)
                    }
                    Some(id) => {
                        let account = AcmeAccount::find(items, id)?;
                        account.is_none_or(|account| account.is_over(sure_s))
                            || mcias.is_revoked(&binding.owner.identity()) == Some(true)
                    }
                };
                if over {
                    gone.push((path, binding));
                }
            }
            Ok((gone, last))
        };
        let (gone, last) = at.read(look).await?;
        if !gone.is_empty() {
            let end = move |items: &Items<'_>, _: &Entered| -> Result<(), EngineError> {
                for (path, _) in &gone {
                    let key = path.rsplit('/').next().unwrap_or_default();
                    // It may have been used meanwhile.
                    let Some(binding) = Binding::find(items, key)? else {
                        continue;
                    };
                    let account = match &binding.used_by {
                        Some(id) => AcmeAccount::find(items, id)?.zip(Some(id)),
                        None => None,
                    };
                    match account {
                        // It stays for a while, so that its owner is told why.
                        Some((account, id)) if account.standing == Standing::Valid => {
                            account::end(items, id, Standing::Revoked, now_s)?;
                        }
                        Some((account, _)) if !account.is_over(sure_s) => {}
                        _ => binding.delete(items, key, now_s)?,
                    }
                }
                Ok(())
            };
            at.keep(end).await?;
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}
