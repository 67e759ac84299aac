//! Which server: flag, then environment, then file. The environment is tested with the binary.

use std::{fs, path::Path};

use mcdsl::cli::{Exit, Failure, Mcias};

use super::cli;
use crate::{Cli, settings::FLAGS};

const FILE: &str = "server = \"https://file.example:9443\"\nca = \"/etc/file.pem\"\n";

fn mcias(cli: &Cli, file: Option<&Path>) -> Result<Mcias, Failure> {
    let said = &cli.connection;
    Mcias::with(said.server.clone(), said.ca.clone(), FLAGS, file)
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mciasctl.toml");
    fs::write(&path, FILE).unwrap();
    let (flag, file) = ("https://flag.example:1", "https://file.example:9443");
    for (description, line, server, ca) in [
        ("the file", "whoami", file, "/etc/file.pem"),
        (
            "a flag each",
            "whoami --server https://flag.example:1 --ca x.pem",
            flag,
            "x.pem",
        ),
        (
            "a flag and the file",
            "--server https://flag.example:1 whoami",
            flag,
            "/etc/file.pem",
        ),
    ] {
        let cli = cli(line).unwrap();
        let settings = mcias(&cli, Some(&path)).unwrap();
        assert_eq!(settings.server.to_string(), server, "{description}");
        assert_eq!(settings.ca, Path::new(ca), "{description}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mciasctl.toml");
    let both: &[&str] = &[
        "--server",
        "MCIAS_SERVER",
        "--ca",
        "MCIAS_CA",
        "are not set",
    ];
    for (description, text, want) in [
        ("no file", None, both),
        ("an empty one", Some(""), both),
        (
            "no CA",
            Some("server = \"https://a.example:1\""),
            &["the CA", "--ca FILE", "MCIAS_CA", "is not set"],
        ),
        (
            "no server",
            Some("ca = \"a.pem\""),
            &["address", "--server", "MCIAS_SERVER", "is not set"],
        ),
        ("another key", Some("sever = \"x\""), &["server"]),
        (
            "http",
            Some("server = \"http://a.example:1\""),
            &["unencrypted"],
        ),
        ("no TOML", Some("server ="), &["not TOML"]),
    ] {
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let failure = mcias(&cli("whoami").unwrap(), Some(&path)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{description}");
        for want in want {
            assert!(failure.message.contains(want), "{description}: {failure}");
        }
        if failure.message.contains("not set") {
            let hint = failure.hint.as_deref().unwrap_or_default();
            assert!(hint.contains("mciasctl.toml"), "{description}: {hint}");
        }
    }
}

#[test]
fn what_is_saved_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/mciasctl.toml");
    let line = "whoami --server https://a.example:1 --ca ca.pem";
    let settings = mcias(&cli(line).unwrap(), None).unwrap();
    settings.save_to(&path).unwrap();
    let read = mcias(&cli("whoami").unwrap(), Some(&path)).unwrap();
    assert_eq!(read.server, settings.server);
    assert_eq!(read.ca, std::path::absolute("ca.pem").unwrap());
}
