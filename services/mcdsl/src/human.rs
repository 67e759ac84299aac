//! Durations and sizes as people write and read them. Used by configuration files and CLIs alike, so that
//! what one prints the other accepts.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Text that is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number with a unit.
    #[error("{0:?} is not a duration; write it like 30s, 10m, 1h30m, 250ms or 2d")]
    Syntax(String),
    /// More than `u64` milliseconds.
    #[error("the duration {0:?} is too long")]
    TooLong(String),
}

/// Read and not written: whoever sees 52w1d has to reckon how long a year's certificate is.
const WEEK: (&str, u64) = ("w", 7 * 86_400_000);
/// Units that are written, longest first; milliseconds each.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses "10m", "1h30m", "250ms": whole numbers, each with a unit (w, d, h, m, s, ms).
///
/// # Errors
/// [`DurationError`]; a number without a unit is refused, for it would be a guess.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(syntax)?;
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(syntax());
        }
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let mut units = UNITS.iter().chain([&WEEK]);
        let (_, scale) = units.find(|(u, _)| *u == unit).ok_or_else(syntax)?;
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total = number
            .checked_mul(*scale)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(too_long)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the form that [`parse_duration`] reads, exact to the millisecond.
pub fn duration(value: Duration) -> String {
    let mut ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, scale) in UNITS {
        if ms >= scale {
            out.push_str(&format!("{}{unit}", ms / scale));
            ms %= scale;
        }
    }
    out
}

/// From this on, years are told.
const YEARS: u64 = 2 * YEAR;
/// Seconds of 365 days.
const YEAR: u64 = 365 * 86_400;

/// Writes a duration for a glance: its two largest units, years among them.
pub fn duration_short(value: Duration) -> String {
    if value.as_secs() >= YEARS {
        let (years, rest) = (value.as_secs() / YEAR, value.as_secs() % YEAR);
        return match rest / 86_400 {
            0 => format!("{years}y"),
            days => format!("{years}y{days}d"),
        };
    }
    let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let first = UNITS.iter().position(|(_, scale)| ms >= *scale);
    let last = first.map_or(UNITS.len() - 1, |i| (i + 1).min(UNITS.len() - 1));
    let scale = UNITS[last].1;
    duration(Duration::from_millis(ms - ms % scale))
}

/// Writes a duration to the next whole second, if it is of seconds.
pub fn duration_rounded(value: Duration) -> String {
    match value.as_secs() {
        0 => duration(value),
        _ => duration(Duration::from_secs(value.as_secs_f64().round() as u64)),
    }
}

/// Writes milliseconds since 1970 as RFC 3339 in UTC, to the second. The calendar by Howard Hinnant's `civil_from_days`, for years from 0.
pub fn utc(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that the leap day is the last of its year.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Writes how far a time, in seconds since 1970, is from now: "in 2d3h", "5m ago".
pub fn when(unix_s: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let at = u64::try_from(unix_s).unwrap_or_default();
    let apart = duration_short(Duration::from_secs(at.abs_diff(now)));
    match at > now {
        true => format!("in {apart}"),
        false => format!("{apart} ago"),
    }
}

/// Writes a number of things: "1 rule", "2 rules".
pub fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        n => format!("{n} {thing}s"),
    }
}

/// Writes the first few of many names: "a, b, c and 8 more".
pub fn some(names: &[String]) -> String {
    const FEW: usize = 3;
    match names.len().checked_sub(FEW) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..FEW].join(", ")),
    }
}

/// Writes a rate per second, minute or hour, whichever is the first of 1 or more: "50/s", "10/m".
pub fn rate(per_second: f64) -> String {
    // 10/m is stored as 0.1666…/s: three digits after the point bring it back.
    let rounded = |rate: f64| (rate * 1000.0).round() / 1000.0;
    match per_second {
        r if r >= 1.0 => format!("{}/s", rounded(r)),
        r if r * 60.0 >= 1.0 => format!("{}/m", rounded(r * 60.0)),
        r => format!("{}/h", rounded(r * 3600.0)),
    }
}

/// Writes a size with a binary unit: "512 B", "1.5 KiB".
pub fn bytes(value: u64) -> String {
    const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < NAMES.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value} B"),
        _ => format!("{scaled:.1} {}", NAMES[unit]),
    }
}

/// Hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows: [(&str, &str, Option<u64>); 12] = [
            ("seconds", "30s", Some(30_000)),
            ("minutes", "10m", Some(600_000)),
            ("compound", "1h30m", Some(5_400_000)),
            ("milliseconds are not minutes", "250ms", Some(250)),
            ("weeks and days", "1w2d", Some(777_600_000)),
            ("zero", "0s", Some(0)),
            ("no unit", "30", None),
            ("no number", "m", None),
            ("empty", "", None),
            ("unknown unit", "3y", None),
            ("negative", "-3s", None),
            ("overflow", "99999999999999999999w", None),
        ];
        for (what, text, want) in rows {
            let got = parse_duration(text).ok();
            assert_eq!(got, want.map(Duration::from_millis), "{what}");
            if let Some(got) = got {
                assert_eq!(
                    parse_duration(&duration(got)),
                    Ok(got),
                    "{what}: round trip"
                );
            }
        }
        assert_eq!(duration_short(Duration::from_secs(93_784)), "1d2h");
        assert_eq!(duration_short(Duration::from_millis(61_005)), "1m1s");
        assert_eq!(duration_short(Duration::ZERO), "0s");
        let days = |n: u64| duration_short(Duration::from_secs(n * 86_400));
        assert_eq!((days(90), days(365)), ("90d".into(), "365d".into()));
        assert_eq!((days(730), days(825)), ("2y".into(), "2y95d".into()));
        assert_eq!(days(107_961 * 7), "2070y177d");
        assert_eq!(duration(Duration::from_secs(14 * 86_400 + 60)), "14d1m");
        let rounded = |ms| duration_rounded(Duration::from_millis(ms));
        assert_eq!(
            (rounded(86_399_992), rounded(100)),
            ("1d".into(), "100ms".into())
        );
    }

    #[test]
    fn times() {
        for (unix_ms, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix_ms), want);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap();
        assert_eq!(when(now - 2 * 86_400 * 365), "2y ago");
        assert!(when(now + 100_000).starts_with("in 1d3h"));
        assert!(when(i64::MAX).starts_with("in ") && when(i64::MIN).ends_with(" ago"));
    }

    #[test]
    fn one_is_not_many() {
        let told = [0, 1, 2].map(|n| count(n, "rule"));
        assert_eq!(told, ["0 rules", "1 rule", "2 rules"]);
        let names = |n: usize| some(&vec!["a".to_owned(); n]);
        assert_eq!((names(1), names(3)), ("a".into(), "a, a, a".into()));
        assert_eq!(names(11), "a, a, a and 8 more");
    }

    #[test]
    fn digits() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }

    #[test]
    fn rates() {
        let rows = [
            (50.0, "50/s"),
            (1.5, "1.5/s"),
            (10.0 / 60.0, "10/m"),
            (0.01, "36/h"),
        ];
        for (value, want) in rows {
            assert_eq!(rate(value), want);
        }
    }

    #[test]
    fn sizes() {
        let rows = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (value, want) in rows {
            assert_eq!(bytes(value), want);
        }
    }
}
