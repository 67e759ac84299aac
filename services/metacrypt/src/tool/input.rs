//! Texts of any kind, from stdin or a file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use mcdsl::cli::Failure;

use super::Result;

/// Most bytes of one text: a request takes 1 MiB.
const MAX_INPUT: u64 = 700 << 10;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Input {
    /// Reads that file instead of stdin
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
}

/// All of stdin.
pub(super) fn stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut stdin = io::stdin().lock().take(MAX_INPUT + 1);
    let read = stdin.read_to_end(&mut bytes);
    let length = read.map_err(|e| Failure::usage(format_args!("stdin: {e}")))?;
    bounded(Path::new("stdin"), length).map(|()| bytes)
}

fn bounded(name: &Path, length: usize) -> Result {
    match length as u64 > MAX_INPUT {
        true => Err(Failure::usage(format_args!(
            "{} is longer than {MAX_INPUT} bytes",
            name.display()
        ))
        .hint("encrypt it by a data key (`metacrypt transit datakey`), or sign its hash")),
        false => Ok(()),
    }
}

impl Input {
    /// All of it.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let name = self.input.as_deref().unwrap_or(Path::new("stdin"));
        let unread = |e: io::Error| Failure::usage(format_args!("{}: {e}", name.display()));
        let mut bytes = Vec::new();
        let read = match &self.input {
            Some(path) => {
                let file = File::open(path).map_err(unread)?;
                file.take(MAX_INPUT + 1).read_to_end(&mut bytes)
            }
            None => return stdin(),
        };
        bounded(name, read.map_err(unread)?).map(|()| bytes)
    }

    /// What was printed before: a text of one line, of which `what` is an example.
    pub(super) fn text(&self, what: &str) -> Result<String> {
        let text = String::from_utf8(self.read()?).map(|text| text.trim().to_owned());
        text.map_err(|_| Failure::usage(format_args!("this is no text, and not {what}")))
    }
}
