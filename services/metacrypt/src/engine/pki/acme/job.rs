//! What ACME does of itself: what ended is forgotten, what MCIAS revoked ends, and what was to be looked at when the seal was closed is looked at.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    super::store::seconds,
    Memory, account, look,
    order::Order,
    store::{AcmeAccount, Binding, KEYS, Look, PAGE, Standing, forget, forget_issued},
};
use crate::{api::Api, barrier::Items, engine::EngineError, entered::Entered};

/// Does a piece of it; whether there is more.
pub(in super::super) async fn run(at: &Arc<Entered>) -> Result<bool, EngineError> {
    let (now_s, sure_s) = (seconds(at.now()), seconds(at.sure_now()));
    let old = move |items: &Items<'_>, _: &Entered| forget(items, sure_s, PAGE);
    if at.keep(old, |made, _| made).await?.more {
        return Ok(true);
    }
    let count = at.read(|items, _| Order::count(items)).await?;
    Memory::of(at.mount())?.count.store(count, Relaxed);
    ended(at, now_s).await?;
    let mut after = Some(String::new());
    while let Some(from) = after {
        let some = move |items: &Items<'_>, _: &Entered| forget_issued(items, &from);
        after = at.keep(some, |next, _| next).await?;
    }
    resume(at).await?;
    Ok(false)
}

/// Ends the accounts of which MCIAS revoked what they were given by: it forgets that in a while.
async fn ended(at: &Arc<Entered>, now_s: u64) -> Result<(), EngineError> {
    let Some(mcias) = at.metacrypt().mcias.get().cloned() else {
        return Ok(());
    };
    let mut after = String::new();
    loop {
        let (from, mcias) = (after.clone(), Arc::clone(&mcias));
        let look = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let page: Vec<(String, Binding)> = items.list(KEYS, &from, PAGE)?;
            let last = page.last().map(|(path, _)| path.clone());
            let gone = page
                .into_iter()
                .filter(|(_, b)| mcias.is_revoked(&b.owner.identity()) == Some(true));
            let gone: Vec<_> = gone.collect();
            Ok((gone, last))
        };
        let (gone, last) = at.read(look).await?;
        if !gone.is_empty() {
            let end = move |items: &Items<'_>, _: &Entered| -> Result<(), EngineError> {
                for (path, binding) in &gone {
                    let account = match &binding.used_by {
                        Some(id) => AcmeAccount::find(items, id)?.zip(Some(id)),
                        None => None,
                    };
                    match account {
                        // It stays, so that its owner is told why.
                        Some((account, id)) if account.standing == Standing::Valid => {
                            account::end(items, id, Standing::Revoked, now_s)?;
                        }
                        Some(_) => {}
                        None => drop(items.delete(path)?),
                    }
                }
                Ok(())
            };
            at.keep(end, |(), _| ()).await?;
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Looks at what waits for it and nobody looks at.
async fn resume(at: &Arc<Entered>) -> Result<(), EngineError> {
    let memory = Memory::of(at.mount())?;
    if memory.looking.load(Relaxed) > 0 {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let from = after.clone();
        let page = at.read(move |items, _| Look::waiting(items, &from)).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after.clone_from(last);
        let api = Api(Arc::clone(at.metacrypt()));
        for look in page.into_iter().filter_map(|(_, look)| look) {
            if !look::begin(api.clone(), at.mount().name(), look)? {
                // The next time.
                return Ok(());
            }
        }
    }
}
