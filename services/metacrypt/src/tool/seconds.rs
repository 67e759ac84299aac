//! Lengths of time, as arguments and as they are shown.

use std::time::Duration;

use mcdsl::human::{duration, parse_duration};

/// `8h`, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let length = parse_duration(text).map_err(|_| "write how long, like 8h or 90d".to_owned())?;
    Ok(length.as_secs())
}

/// The other way; "-" for none.
pub(super) fn length(seconds: u64) -> String {
    match seconds {
        0 => "-".to_owned(),
        seconds => duration(Duration::from_secs(seconds)),
    }
}
