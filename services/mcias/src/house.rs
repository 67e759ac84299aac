//! Forgetting what is over, again and again.
//!
//! What is forgotten does not come back, and a clock may be wrong for a while: with a revocation that was forgotten by a clock a year ahead,
//! a stolen token would be valid again once the clock is right. So what is over is decided by a time of its own, kept in the database.
//! It is never ahead of the clock, and goes ahead by at most [`PACE`] times what has passed by the monotonic clock while the service ran. A
//! clock that is wrong for an hour forgets nothing that was to stay for [`PACE`] hours more; after a month without the service
//! it takes four days until all is forgotten that was over. Whether something is *valid* is never asked here: that is by the clock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{OptionalExtension as _, Transaction};

use crate::{
    bans,
    core::{InForce, LIFETIME, Mcias},
    device,
    error::Error,
    keys, oidc, session,
    time::{at, unix},
};

/// Between two rounds.
const BETWEEN: Duration = Duration::from_secs(600);
/// How many times faster than the monotonic clock what is over is caught up with.
const PACE: u32 = 8;
/// A clock that is ahead by more is told in the log.
const AHEAD: Duration = Duration::from_secs(3600);
/// Rows of names that were guessed at.
const MAX_GUESSES: i64 = 100_000;
/// For how long it is remembered that a network was banned: the next ban is longer.
const BANS_S: i64 = 30 * 24 * 3600;
const DAY_S: i64 = 24 * 3600;

/// When the last round was, by the monotonic clock, and whether the clock was told to be ahead then.
pub(crate) struct Rounds {
    last: Instant,
    told: bool,
}

impl Rounds {
    /// Of a service that starts.
    pub(crate) fn from(start: Instant) -> Self {
        Self {
            last: start,
            told: false,
        }
    }
}

impl Mcias {
    /// Round after round.
    pub(crate) async fn keep_house(self: Arc<Self>) {
        let mut interval = tokio::time::interval(BETWEEN);
        loop {
            interval.tick().await;
            if let Err(error) = self.forget().await {
                tracing::error!(
                    error = mcdsl::cli::chain(&error),
                    "what is over cannot be forgotten"
                );
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn forget(self: &Arc<Self>) -> Result<(), Error> {
        let mut rounds = self.rounds.lock().await;
        let (now, steady) = (self.now(), self.clock.steady());
        let passed = steady.saturating_duration_since(rounds.last);
        let this = Arc::clone(self);
        let over = self.sources().over(now);
        let write = move |tx: &Transaction<'_>| {
            for (network, refused) in &over {
                bans::log_end(tx, *network, *refused, now)?;
            }
            let time = forgotten_until(mark(tx)?, passed, now);
            let sql = "INSERT OR REPLACE INTO setting (name, value) VALUES ('forgotten_until', ?1)";
            tx.execute(sql, [unix(time).to_string()])?;
            let read = match forget(tx, time)? {
                true => Some(InForce::load(tx, &this.seal)?),
                false => None,
            };
            Ok::<_, Error>((time, read, over))
        };
        let this = Arc::clone(self);
        let then = move |(time, read, over): (SystemTime, Option<InForce>, Vec<_>)| {
            for (network, refused) in over {
                this.sources().told(network, refused);
            }
            if let Some(read) = read {
                this.put_in_force(read);
            }
            time
        };
        let time = self.store.write_then(write, then).await?;
        rounds.last = steady;
        let ahead = now.duration_since(time).unwrap_or_default();
        if ahead > AHEAD && !rounds.told {
            tracing::warn!(
                seconds = ahead.as_secs(),
                "the clock went ahead by more than has passed while the service ran: what is over by it is forgotten little by little, \
                 in case it comes back"
            );
        }
        rounds.told = ahead > AHEAD;
        self.revocations.state().revocations.forget(time);
        bans::forget(&mut self.bans.state(), time);
        Ok(())
    }
}

/// The time by which something is over; `mark`: that of the round before.
fn forgotten_until(mark: Option<SystemTime>, passed: Duration, now: SystemTime) -> SystemTime {
    mark.map_or(now, |mark| now.min(mark + passed.saturating_mul(PACE)))
}

fn mark(tx: &Transaction<'_>) -> rusqlite::Result<Option<SystemTime>> {
    let sql = "SELECT value FROM setting WHERE name = 'forgotten_until'";
    let value: Option<String> = tx.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(value.and_then(|value| value.parse().ok()).map(at))
}

/// Forgets; whether keys were among it.
fn forget(tx: &Transaction<'_>, time: SystemTime) -> Result<bool, Error> {
    let seconds = unix(time);
    tx.execute("DELETE FROM revocation WHERE forget_s <= ?1", [seconds])?;
    session::forget(tx, time)?;
    device::forget(tx, time)?;
    oidc::forget(tx, time)?;
    tx.execute("DELETE FROM ceremony WHERE until_s <= ?1", [seconds])?;
    tx.execute("DELETE FROM token WHERE expires_s <= ?1", [seconds])?;
    let day = seconds - DAY_S;
    tx.execute("DELETE FROM guesses WHERE last_s < ?1", [day])?;
    tx.execute(
        "DELETE FROM guesses WHERE key IN (SELECT key FROM guesses ORDER BY failures, last_s
            LIMIT max(0, (SELECT count(*) FROM guesses) - ?1))",
        [MAX_GUESSES],
    )?;
    let sql = "DELETE FROM totp WHERE NOT confirmed AND created_s < ?1";
    tx.execute(sql, [day])?;
    let sql = "DELETE FROM ban WHERE until_s < ?1";
    tx.execute(sql, [seconds - BANS_S])?;
    Ok(keys::forget(tx, LIFETIME, time)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_takes_nothing_along() {
        const HOUR: u64 = 3600;
        const YEAR: u64 = 365 * 24 * HOUR;
        let time = |hours: u64| at(1_800_000_000) + Duration::from_secs(hours * HOUR);
        for (description, mark, passed, now, wanted) in [
            ("the first round", None, 0, time(5), time(5)),
            ("as time passes", Some(time(5)), HOUR, time(6), time(6)),
            ("the clock stands", Some(time(5)), HOUR, time(5), time(5)),
            ("after a start, at once", Some(time(5)), 0, time(6), time(5)),
            (
                "a year ahead",
                Some(time(5)),
                HOUR,
                time(5) + Duration::from_secs(YEAR),
                time(5 + u64::from(PACE)),
            ),
            ("a day back", Some(time(25)), HOUR, time(1), time(1)),
            ("for ever", Some(time(5)), u64::MAX / 1000, time(6), time(6)),
        ] {
            let got = forgotten_until(mark, Duration::from_secs(passed), now);
            assert_eq!(got, wanted, "{description}");
        }
    }
}
