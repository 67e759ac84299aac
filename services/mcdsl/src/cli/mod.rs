//! Output, exit codes and errors of the command-line tools.
//!
//! A command ends in a table or in JSON, or in a [`Failure`]: what failed, what to do about it, and an exit code
//! that a script can branch on. Tables carry no colour; a reader that closes the pipe early is not an error.
//!
//! What tools of services need beside it: a connection ([`connect`]), kept tokens ([`TokenStore`]), secrets that are typed ([`prompt`]) or
//! written ([`PrivateFile`]), gRPC's errors as failures ([`status_failure`]) and its messages as JSON ([`message_json`]).

mod arguments;
#[cfg(feature = "service")]
pub mod audit;
mod change;
#[cfg(feature = "service")]
mod connect;
#[cfg(feature = "service")]
mod exit;
#[cfg(feature = "service")]
mod json;
#[cfg(feature = "service")]
mod lock;
#[cfg(feature = "service")]
mod login;
#[cfg(feature = "service")]
mod private;
mod progress;
#[cfg(feature = "service")]
pub mod prompt;
#[cfg(feature = "service")]
mod status;
#[cfg(feature = "service")]
mod tokens;
#[cfg(feature = "service")]
pub mod view;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use comfy_table::{ColumnConstraint::LowerBoundary, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use crate::shown;

#[cfg(feature = "service")]
pub use crate::dial::ServerUrl;
pub use arguments::{completions, misused, parse, quoted, with_exit_codes};
pub use change::{CommandLine, change};
#[cfg(feature = "service")]
pub(crate) use connect::bearer;
#[cfg(feature = "service")]
pub use connect::{Bearer, Place, check_ca, connect};
#[cfg(feature = "service")]
pub use json::message_json;
#[cfg(feature = "service")]
pub use lock::FileLock;
#[cfg(feature = "service")]
pub use login::{Login, MCIAS, Mcias, stored};
#[cfg(feature = "service")]
pub use private::{FilledFile, PrivateFile, read_private};
pub use progress::Progress;
#[cfg(feature = "service")]
pub use status::{call, status_failure};
#[cfg(feature = "service")]
pub use tokens::{Room, StoredToken, TokenStore, token_file};

/// Exit codes, the same of every command of every program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed for a reason without a code of its own, or what was looked at is not as it should be.
    Failure = 1,
    /// The command line, or what it names or is given, is not valid.
    Usage = 2,
    /// What was named does not exist there.
    NotFound = 3,
    /// The service cannot be reached, is sealed, or gives way to the next one; or another command has what this one needs.
    Unavailable = 4,
    /// Refused: permission, a wrong secret, or a state that forbids it (exists already, full, an address in use).
    Refused = 5,
}

/// The table of them, in the `--help` of every command ([`with_exit_codes`]).
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done; `check`: nothing is in the way of a start; `status`: it answers and takes calls
  1  failed; `check`: something is in the way of a start; `status`: it takes no calls (sealed, a full disk); `verify`: it does not fit
  2  the command line, the configuration, a file that it names or what is typed is not valid
  3  what was named does not exist there
  4  the service does not answer, is sealed, or is about to end, or another command does not let go of a file: try again
  5  refused: permission, a wrong secret, exists already, full, or an address that cannot be listened on";

impl From<Exit> for ExitCode {
    fn from(code: Exit) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// What failed, on what.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Without a hint.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            hint: None,
        }
    }

    /// For bad input.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// On one line with what to do about it: its own hint, or else this.
    #[must_use]
    pub fn or_hint(self, hint: &str) -> String {
        format!("{}; {}", self.message, self.hint.as_deref().unwrap_or(hint))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::new(Exit::Failure, format_args!("cannot write the output: {e}"))
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Many libraries repeat their source in their own message.
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        next = cause.source();
    }
    out
}

/// A tool's `main`: its arguments, the command by `run`, and how that ended. `json`: whether they say `--json`.
pub fn run<C: clap::Parser, R: Future<Output = Result<(), Failure>>>(
    json: impl FnOnce(&C) -> bool,
    run: impl FnOnce(C, Output) -> R,
) -> ExitCode {
    let cli: C = match arguments::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let out = Output { json: json(&cli) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failure, format_args!("cannot start: {e}")));
    match runtime.and_then(|runtime| runtime.block_on(run(cli, out))) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => out.fail(&failure),
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// `--json`: JSON instead of tables and sentences; errors too.
    pub json: bool,
}

impl Output {
    /// Prints rows under a header, or `value` as JSON. Without rows, prints `empty` instead of a bare header.
    ///
    /// # Errors
    /// If stdout cannot be written; a closed pipe counts as written.
    pub fn table<T: Serialize + ?Sized>(
        self,
        header: &[&str],
        rows: Vec<Vec<String>>,
        empty: &str,
        value: &T,
    ) -> io::Result<()> {
        if self.json {
            return self.json(value);
        }
        if rows.is_empty() {
            return write_out(&format!("{}\n", shown::plain(empty)));
        }
        write_out(&format!("{}\n", render(header, rows)))
    }

