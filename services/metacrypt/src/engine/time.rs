//! Times as they are stored: seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many there were at this time; before 1970 there were none.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The time at which there were so many; 1970, where there is no such time.
pub(crate) fn time(seconds: u64) -> SystemTime {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.unwrap_or(UNIX_EPOCH)
}
