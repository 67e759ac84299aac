//! Passwords that were stolen elsewhere: a local file, asked by binary search.
//!
//! The file is what the operator puts there: SHA-1 in hexadecimal, a line each, sorted, with or without `:count` behind it, which is the
//! form in which the large collections are published. It is never read whole. SHA-1 is their choice; nothing is protected by it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Hexadecimal digits of SHA-1.
const DIGITS: usize = 40;
/// A line is not longer.
const MAX_LINE: u64 = 80;

/// The list.
#[derive(Clone, Debug)]
pub struct List {
    path: PathBuf,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot read the list of breached passwords {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no hash.
    #[error(
        "{path} is no list of breached passwords: each line is a SHA-1 in hexadecimal, sorted, perhaps with `:count`"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
}

impl List {
    /// The list at `path`.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn open(path: &Path) -> Result<Self, ListError> {
        let list = Self {
            path: path.to_owned(),
        };
        if list.is_empty()? {
            return Err(list.form());
        }
        // Both ends: a line that is none is most often a heading, or a blank one at the end.
        for hash in ["0", "G"] {
            list.find(hash).map_err(|error| list.error(error))?;
        }
        Ok(list)
    }

    fn is_empty(&self) -> Result<bool, ListError> {
        let length = std::fs::metadata(&self.path).map(|metadata| metadata.len());
        Ok(length.map_err(|error| self.error(error))? == 0)
    }

    fn form(&self) -> ListError {
        ListError::Form {
            path: self.path.clone(),
        }
    }

    fn error(&self, source: io::Error) -> ListError {
        match source.kind() {
            io::ErrorKind::InvalidData => self.form(),
            _ => ListError::Read {
                path: self.path.clone(),
                source,
            },
        }
    }

    /// Whether a password is in it.
    ///
    /// # Errors
    /// If the file cannot be read, or a line that was looked at is no hash: what is behind it nobody would find.
    pub fn has(&self, password: &str) -> Result<bool, ListError> {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let wanted: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        self.find(&wanted).map_err(|error| self.error(error))
    }

    fn find(&self, wanted: &str) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        // Invariant: a line that is wanted begins at or behind `low`, and before `high`.
        let (mut low, mut high) = (0, file.metadata()?.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let Some((start, hash)) = self.line_at(&mut file, middle)? else {
                high = middle;
                continue;
            };
            match hash.as_str().cmp(wanted) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = start + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// The first line that begins at or behind `at`: where, and its hash.
    fn line_at(&self, file: &mut File, at: u64) -> io::Result<Option<(u64, String)>> {
        // One byte before: if that ends a line, the next begins at `at`.
        let from = at.saturating_sub(1);
        file.seek(SeekFrom::Start(from))?;
        let mut reader = BufReader::with_capacity(256, &*file);
        let mut start = at;
        if at > 0 {
            start = from + skip_line(&mut reader)?;
        }
        let mut line = String::new();
        if io::Read::take(&mut reader, MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let hash = line.trim_end().split(':').next().unwrap_or_default();
        if hash.len() != DIGITS || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some((start, hash.to_ascii_uppercase())))
    }
}

/// To the end of the line; how many bytes that was.
fn skip_line(reader: &mut impl io::BufRead) -> io::Result<u64> {
    let mut line = Vec::new();
    Ok(io::Read::take(reader, MAX_LINE).read_until(b'\n', &mut line)? as u64)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs};

    use super::*;

    fn sha1(text: &str) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02X}").unwrap();
            hex
        })
    }

    #[test]
    fn what_is_in_the_list_is_found() {
        let directory = tempfile::tempdir().unwrap();
        for (description, count, ending) in [
            ("one line", 1, "\n"),
            ("no end of line", 3, ""),
            ("many", 1000, "\n"),
            ("with counts", 1000, ":17\n"),
            ("of a DOS", 100, ":3\r\n"),
        ] {
            let mut hashes: Vec<_> = (0..count).map(|n| sha1(&format!("password {n}"))).collect();
            hashes.sort();
            let separator = if ending.is_empty() { "\n" } else { ending };
            let path = directory.path().join("list");
            fs::write(&path, hashes.join(separator) + ending).unwrap();
            let list = List::open(&path).unwrap();
            for n in 0..count {
                assert!(
                    list.has(&format!("password {n}")).unwrap(),
                    "{description}: {n}"
                );
                assert!(
                    !list.has(&format!("another {n}")).unwrap(),
                    "{description}: {n}"
                );
            }
        }
    }

    #[test]
    fn a_bad_line_hides_nothing_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        let mut hashes: Vec<_> = (0..500).map(|n| sha1(&format!("password {n}"))).collect();
        hashes.sort();
        let long = "0".repeat(300);
        for (description, line) in [("blank", ""), ("words", "more:"), ("long", &long)] {
            for at in [1, 37, 250, 499] {
                let mut lines = hashes.clone();
                lines.insert(at, line.to_owned());
                fs::write(&path, lines.join("\n") + "\n").unwrap();
                let Ok(list) = List::open(&path) else {
                    continue;
                };
                for n in 0..500 {
                    let has = list.has(&format!("password {n}"));
                    assert!(has.is_err() || has.unwrap(), "{description} at {at}: {n}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (low, high) = ("0".repeat(DIGITS), "F".repeat(DIGITS));
        for (description, content) in [
            ("empty", String::new()),
            ("words", "123456\npassword\n".to_owned()),
            ("a heading", format!("SHA-1\n{low}\n{high}\n")),
            ("a blank line at the end", format!("{low}\n{high}\n\n")),
        ] {
            let path = directory.path().join("list");
            fs::write(&path, content).unwrap();
            assert!(
                matches!(List::open(&path), Err(ListError::Form { .. })),
                "{description}"
            );
        }
        let path = directory.path().join("gone");
        fs::write(&path, sha1("x") + "\n").unwrap();
        let list = List::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(list.has("x").is_err(), "nobody knows");
        let refused =
            crate::password::check_strength("korrekt horse battery staple", &[], Some(&list));
        assert_eq!(refused, Err(crate::password::Weak::Unjudged));
        let missing = directory.path().join("missing");
        assert!(matches!(List::open(&missing), Err(ListError::Read { .. })));
    }
}