    /// Prints a sentence, or `value` as JSON.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn done<T: Serialize + ?Sized>(self, sentence: &str, value: &T) -> io::Result<()> {
        if self.json {
            self.json(value)
        } else {
            write_out(&format!("{}\n", shown::plain(sentence)))
        }
    }

    /// Prints JSON.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        write_out(&format!("{}\n", spelled(&text)))
    }

    /// Prints an error to stderr ("error: …", then "hint: …"; or JSON) and gives its exit code.
    pub fn fail(self, failure: &Failure) -> ExitCode {
        let text = if self.json {
            let text = serde_json::json!({
                "error": failure.message,
                "hint": failure.hint,
                "exit_code": failure.exit as u8,
            });
            spelled(&text.to_string())
        } else {
            let hint = failure.hint.as_ref().map(|h| format!("\n hint: {h}"));
            let text = format!("error: {}{}", failure.message, hint.unwrap_or_default());
            shown::plain(&text)
        };
        // Nothing is left to tell if stderr is gone.
        let _ = writeln!(io::stderr(), "{text}");
        failure.exit.into()
    }
}

/// The same JSON, of which a terminal obeys nothing: what is not seen is as `\u202e`.
fn spelled(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => text.push(c),
            c if shown::is_seen(c) => text.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

/// A plain table, wrapped between words to the terminal's width; unwrapped when stdout is not a terminal, for grep.
///
/// Words stay whole, so that an id can be copied: where the terminal is too narrow for that, lines are longer than it.
pub fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let terminal = io::stdout().is_terminal();
    let width = terminal.then(|| Table::new().width()).flatten();
    table(header, rows, width)
}

/// A plain table, as wide as it is.
pub fn render_unwrapped(header: &[&str], rows: Vec<Vec<String>>) -> String {
    table(header, rows, None)
}

/// Spaces between columns.
const GAP: u16 = 2;
/// Longest word that stays whole in the last column, which may hold any text.
const LAST_WORD: u16 = 40;

/// Wrapped to so many columns of a terminal; `None`: not at all. Of what cells have, a terminal obeys nothing.
fn table(header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let plain = |row: Vec<String>| row.iter().map(|cell| shown::line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().map(plain).collect();
    let last = header.len().saturating_sub(1);
    let words: Vec<u16> = (0..header.len())
        .map(|i| {
            let cells = rows.iter().filter_map(|row| row.get(i));
            let cells = cells.map(String::as_str).chain([header[i]]);
            let words = cells.flat_map(str::split_whitespace);
            let longest = words.map(|word| word.chars().count()).max();
            u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX)
        })
        .collect();
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.to_vec());
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    table.add_rows(rows);
    for ((i, column), word) in table.column_iter_mut().enumerate().zip(words) {
        let (gap, word) = match i == last {
            true => (0, word.min(LAST_WORD)),
            false => (GAP, word),
        };
        column.set_padding((0, gap));
        // With the gap.
        column.set_constraint(LowerBoundary(Width::Fixed(word.saturating_add(gap))));
    }
    table.trim_fmt()
}

/// Writes to stdout what is nowhere else.
///
/// # Errors
/// If it cannot be written, also since its reader has gone away.
pub fn write_once(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Writes to stdout; a reader that has gone away is no error.
///
/// # Errors
/// Any other failure to write.
pub fn write_out(text: &str) -> io::Result<()> {
    match write_once(text) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_text() {
        let text = render(
            &["A", "LONGER"],
            vec![
                vec!["value".into(), "1".into()],
                vec!["v".into(), "22".into()],
            ],
        );
        assert_eq!(text, "A      LONGER\nvalue  1\nv      22");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_a_cell() {
        let cells = vec!["a\u{1b}]0;x\u{7}".to_owned(), "b\u{202e}".to_owned()];
        let text = render(&["A", "B"], vec![cells]);
        assert_eq!(text.lines().last(), Some(r"a\u{1b}]0;x\u{7}  b\u{202e}"));
    }

    #[test]
    fn json_that_is_spelled_out_is_the_same() {
        let value = serde_json::json!({"a\u{9b}": ["b\u{202e}\n\u{e0041}ü", "\u{7f}"]});
        let text = spelled(&serde_json::to_string_pretty(&value).unwrap());
        assert!(
            text.chars().all(|c| c == '\n' || shown::is_seen(c)),
            "{text:?}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn ids_stay_whole_however_narrow_the_terminal_is() {
        let id = "0c8f5b1e-2a5e-4c9e-9d55-0a1b2c3d4e5f";
        let detail = "x".repeat(100);
        let row = vec![
            id.to_owned(),
            "2026-01-31T12:00:00Z (2m ago)".to_owned(),
            format!("a comment {detail}"),
        ];
        for width in [10, 40, 80, 120] {
            let text = table(&["ID", "WHEN", "COMMENT"], vec![row.clone()], Some(width));
            for word in [id, "2026-01-31T12:00:00Z", "comment"] {
                assert!(text.contains(word), "{width}: {text}");
            }
            assert!(!text.contains(&detail), "{width}: {text}");
        }
        let text = table(&["ID", "WHEN", "COMMENT"], vec![row.clone()], None);
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_chain_does_not_repeat_itself() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open x")]
        struct Outer(#[source] io::Error);
        let e = Outer(io::Error::other("disk on fire"));
        assert_eq!(chain(&e), "cannot open x: disk on fire");
    }
}
