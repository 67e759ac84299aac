//! What ACME does of itself: what was to be looked at when the seal was closed is looked at, what MCIAS revoked ends, and what ended is forgotten.

use std::sync::Arc;

use super::{
    Memory, account, look,
    order::Order,
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
/// Orders that are ended with them in one transaction: an account may have many.
const ORDERS: usize = 500;

/// Does a piece of it; whether there is more.
pub(in super::super) async fn run(at: &Arc<Entered>) -> Result<bool, EngineError> {
    let (now_s, sure_s) = (seconds(at.now()), seconds(at.sure_now()));
    let old = move |items: &Items<'_>, _: &Entered| forget(items, sure_s, PAGE);
    if at.keep(old).await? {
        return Ok(true);
    }
    ended(at, now_s, sure_s).await
}

/// Ends the accounts of which MCIAS revoked what they were given by, for it forgets that in a while; forgets keys that nobody used in time, and accounts that
/// had ended long ago by `sure_s`. Whether there is more.
async fn ended(at: &Arc<Entered>, now_s: u64, sure_s: u64) -> Result<bool, EngineError> {
    let Some(mcias) = at.metacrypt().mcias.get().cloned() else {
        return Ok(false);
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
            let gone: Vec<_> = gone.into_iter().map(|(path, _)| path).collect();
            let end = move |items: &Items<'_>, _: &Entered| end(items, &gone, now_s, sure_s);
            if !at.keep(end).await? {
                return Ok(true);
            }
        }
        match last {
            Some(last) => after = last,
            None => return Ok(false),
        }
    }
}

/// Ends those of the keys at these paths that may not be used any more. Whether that was all: of their accounts' orders it ends [`ORDERS`] at most.
fn end(items: &Items<'_>, paths: &[String], now_s: u64, sure_s: u64) -> Result<bool, EngineError> {
    let mut left = ORDERS;
    for path in paths {
        let key = path.rsplit('/').next().unwrap_or_default();
        // It may have been used meanwhile.
        let Some(binding) = Binding::find(items, key)? else {
            continue;
        };
        let account = match &binding.used_by {
            Some(id) => AcmeAccount::find(items, id)?.zip(Some(id)),
            None => None,
        };
        if let Some((account, id)) = account {
            let stands = account.standing == Standing::Valid;
            // It stays for a while, so that its owner is told why.
            if !stands && !account.is_over(sure_s) {
                continue;
            }
            // Its orders first: while it has some, the next piece finds it again.
            left -= Order::cancel_some(items, id, now_s, left)?;
            if left == 0 {
                return Ok(false);
            }
            if stands {
                account::end(items, id, Standing::Revoked, now_s)?;
                continue;
            }
        }
        binding.delete(items, key, now_s)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::name::Names,
            jwk::Jwk,
            jws::tests::Signer,
            store::{Owner, new_id},
        },
        *,
    };
    use crate::{
        engine::transit,
        testing::{World, caller},
    };

    /// A key of somebody's, used for an account with so many open orders: its path.
    fn bound(items: &Items<'_>, owner: &str, orders: usize) -> Result<String, EngineError> {
        let owner = Owner::new(&caller(owner, "user", "/test/Acme").identity.unwrap());
        let (key, id) = (new_id()?, new_id()?);
        let binding = Binding {
            owner: owner.clone(),
            profiles: std::collections::BTreeSet::new(),
            created_s: 0,
            ends_s: 100,
            used_by: Some(id.clone()),
        };
        binding.create(items, &key, b"secret")?;
        for number in 0..orders {
            let names = Names::parse(&[format!("n{number}.example")]).unwrap();
            let token = || Ok::<_, ()>("token".to_owned());
            let order = Order::new(&id, &owner.id(), "web", names, None, 1000, token);
            order.unwrap().create(items, &new_id()?)?;
        }
        let account = AcmeAccount {
            key: Jwk::from_value(&Signer::new().jwk()).unwrap(),
            owner,
            binding: key.clone(),
            profiles: std::collections::BTreeSet::new(),
            contact: Vec::new(),
            standing: Standing::Valid,
            ended_s: 0,
        };
        account.put(items, &id)?;
        Ok(format!("{KEYS}{key}"))
    }

    #[tokio::test]
    async fn accounts_with_many_orders_end_piece_by_piece() {
        let world = World::vault().await;
        let at = world.metacrypt.own(&transit::KIND, "vault", "test.end");
        let test = |items: &Items<'_>, _: &Entered| {
            let owners = ["ada", "bob", "eve"];
            let paths: Vec<_> = owners
                .iter()
                .map(|owner| bound(items, owner, 200))
                .collect::<Result<_, _>>()?;
            let left = || -> Result<(usize, usize), EngineError> {
                let (mut open, mut standing) = (0, 0);
                for path in &paths {
                    let key = path.rsplit('/').next().unwrap();
                    let id = Binding::find(items, key)?.unwrap().used_by.unwrap();
                    open += Order::open_ids(items, &id, 1000)?.len();
                    let account = AcmeAccount::find(items, &id)?.unwrap();
                    standing += usize::from(account.standing == Standing::Valid);
                }
                Ok((open, standing))
            };
            assert_eq!(left()?, (600, 3));
            assert!(!end(items, &paths, 10, 10)?);
            assert_eq!(left()?, (100, 1), "who has orders stands");
            assert!(end(items, &paths, 10, 10)?);
            assert_eq!(left()?, (0, 0));
            assert!(end(items, &paths, 10, 10)?, "they are kept for a while");
            assert_eq!(left()?, (0, 0));
            let later = 10 + 31 * 24 * 60 * 60;
            assert!(end(items, &paths, later, later)?);
            assert!(items.names(KEYS, "", 1)?.is_empty());
            Ok(())
        };
        at.unwrap().keep(test).await.unwrap();
    }
}
