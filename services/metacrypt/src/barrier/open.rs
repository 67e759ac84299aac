//! An attempt at the seal, from what was typed to the keys.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Transaction};
use zeroize::Zeroizing;

use super::{
    Origin, Seal, SealError, Secret, SlotError, Unsealed,
    attempts::Attempts,
    beside,
    key::Key,
    rows, seconds,
    slot::{BY_PASSWORD, Slot},
};

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// That a text is a share, as far as one alone tells: for who types several.
///
/// # Errors
/// [`SlotError`].
pub fn is_share(text: &str) -> Result<(), SlotError> {
    let one = Zeroizing::new(text.to_owned());
    Secret::Shares(vec![one]).read().map(drop)
}

/// The one that a kind of secret opens.
pub(super) fn slot(slots: Vec<Slot>, kind: &'static str) -> Result<Slot, SlotError> {
    let slot = slots.into_iter().find(|slot| slot.kind.name() == kind);
    slot.ok_or(SlotError::Missing(kind))
}

impl Seal {
    /// Opens it by a secret that came from `source`, whether it is open or not. `ready` is given what it opened, and writes that down, in the transaction that says
    /// that the attempt has not failed.
    ///
    /// # Errors
    /// [`SealError`]; a wrong secret makes the next attempt wait.
    pub async fn open(
        &self,
        secret: Secret,
        source: IpAddr,
        ready: impl FnOnce(&Transaction<'_>, &Unsealed) -> Result<(), SealError> + Send + 'static,
    ) -> Result<Unsealed, SealError> {
        let opened = |tx: &Transaction<'_>, master, generation| {
            let mounts = rows::mounts(tx, &master)?;
            let unsealed = Unsealed {
                master,
                generation,
                mounts,
            };
            ready(tx, &unsealed)?;
            Ok(unsealed)
        };
        self.attempt(secret, source, opened).await
    }

    /// Whether a secret that came from `source` would open it.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub async fn verify(&self, secret: Secret, source: IpAddr) -> Result<(), SealError> {
        self.attempt(secret, source, |_, _, _| Ok(())).await
    }

    /// One attempt; of passwords one is counted, and waited for. `opened` is given the master key and its number, in the transaction that says that the attempt has not failed.
    async fn attempt<T: Send + 'static>(
        &self,
        secret: Secret,
        source: IpAddr,
        opened: impl FnOnce(&Transaction<'_>, Key, i64) -> Result<T, SealError> + Send + 'static,
    ) -> Result<T, SealError> {
        // Slips are told before anything is waited for or written.
        let kind = secret.kind();
        let secret = secret.read()?;
        let network = mcdsl::server::network(source).to_string();
        let looked = network.clone();
        let look = move |db: &Connection| -> Result<_, SealError> {
            rows::generation(db)?;
            slot(rows::slots(db)?, kind)?.check(&secret)?;
            let known = source.is_loopback() || rows::is_known(db, &looked)?;
            Ok((secret, known))
        };
        let (secret, known) = self.store.read(look).await?;
        let origin = match known {
            true => Origin::Known,
            false => Origin::Stranger,
        };
        // Nobody finds a key of random bytes by guessing, and to look takes no time: who has it does not wait for those who guess at the password.
        if kind != BY_PASSWORD {
            let now = self.clock.now();
            let end = move |tx: &Transaction<'_>| -> Result<_, SealError> {
                let (generation, slots) = (rows::generation(tx)?, rows::slots(tx)?);
                let master = slot(slots, kind)?.open(&secret, generation)?;
                rows::note(tx, origin, Attempts::default())?;
                rows::remember(tx, &network, seconds(now))?;
                opened(tx, master, generation)
            };
            return self.store.write(end).await;
        }
        let mut turn = self.lines.turn(origin).await?;
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let last = *turn.last;
        let begin = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            let (generation, slots) = (rows::generation(tx)?, rows::slots(tx)?);
            let now_ms = milliseconds(now);
            let was = rows::attempts(tx, origin)?;
            let before = was.until(now_ms);
            let since = last.map_or_else(
                || before.since(now_ms),
                |last| steady.saturating_duration_since(last),
            );
            let wait = before.wait(since);
            match wait {
                Duration::ZERO => rows::note(tx, origin, before.begun(now_ms))?,
                // The clock was set back: the wait is counted from now.
                _ if before != was => rows::note(tx, origin, before)?,
                _ => {}
            }
            Ok((wait, generation, slot(slots, kind)?, before))
        };
        let (wait, generation, slot, before) = self.store.write(begin).await?;
        if wait > Duration::ZERO {
            return Err(SealError::Wait(wait));
        }
        *turn.last = Some(steady);
        let tried = beside(move || slot.open(&secret, generation)).await;
        let end = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            match tried {
                Ok(master) => {
                    rows::note(tx, origin, Attempts::default())?;
                    rows::remember(tx, &network, seconds(now))?;
                    Ok(Ok(opened(tx, master, generation)?))
                }
                Err(error @ SealError::Slot(SlotError::Wrong)) => Ok(Err(error)),
                Err(error) => {
                    // Nobody learned anything by it.
                    rows::note(tx, origin, before)?;
                    Ok(Err(error))
                }
            }
        };
        self.store.write(end).await?
    }
}
