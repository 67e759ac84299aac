//! Files that what is made goes to: they are looked at before it is made, so that nothing is made in vain and nothing is lost.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use mcdsl::{
    cli::{Exit, Failure, PrivateFile},
    files::directory_of,
};

use super::Result;

/// Bytes that a key and its chain may need on the disk.
const ROOM: usize = 64 << 10;
/// In whatever file has one (PEM).
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// What a file is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// X.509, in PEM.
    Certificate,
    /// Private, in PEM.
    Key,
    /// Of SSH.
    SshCertificate,
}

/// Which files are replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// None: there is to be nothing.
    Nothing,
    /// Such as the new one is: it is the one of before.
    Alike,
    /// Any, but that no certificate takes a private key's place.
    Anything,
}

impl What {
    fn mark(self) -> &'static str {
        match self {
            Self::Certificate => "-----BEGIN CERTIFICATE-----",
            Self::Key => PRIVATE_KEY,
            Self::SshCertificate => "-cert-v01@openssh.com ",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate (PEM)",
            Self::Key => "a private key (PEM)",
            Self::SshCertificate => "a certificate of SSH",
        }
    }
}

/// Takes room for a file; what is no secret is for all to read. Run by root it leaves the owner of what is there.
pub(super) fn room(path: &Path, what: What, over: Over) -> Result<PrivateFile> {
    let file = match (over, fs::symlink_metadata(path).is_ok()) {
        (Over::Nothing, true) => PrivateFile::create_new(path)
            .map_err(|refused| refused.hint("name another file, or say --replace"))?,
        (_, false) => PrivateFile::create_new(path)?,
        (_, true) => {
            let file = PrivateFile::create(path)?;
            replaced(path, what, over)?;
            file
        }
    };
    let file = match what {
        What::Key => file,
        What::Certificate | What::SshCertificate => file.for_all()?,
    };
    file.reserve(ROOM)?.owned()
}

/// Whether what is there may be replaced.
fn replaced(path: &Path, what: What, over: Over) -> Result {
    let at = path.display();
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ROOM as u64).read_to_end(&mut start));
    read.map_err(|e| Failure::usage(format_args!("{at}: {e}")))?;
    let text = String::from_utf8_lossy(&start);
    if what != What::Key && text.contains(PRIVATE_KEY) {
        let lost = format!(
            "{at} holds a private key, which {} would replace",
            what.name()
        );
        return Err(Failure::new(Exit::Refused, lost).hint("name another file"));
    }
    if over == Over::Alike && !text.is_empty() && !text.contains(what.mark()) {
        let other = format!("{at} is not {}, and is not overwritten", what.name());
        return Err(
            Failure::new(Exit::Refused, other).hint("name another file, or remove that one first")
        );
    }
    Ok(())
}

/// Refuses two names of one file; each with the option that says it.
pub(super) fn apart(files: &[(&str, &Path)]) -> Result {
    let places: Vec<_> = files.iter().map(|(_, path)| place(path)).collect();
    for (n, one) in places.iter().enumerate() {
        if let Some(other) = places[..n].iter().position(|other| other == one) {
            let (first, second) = (files[other].0, files[n].0);
            let what = format!("{first} and {second} name one file, {}", one.display());
            return Err(Failure::usage(what).hint("name two: one of them would be lost"));
        }
    }
    Ok(())
}

/// Where it is, whatever way leads there.
fn place(path: &Path) -> PathBuf {
    if let Ok(found) = fs::canonicalize(path) {
        return found;
    }
    let directory = fs::canonicalize(directory_of(path));
    match (directory, path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_takes_the_place_of_what_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("key"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        fs::write(at("cert"), "-----BEGIN CERTIFICATE-----\n").unwrap();
        fs::write(at("ssh"), "ssh-ed25519-cert-v01@openssh.com AAAA\n").unwrap();
        fs::write(at("notes"), "buy milk\n").unwrap();
        symlink(at("cert"), at("link")).unwrap();
        use {Over::*, What::*};
        for (name, what, over, fine) in [
            ("new", Certificate, Nothing, true),
            ("cert", Certificate, Nothing, false),
            ("link", Certificate, Nothing, false),
            ("new", Key, Alike, true),
            ("cert", Certificate, Alike, true),
            ("key", Key, Alike, true),
            ("key", Certificate, Alike, false),
            ("key", Certificate, Anything, false),
            ("key", SshCertificate, Anything, false),
            ("ssh", SshCertificate, Alike, true),
            ("ssh", Certificate, Alike, false),
            ("notes", Key, Alike, false),
            ("notes", Certificate, Anything, true),
            ("cert", Key, Anything, true),
            ("link", Certificate, Anything, false),
            ("no/where", Certificate, Nothing, false),
        ] {
            let room = room(&at(name), what, over);
            assert_eq!(room.is_ok(), fine, "{name}, for {}", what.name());
        }
    }

    #[test]
    fn one_file_is_found_by_both_its_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("there"), "").unwrap();
        symlink(at("there"), at("link")).unwrap();
        for (one, other, fine) in [
            ("a", "b", true),
            ("a", "a", false),
            ("a", "below/../a", false),
            ("there", "link", false),
            ("no/where", "no/where", false),
        ] {
            let (one, other) = (at(one), at(other));
            let apart = apart(&[("--cert", &one), ("--key", &other)]);
            assert_eq!(apart.is_ok(), fine, "{}", other.display());
        }
    }
}
