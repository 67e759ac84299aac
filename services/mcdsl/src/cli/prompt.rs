//! What people type: passwords and codes without an echo, and whether they mean it.
//!
//! From a terminal, or a line each of stdin if that is none, so that scripts can pipe them; never from the command line, which everybody on the
//! machine sees. The library is rpassword: it asks the terminal itself, whatever stdout is, and leaves it with its echo after Ctrl-C.
//! Rejected: dialoguer, which brings menus and a terminal library for the same.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Exit, Failure};
use crate::shown;

/// Bytes of a line. No password is longer, nor is anything else that is asked for.
const MAX_LINE: u64 = 4096;
/// Attempts to type the same password twice.
const ATTEMPTS: usize = 3;

/// Whether there is somebody to ask.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A secret that exists: a password, a code. `what` is what it is asked for by, e.g. "Password".
///
/// # Errors
/// [`Exit::Usage`] if nothing is typed, or stdin has ended.
pub fn secret(what: &str) -> Result<SecretString, Failure> {
    if !io::stdin().is_terminal() {
        return secret_line(&mut io::stdin().lock(), what);
    }
    let typed = rpassword::prompt_password(format!("{what}: ")).map_err(|e| unread(what, &e))?;
    Some(SecretString::from(typed))
        .filter(|typed| !typed.expose_secret().is_empty())
        .ok_or_else(|| nothing(what))
}

/// A new password: typed twice on a terminal, since nobody sees it; one line from elsewhere.
///
/// # Errors
/// As [`secret`], and [`Exit::Usage`] if the two differ three times.
pub fn new_password(what: &str) -> Result<SecretString, Failure> {
    if !io::stdin().is_terminal() {
        return secret(what);
    }
    for _ in 0..ATTEMPTS {
        let first = secret(what)?;
        if secret("Once again")?.expose_secret() == first.expose_secret() {
            return Ok(first);
        }
        // Nothing is left to tell if stderr is gone.
        let _ = writeln!(io::stderr(), "These two differ.");
    }
    Err(Failure::usage("the two passwords differ"))
}

/// A line that is no secret.
///
/// # Errors
/// [`Exit::Usage`] without a terminal, with `hint` as what to do then, and if nothing is typed.
pub fn line(what: &str, hint: &str) -> Result<String, Failure> {
    if !is_interactive() {
        return Err(Failure::usage(format_args!("{what} is missing")).hint(hint));
    }
    write!(io::stderr(), "{}: ", shown::plain(what)).map_err(|e| unread(what, &e))?;
    let typed = secret_line(&mut io::stdin().lock(), what)?;
    Ok(typed.expose_secret().trim().to_owned())
}

/// Asks before something that cannot be undone. `what` is a sentence that says what will happen.
///
/// # Errors
/// [`Exit::Usage`] if `yes` (of `--yes`) was not said and there is no terminal; [`Exit::Failure`] if the answer is not yes.
pub fn confirm(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !is_interactive() {
        return Err(Failure::usage(format_args!("nothing was done: {what}"))
            .hint("there is no terminal to ask; if it is meant, say --yes"));
    }
    let answer = line(&format!("{what}. Go on? [yes/no]"), "")?;
    match answer.as_str() {
        "yes" | "y" => Ok(()),
        _ => Err(Failure::new(Exit::Failure, "nothing was done")),
    }
}

fn secret_line(from: &mut impl BufRead, what: &str) -> Result<SecretString, Failure> {
    let mut text = String::new();
    let length = from
        .take(MAX_LINE + 1)
        .read_line(&mut text)
        .map_err(|e| unread(what, &e))?;
    if length as u64 > MAX_LINE {
        return Err(Failure::usage(format_args!(
            "{what}: the line is longer than {MAX_LINE} bytes"
        )));
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    match text.as_str() {
        "" => Err(nothing(what)),
        _ => Ok(text.into()),
    }
}

fn nothing(what: &str) -> Failure {
    Failure::usage(format_args!("{what}: nothing was given"))
        .hint("it is asked for on a terminal, and read from stdin, a line each, if that is none")
}

fn unread(what: &str, e: &io::Error) -> Failure {
    Failure::new(Exit::Failure, format_args!("cannot read {what}: {e}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn secrets_are_a_line_each() {
        let long = format!("{}\n", "a".repeat(4096));
        for (description, text, want) in [
            (
                "two lines",
                "one\ntwo\n",
                vec![Some("one"), Some("two"), None],
            ),
            ("no newline at the end", "one", vec![Some("one"), None]),
            ("a line of a DOS file", "one\r\n", vec![Some("one")]),
            ("spaces belong to it", " a b \n", vec![Some(" a b ")]),
            ("an empty line", "\ntwo\n", vec![None, Some("two")]),
            ("nothing", "", vec![None]),
            ("too long", long.as_str(), vec![None]),
            ("no text", "a\u{0}b\n", vec![Some("a\u{0}b")]),
        ] {
            let mut from = Cursor::new(text);
            for want in want {
                let got = secret_line(&mut from, "Password");
                let got = got.as_ref().ok().map(|got| got.expose_secret());
                assert_eq!(got, want, "{description}");
            }
        }
        let mut binary = Cursor::new([0xff, b'\n']);
        assert!(secret_line(&mut binary, "Password").is_err(), "not UTF-8");
    }
}
