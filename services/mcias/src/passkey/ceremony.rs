//! What a ceremony needs between its halves: given to the client, sealed, and finished once.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mcdsl::clock::SKEW;
use rusqlite::params;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    core::{Change, Mcias},
    error::Error,
    random,
    time::unix,
};

/// For the person to find the authenticator.
const LIFETIME: Duration = Duration::from_secs(300);
/// Bytes of a sealed ceremony.
const MAX_CEREMONY: usize = 32 * 1024;

/// What a ceremony is sealed as: none is of use in another's place.
pub(super) const REGISTRATION: &str = "passkey-registration";
pub(super) const LOGIN: &str = "passkey-login";

/// Between the halves of a ceremony.
#[derive(Serialize, Deserialize)]
pub(super) struct Ceremony<T> {
    pub(super) until: i64,
    /// Whose; of a login nobody's yet.
    pub(super) account: String,
    pub(super) state: T,
}

impl Mcias {
    pub(super) fn seal_ceremony<T: Serialize>(
        &self,
        what: &str,
        account: &str,
        state: T,
    ) -> Result<String, Error> {
        let until = unix(self.now() + LIFETIME);
        let account = account.to_owned();
        let ceremony = Ceremony {
            until,
            account,
            state,
        };
        let text =
            serde_json::to_vec(&ceremony).map_err(|_| Error::Internal("a ceremony is no JSON"))?;
        Ok(BASE64.encode(self.passing.seal(what, &text)?))
    }

    pub(super) fn open_ceremony<T: DeserializeOwned>(
        &self,
        what: &str,
        sealed: &str,
    ) -> Result<Ceremony<T>, Error> {
        let none = || Error::invalid("ceremony: it is none of this service, or over; begin anew");
        if sealed.len() > MAX_CEREMONY {
            return Err(none());
        }
        let bytes = BASE64.decode(sealed).map_err(|_| none())?;
        let text = self.passing.open(what, &bytes).map_err(|_| none())?;
        let ceremony: Ceremony<T> = serde_json::from_slice(&text).map_err(|_| none())?;
        // What lasts for longer than a ceremony was begun while the clock was ahead.
        let now = self.now();
        if ceremony.until <= unix(now) || ceremony.until > unix(now + LIFETIME + SKEW) {
            return Err(none());
        }
        Ok(ceremony)
    }
}

/// Takes a ceremony, which is then over; whether it was not before.
pub(super) fn finish_once(change: &Change<'_>, sealed: &str, until: i64) -> rusqlite::Result<bool> {
    let sql = "INSERT OR IGNORE INTO ceremony VALUES (?1, ?2)";
    let values = params![random::hash(&["ceremony", sealed]), until];
    Ok(change.tx.execute(sql, values)? == 1)
}
