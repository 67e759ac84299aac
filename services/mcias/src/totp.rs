//! Time-based one-time passwords (RFC 6238): six digits, 30 s, SHA-1, which is what authenticator apps have in common.

use std::time::SystemTime;

use mcdsl::auth::token::seconds;
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

/// Bytes of a secret (RFC 4226 §4 wants 20).
const SECRET: usize = 20;
/// Digits of a code.
const DIGITS: u8 = 6;
/// Seconds of a step.
const STEP: u64 = 30;
/// Steps before and after the present one that count, for clocks that differ and people who type slowly.
const SKEW: u16 = 1;

/// Why there is no secret or no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    /// The system gives no random bytes.
    #[error("an internal error: no random bytes")]
    Random,
    /// The library refuses the secret, the issuer or the account's name.
    #[error("an internal error: the secret cannot be used")]
    Secret,
}

/// A secret that an authenticator app shares.
#[derive(Clone)]
pub struct Shared(Zeroizing<Vec<u8>>);

impl Shared {
    /// A new one.
    ///
    /// # Errors
    /// [`TotpError::Random`].
    pub fn generate() -> Result<Self, TotpError> {
        let mut secret = Zeroizing::new(vec![0; SECRET]);
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| TotpError::Random)?;
        Ok(Self(secret))
    }

    /// From the database.
    #[must_use]
    pub fn from_bytes(secret: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        Self(secret.into())
    }

    /// For the database, sealed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// To be typed, Base32.
    #[must_use]
    pub fn base32(&self) -> String {
        Secret::from(self.0.to_vec()).to_base32()
    }

    /// `otpauth://totp/…`, for apps.
    ///
    /// # Errors
    /// [`TotpError::Secret`]; the issuer and the name hold no colon.
    pub fn uri(&self, issuer: &str, account: &str) -> Result<String, TotpError> {
        self.totp(issuer, account)?
            .to_url()
            .map_err(|_| TotpError::Secret)
    }

    /// The step that a code is of, if it is right and of a later one than `last`: no code is right twice, and none before it either.
    /// Whoever takes it enters the step with the condition that `last` is still the last.
    ///
    /// # Errors
    /// [`TotpError::Secret`].
    pub fn check(&self, code: &str, last: u64, now: SystemTime) -> Result<Option<u64>, TotpError> {
        let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        if digits.len() != usize::from(DIGITS) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        let step = self.totp("MCIAS", "account")?.check(&digits, seconds(now));
        Ok(step.filter(|step| *step > last))
    }

    fn totp(&self, issuer: &str, account: &str) -> Result<Totp, TotpError> {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_skew(SKEW)
            .with_step_duration(STEP)
            .with_secret(self.0.to_vec())
            .with_issuer(Some(issuer))
            .with_account_name(account)
            .build()
            .map_err(|_| TotpError::Secret)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// RFC 6238, appendix B, the last six digits.
    #[test]
    fn codes_are_the_rfcs() {
        let shared = Shared::from_bytes(b"12345678901234567890".to_vec());
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let step = shared.check(code, 0, at(time)).unwrap();
            assert_eq!(step, Some(time / STEP), "{time}");
        }
    }

    #[test]
    fn a_code_is_right_once_and_for_a_while() {
        let shared = Shared::from_bytes(b"12345678901234567890".to_vec());
        let (time, code) = (1_111_111_111, "050471");
        let step = time / STEP;
        for (description, code, last, time, right) in [
            ("now", code, 0, time, true),
            ("with a space", "050 471", 0, time, true),
            ("a step later", code, 0, time + STEP, true),
            ("a step earlier", code, 0, time - STEP, true),
            ("two steps later", code, 0, time + 2 * STEP, false),
            ("two steps earlier", code, 0, time - 2 * STEP, false),
            ("after itself", code, step, time, false),
            ("after a later one", code, step + 1, time, false),
            ("after an earlier one", code, step - 1, time, true),
            ("without its zero", "50471", 0, time, false),
            ("with a sign", "+50471", 0, time, false),
            ("other digits", "٠٥٠٤٧١", 0, time, false),
            ("empty", "", 0, time, false),
            ("too long", "0050471", 0, time, false),
        ] {
            let got = shared.check(code, last, at(time)).unwrap();
            assert_eq!(got.is_some(), right, "{description}");
        }
    }

    /// Another implementation agrees.
    #[test]
    fn oathtool_makes_the_same_codes() {
        let shared = Shared::generate().unwrap();
        for time in [0, 1_700_000_000, 4_000_000_000] {
            let output = Command::new("oathtool")
                .args(["--totp", "--base32", &shared.base32()])
                .arg(format!("--now=@{time}"))
                .output()
                .unwrap();
            let code = String::from_utf8(output.stdout).unwrap();
            let step = shared.check(code.trim(), 0, at(time + 1)).unwrap();
            // Of the first step none is later than 0.
            assert_eq!(step.is_some(), time > 0, "{time}: {code}");
        }
        let uri = shared.uri("MCIAS", "ada").unwrap();
        assert!(
            uri.starts_with("otpauth://totp/") && uri.contains(&shared.base32()),
            "{uri}"
        );
    }
}
