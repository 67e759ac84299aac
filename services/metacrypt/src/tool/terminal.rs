//! What others wrote, on a terminal: text as it is, and nothing that the terminal would obey.

use std::io::{self, IsTerminal as _, Write as _};

use mcdsl::shown;

use super::Result;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Raw {
    /// Writes it to a terminal as it is, too: control characters in it may do anything there
    #[arg(long)]
    raw: bool,
}

impl Raw {
    /// Writes it to stdout: as it is, unless that is a terminal. Whether it was.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<bool> {
        let mut out = io::stdout().lock();
        let shown = out.is_terminal() && !self.raw;
        match shown {
            true => {
                let text = escaped(bytes);
                out.write_all(text.as_bytes())?;
                if !text.ends_with('\n') {
                    out.write_all(b"\n")?;
                }
            }
            false => out.write_all(bytes)?,
        }
        out.flush()?;
        Ok(shown)
    }
}

/// Lines and tabs stay; what else a terminal would obey, and what is no text, is spelled out.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&shown::plain(chunk.valid()));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        for (description, bytes, want) in [
            ("text", "größer\n\tab\n".as_bytes(), "größer\n\tab\n"),
            ("a line that goes back", b"a\rb", r"a\u{d}b"),
            ("another title", b"\x1b]0;x\x07", r"\u{1b}]0;x\u{7}"),
            ("of eight bits", "\u{9b}2J".as_bytes(), r"\u{9b}2J"),
            ("backwards", "\u{202e}abc".as_bytes(), r"\u{202e}abc"),
            ("no text", b"a\xffb", r"a\xffb"),
        ] {
            assert_eq!(escaped(bytes), want, "{description}");
        }
    }
}
