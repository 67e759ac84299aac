//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long a condition may take before it counts as never: generous, since only failures wait this long, and a machine with
/// others on it may stand still for a while.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value. For a bool: `|| ready().then_some(())`.
///
/// # Errors
/// After [`DEADLINE`], naming `what` was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if start.elapsed() > DEADLINE {
            bail!("waited {DEADLINE:?} for {what}, in vain");
        }
        thread::sleep(POLL);
    }
}

/// [`wait_for`] for conditions that are futures.
///
/// # Errors
/// After [`DEADLINE`], naming `what` was waited for.
pub async fn wait_for_async<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let poll = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(DEADLINE, poll).await {
        Ok(value) => Ok(value),
        Err(_) => bail!("waited {DEADLINE:?} for {what}, in vain"),
    }
}
