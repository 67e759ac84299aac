//! What the audit log has in the place of secrets: who has one can be told in which requests it was (AuditHash), and who has the log can neither guess at it nor see
//! that two requests had the same.
//!
//! An HMAC that is the same for the same secret would be an oracle for whoever reads the log and may have any secret of his own written into it: he would compare. So each
//! row has random bytes of its own in its HMACs, and the rows of a secret are looked for by who has the key, which is behind the seal.

use std::collections::BTreeMap;

use aws_lc_rs::{
    digest,
    hmac::{self, HMAC_SHA256},
    rand,
};
use data_encoding::BASE64URL_NOPAD;
use mc_proto::Secrets;
use mcdsl::audit::Detail;
use serde_json::Value;

use super::key::{Key, KeyError};

/// Random bytes of a row.
const SALT: usize = 16;
/// Bytes of an HMAC that are kept. Of a thousand million others, one is taken for a secret once in 280,000 times.
const KEPT: usize = 6;
/// Characters of them.
const TAG: usize = KEPT / 3 * 4;
/// Secrets of one row, at most: more than a request or an answer may have.
const MOST: usize = 1536;

/// Of a field's, so many are shown in a table.
const SHOWN: usize = 3;

/// The detail of a row as a table has it: of the HMACs of a batch the first, and how many more there are.
pub(crate) fn few(detail: &str) -> String {
    let row = serde_json::from_str::<Value>(detail).unwrap_or_default();
    let all = row["hmac"].as_str().unwrap_or_default();
    let field = |field: &str| {
        let (name, tags) = field.split_once('=')?;
        let first = tags.get(..SHOWN * TAG)?;
        let more = tags.len() / TAG - SHOWN;
        (more > 0).then(|| format!("{name}={first} and {more} more"))
    };
    let shown = all.split(' ').map(|one| match field(one) {
        Some(few) => few,
        None => one.to_owned(),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match all.is_empty() {
        true => detail.to_owned(),
        false => detail.replacen(all, &shown, 1),
    }
}

/// SHA-256 of a secret: however long that is, each row that is looked at costs the same.
pub struct Hashed(digest::Digest);

impl Hashed {
    /// Of this secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(digest::digest(&digest::SHA256, secret))
    }
}

/// Makes them.
pub struct Prints(hmac::Key);

impl Prints {
    pub(super) fn new(key: &Key) -> Self {
        let key = key.derived("audit");
        Self(hmac::Key::new(HMAC_SHA256, key.bytes()))
    }

    /// That of a secret, in a row of these random bytes.
    fn of(&self, salt: &[u8; SALT], secret: &Hashed) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(salt);
        context.update(secret.0.as_ref());
        BASE64URL_NOPAD.encode(&context.sign().as_ref()[..KEPT])
    }

    /// Adds those of what a request's definition says is secret: each field's name, and behind it one for each secret of that name.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn noted(&self, detail: Detail, request: &dyn Secrets) -> Result<Detail, KeyError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| KeyError::Random)?;
        let (mut fields, mut number) = (BTreeMap::<_, String>::new(), 0);
        request.each_secret(&mut |field, secret| {
            if !secret.is_empty() && number < MOST {
                let tags = fields.entry(field).or_default();
                tags.push_str(&self.of(&salt, &Hashed::new(secret)));
                number += 1;
            }
        });
        if fields.is_empty() {
            return Ok(detail);
        }
        let fields = fields.iter().map(|(field, tags)| format!("{field}={tags}"));
        let noted: Vec<_> = fields.collect();
        let detail = detail.long("hmac", &noted.join(" "));
        Ok(detail.text("hmac_salt", &mcdsl::human::hex(&salt)))
    }

    /// Whether the detail of a row has that of a secret.
    #[must_use]
    pub fn is_in(&self, detail: &str, secret: &Hashed) -> bool {
        let detail = serde_json::from_str::<Value>(detail).unwrap_or_default();
        let text = |key: &str| detail[key].as_str().unwrap_or_default();
        let salt = data_encoding::HEXLOWER.decode(text("hmac_salt").as_bytes());
        let Some(salt) = salt.ok().and_then(|salt| salt.try_into().ok()) else {
            return false;
        };
        let wanted = self.of(&salt, secret);
        let fields = text("hmac").split(' ');
        let mut tags = fields.filter_map(|field| field.split_once('='));
        tags.any(|(_, tags)| {
            tags.as_bytes()
                .chunks(TAG)
                .any(|tag| tag == wanted.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use mc_proto::metacrypt::v1::{EncryptRequest, Plaintext};

    use super::*;

    fn request(texts: impl IntoIterator<Item = String>) -> EncryptRequest {
        let plaintexts = texts.into_iter().map(|text| Plaintext {
            plaintext: text.into_bytes(),
            ..Plaintext::default()
        });
        EncryptRequest {
            plaintexts: plaintexts.collect(),
            ..EncryptRequest::default()
        }
    }

    #[test]
    fn a_row_is_found_by_any_of_its_secrets_and_compared_with_no_other() {
        let key = Key::random().unwrap();
        let (prints, other) = (Prints::new(&key), Prints::new(&Key::random().unwrap()));
        for number in [1, 2, 17, 1024] {
            let all = || (0..number).map(|n| format!("secret {n}"));
            let noted = || prints.noted(Detail::new(), &request(all()));
            let noted = || noted().unwrap().to_json();
            let (one, two) = (noted(), noted());
            for secret in all() {
                let secret = &Hashed::new(secret.as_bytes());
                assert!(prints.is_in(&one, secret) && prints.is_in(&two, secret));
                assert!(!other.is_in(&one, secret), "another key");
            }
            assert!(!prints.is_in(&one, &Hashed::new(b"secret")), "of {number}");
            let hmac = |text: &str| -> Value {
                serde_json::from_str::<Value>(text).unwrap()["hmac"].clone()
            };
            assert_ne!(hmac(&one), hmac(&two), "the same secrets in two rows");
            assert_eq!(
                hmac(&one).as_str().unwrap().len(),
                "plaintext=".len() + number * TAG
            );
        }
        let nothing = request([String::new()]);
        let noted = prints.noted(Detail::new(), &nothing).unwrap();
        assert_eq!(noted, Detail::new());
        for (number, more) in [(1, 0), (3, 0), (4, 1), (1024, 1021)] {
            let texts = (0..number).map(|n| format!("secret {n}"));
            let row = Detail::new().text("by", "rule a");
            let row = prints.noted(row, &request(texts)).unwrap().to_json();
            let shown = few(&row);
            let all: Value = serde_json::from_str(&row).unwrap();
            let now: Value = serde_json::from_str(&shown).unwrap();
            let all = all["hmac"].as_str().unwrap();
            let wanted = match more {
                0 => all.to_owned(),
                _ => format!(
                    "{} and {more} more",
                    &all[.."plaintext=".len() + SHOWN * TAG]
                ),
            };
            assert_eq!(now["hmac"], wanted);
            assert_eq!(shown, row.replace(all, &wanted), "the rest is as it was");
        }
        let two = r#"{"hmac":"a=0123456789abcdef0123456789abcdef b=01234567"}"#;
        let wanted = r#"{"hmac":"a=0123456789abcdef01234567 and 1 more, b=01234567"}"#;
        assert_eq!(few(two), wanted);
        for changed in [
            "",
            "[]",
            r#"{"hmac":1}"#,
            r#"{"hmac":"a=","hmac_salt":"00"}"#,
            r#"{"hmac":"é=aéééééééééééééééééééééééééééééé"}"#,
        ] {
            assert_eq!(few(changed), changed);
            assert!(!prints.is_in(changed, &Hashed::new(b"one")), "{changed}");
        }
    }
}
