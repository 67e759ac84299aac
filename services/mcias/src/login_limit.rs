//! How many logins an account may begin.
//!
//! One that ends leaves a revocation until its token has expired, and beyond a million of those nobody is let in: whoever logs in again and
//! again by a passkey, or exchanges code after code, must not come near that alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{error::Error, time::unix};

/// In an hour: one a second, and nobody needs as many.
const IN_AN_HOUR: u32 = 3600;

/// Those of this hour, by account. There are no more entries than accounts.
#[derive(Default)]
pub(crate) struct LoginLimit(Mutex<(i64, HashMap<String, u32>)>);

impl LoginLimit {
    /// Counts one.
    ///
    /// # Errors
    /// If there were too many.
    pub(crate) fn begin(&self, account: &str, now: SystemTime) -> Result<(), Error> {
        let seconds = unix(now);
        let hour = seconds / 3600;
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.0 != hour {
            *logins = (hour, HashMap::new());
        }
        let count = logins.1.entry(account.to_owned()).or_default();
        if *count >= IN_AN_HOUR {
            let left = u64::try_from(3600 - seconds % 3600).unwrap_or(1);
            let text = "the account has logged in too often in this hour; the next one is soon";
            return Err(Error::too_many(text, Duration::from_secs(left)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    #[test]
    fn an_account_begins_so_many_logins_in_an_hour() {
        let (logins, start) = (LoginLimit::default(), 500_000 * 3600);
        for n in 0..IN_AN_HOUR {
            let now = at(start + i64::from(n) % 3600);
            assert!(logins.begin("ada", now).is_ok(), "{n}");
        }
        let refused = logins.begin("ada", at(start + 3599)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(logins.begin("bob", at(start + 3599)).is_ok(), "another");
        assert!(logins.begin("ada", at(start + 3600)).is_ok(), "later");
    }
}
