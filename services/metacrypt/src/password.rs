//! The password of a seal: whoever has a snapshot may guess at it for as long as he likes.

use zxcvbn::{Entropy, zxcvbn};

use crate::{barrier::MAX_PASSWORD, start::Config};

/// Characters that are judged: beyond them zxcvbn takes long, and it is long enough.
const JUDGED: usize = 100;

/// Least guesses, as a power of ten. zxcvbn's highest score is from 10^10 on, which is meant for logins; a guess here costs a core about a second, so these
/// take a million cores thirty years.
const LEAST: f64 = 15.0;

/// What nobody has thought of himself, whatever is left out at either end. Who tries passwords begins with such; no list is ever whole.
const PHRASES: [&str; 24] = [
    "correct horse battery staple",
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "lorem ipsum dolor sit amet consectetur adipiscing elit",
    "to be or not to be that is the question",
    "it was the best of times it was the worst of times",
    "may the force be with you always",
    "in the beginning god created the heaven and the earth",
    "our father who art in heaven hallowed be thy name",
    "the lord is my shepherd i shall not want",
    "we the people of the united states in order to form a more perfect union",
    "we hold these truths to be self evident that all men are created equal",
    "four score and seven years ago our fathers",
    "i have a dream that one day this nation will rise up",
    "ask not what your country can do for you",
    "one small step for man one giant leap for mankind",
    "all happy families are alike each unhappy family is unhappy in its own way",
    "all human beings are born free and equal in dignity and rights",
    "one ring to rule them all one ring to find them",
    "twinkle twinkle little star how i wonder what you are",
    "roses are red violets are blue sugar is sweet and so are you",
    "an apple a day keeps the doctor away",
    "never gonna give you up never gonna let you down",
    "this is a very long and secure password that nobody will ever guess",
];

/// Why a password is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Over [`MAX_PASSWORD`].
    #[error("it is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// zxcvbn says why.
    #[error(
        "it is too easy to guess{0}; take five or more words that nobody puts together, drawn by dice and not from a text"
    )]
    Guessable(String),
}

/// Without what words are set apart by.
fn joined(text: &str) -> String {
    let apart = |c: char| c.is_whitespace() || "-_.,;:/+".contains(c);
    text.chars().filter(|c| !apart(*c)).collect()
}

/// Guesses, as a power of ten, of who tries the parts one by one, in each order. zxcvbn's own number adds 10^4 for each further part, however easy that is: five
/// months would do.
fn guesses(judged: &Entropy) -> f64 {
    let parts = judged.sequence();
    let each = parts.iter().map(|part| match part.guesses {
        Some(guesses) => (guesses as f64).log10(),
        None => f64::from(u32::try_from(part.token.chars().count()).unwrap_or(u32::MAX)),
    });
    let orders = (1..=parts.len()).map(|number| (number as f64).log10());
    each.chain(orders).sum()
}

/// Each run of three or more words of the phrases, without what is between them.
fn runs() -> Vec<String> {
    let of = |phrase: &str| {
        let words: Vec<_> = phrase.split(' ').collect();
        let from = (0..words.len()).flat_map(|first| {
            let words = words[first..].to_vec();
            (3..=words.len()).map(move |number| words[..number].concat())
        });
        from.collect::<Vec<_>>()
    };
    PHRASES.iter().flat_map(|phrase| of(phrase)).collect()
}

/// What an installation is called: the hosts of its addresses, their parts, and its name in MCIAS. Whoever has a snapshot knows them.
#[must_use]
pub fn names_of(config: &Config) -> Vec<String> {
    let urls = [
        config.sso.public_url.clone(),
        config.sso.issuer.clone(),
        config.mcias.server_url.clone(),
    ];
    let host = |url: &String| {
        let rest = url.split_once("://").map_or(&**url, |(_, rest)| rest);
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let hosts = urls.iter().map(host);
    let mut names: Vec<_> = hosts
        .flat_map(|host| {
            let parts: Vec<_> = host.split('.').map(str::to_owned).collect();
            parts.into_iter().chain([joined(&host)])
        })
        .chain([config.mcias.service_name.clone()])
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a password is good enough for what is never to be guessed, offline and for years. `names`: what the installation is called ([`names_of`]).
///
/// Famous phrases and names are a word each. It is judged as it is and without what is between its words; the lesser counts.
///
/// # Errors
/// [`Weak`].
pub fn check(password: &str, names: &[String]) -> Result<(), Weak> {
    if password.len() > MAX_PASSWORD {
        return Err(Weak::TooLong);
    }
    let typed: String = password.chars().take(JUDGED).collect();
    let runs = runs();
    let known = runs.iter().chain(names).map(String::as_str);
    let known: Vec<_> = ["metacrypt", "metacircular", "mcias"]
        .into_iter()
        .chain(known)
        .collect();
    for form in [joined(&typed), typed] {
        let judged = zxcvbn(&form, &known);
        if guesses(&judged) < LEAST {
            let warning = judged.feedback().and_then(|feedback| feedback.warning());
            let warning = warning.map(|w| format!(" ({})", w.to_string().trim_end_matches('.')));
            return Err(Weak::Guessable(warning.unwrap_or_default()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_easy_to_guess_is_refused() {
        let long = "a".repeat(MAX_PASSWORD + 1);
        let names = ["crypt", "example", "org", "cryptexampleorg"].map(str::to_owned);
        let mut wrong = Vec::new();
        for (description, password, fine) in [
            ("nothing", "", false),
            ("the usual", "password1", false),
            ("the name", "metacrypt-metacrypt", false),
            ("one letter, often", "aaaaaaaaaaaaaaaaaaaa", false),
            ("a comic's", "correct horse battery staple", false),
            ("without spaces", "correcthorsebatterystaple", false),
            ("with others", "Correct-Horse-Battery-Staple", false),
            ("a test of fonts", "the quick brown fox jumps over", false),
            ("a play", "to be or not to be that is the question", false),
            ("months", "January2026 February2026 March", false),
            ("where it is", "crypt.example.org example 2026", false),
            ("three words", "walnut anchor tepid", false),
            ("five", "walnut anchor tepid flamingo lease", true),
            ("and joined", "walnutanchortepidflamingolease", true),
            (
                "in another language",
                "straße gabel wolke ziegel ahorn",
                true,
            ),
            ("random", "kT7#vQ9z!mR2xLp8", true),
            ("random, of small letters", "qzkvhwtrxnbpydlg", true),
            ("too long", &long, false),
        ] {
            let checked = check(password, &names);
            if checked.is_ok() != fine {
                let judged = [joined(password), password.to_owned()];
                let judged = judged.map(|form| guesses(&zxcvbn(&form, &[])));
                wrong.push(format!("{description}: {checked:?}, {judged:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
