//! The password of a seal: whoever has a snapshot may guess at it for as long as he likes.

use zxcvbn::{Score, zxcvbn};

use crate::barrier::MAX_PASSWORD;

/// Characters that are judged: beyond them zxcvbn takes long, and it is long enough.
const JUDGED: usize = 100;

/// Why a password is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Over [`MAX_PASSWORD`].
    #[error("it is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// zxcvbn says why.
    #[error("it is too easy to guess{0}; take five or more words that nobody puts together")]
    Guessable(String),
}

/// Whether a password is good enough for what is never to be guessed, offline and for years.
///
/// # Errors
/// [`Weak`].
pub fn check(password: &str) -> Result<(), Weak> {
    if password.len() > MAX_PASSWORD {
        return Err(Weak::TooLong);
    }
    let judged: String = password.chars().take(JUDGED).collect();
    let judged = zxcvbn(&judged, &["metacrypt", "metacircular"]);
    if judged.score() >= Score::Four {
        return Ok(());
    }
    let warning = judged.feedback().and_then(|feedback| feedback.warning());
    let warning = warning.map(|w| format!(" ({})", w.to_string().trim_end_matches('.')));
    Err(Weak::Guessable(warning.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_easy_to_guess_is_refused() {
        let long = "a".repeat(MAX_PASSWORD + 1);
        for (description, password, fine) in [
            ("nothing", "", false),
            ("the usual", "password1", false),
            ("the name", "metacrypt-metacrypt", false),
            ("one letter, often", "aaaaaaaaaaaaaaaaaaaa", false),
            ("words", "walnut anchor tepid flamingo lease", true),
            ("too long", &long, false),
        ] {
            assert_eq!(check(password).is_ok(), fine, "{description}");
        }
    }
}
