//! How entries ended, in words for people: the log has codes of gRPC, of which several are one thing to whoever looks for it.

use tonic::Code;

use crate::server::code_name;

/// What an outcome is looked for by, beside the code itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// What it means, for help texts and pages.
    pub means: &'static str,
}

/// The words, in the order in which they are offered.
pub const WORDS: [Word; 6] = [
    Word {
        word: OK,
        means: "done",
    },
    Word {
        word: FAILED,
        means: "everything but ok",
    },
    Word {
        word: DENIED,
        means: "a wrong password, code or token, or not allowed",
    },
    Word {
        word: LIMITED,
        means: "too often or too much: has to wait",
    },
    Word {
        word: INVALID,
        means: "wrong, not there, or something else has to come first",
    },
    Word {
        word: ERROR,
        means: "the service could not",
    },
];

const OK: &str = "ok";
const FAILED: &str = "failed";
const DENIED: &str = "denied";
const LIMITED: &str = "limited";
const INVALID: &str = "invalid";
const ERROR: &str = "error";

/// How an entry can have ended, as a [`super::Record`] says it.
pub fn outcomes() -> impl Iterator<Item = (&'static str, Code)> {
    let codes = (Code::Ok as i32..=Code::Unauthenticated as i32).map(Code::from_i32);
    codes.map(|code| (code_name(code), code))
}

/// The codes that somebody means by one of [`WORDS`] or by a code's own name, in whichever case; `None`: it is neither.
#[must_use]
pub fn meant(text: &str) -> Option<Vec<Code>> {
    let text = text.to_ascii_lowercase();
    let found = outcomes().filter(|(name, code)| match &*text {
        FAILED => *code != Code::Ok,
        text => text == word(*code) || name.eq_ignore_ascii_case(text),
    });
    let codes: Vec<_> = found.map(|(_, code)| code).collect();
    (!codes.is_empty()).then_some(codes)
}

/// The word for how a [`super::Record`] ended; what is no code of gRPC is an error.
#[must_use]
pub fn in_a_word(outcome: &str) -> &'static str {
    let found = outcomes().find(|(name, _)| *name == outcome);
    found.map_or(ERROR, |(_, code)| word(code))
}

/// But for [`FAILED`], which is several.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => OK,
        Code::PermissionDenied | Code::Unauthenticated => DENIED,
        Code::ResourceExhausted => LIMITED,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => INVALID,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_name() {
        let all: Vec<_> = outcomes().collect();
        assert_eq!(all.len(), 17);
        assert_eq!(all[0], ("OK", Code::Ok));
        assert_eq!(all[16], ("UNAUTHENTICATED", Code::Unauthenticated));
    }

    #[test]
    fn words_mean_what_people_look_for() {
        for (text, codes) in [
            ("ok", Some(&[Code::Ok][..])),
            ("OK", Some(&[Code::Ok])),
            (
                "denied",
                Some(&[Code::PermissionDenied, Code::Unauthenticated]),
            ),
            ("limited", Some(&[Code::ResourceExhausted])),
            ("Not_Found", Some(&[Code::NotFound])),
            ("UNAUTHENTICATED", Some(&[Code::Unauthenticated])),
            ("", None),
            ("maybe", None),
        ] {
            assert_eq!(meant(text).as_deref(), codes, "{text:?}");
        }
        let failed = meant("failed").unwrap();
        assert_eq!((failed.len(), failed.contains(&Code::Ok)), (16, false));
    }

    #[test]
    fn every_outcome_is_found_by_one_word_and_failed() {
        for (name, code) in outcomes() {
            let by = WORDS.iter().filter(|word| {
                let codes = meant(word.word).unwrap();
                codes.contains(&code)
            });
            let by: Vec<_> = by.map(|word| word.word).collect();
            let wanted = match code {
                Code::Ok => vec!["ok"],
                _ => vec!["failed", in_a_word(name)],
            };
            assert_eq!(by, wanted, "{name}");
        }
        assert_eq!(in_a_word("what somebody wrote there"), "error");
    }
}
