//! `mcias check`: all that is wrong at once, what soon will be, and who is at the service's addresses.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Output},
};

use mc_testkit::{ca::Ca, process::Process};

use crate::{
    crash::address,
    disk::Disk,
    offline::{mcias, run, succeeds},
    running::{ISSUER, files},
};

fn check(root: &Path) -> (Output, String) {
    let output = run(root, &["check"]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    (output, said)
}

/// Replaces a part of the configuration.
fn configure(root: &Path, changes: &[(&str, &str)]) {
    let path = root.join("mcias.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    fs::write(path, text).unwrap();
}

const LISTEN: &str = "\nlisten = '127.0.0.1:0'";
const GRPC: &str = "grpc_listen = '127.0.0.1:0'";

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    succeeds(root.path(), &["init"]);
    fs::remove_file(root.path().join("master.key")).unwrap();
    let key = root.path().join("server.key").display().to_string();
    let changes = [
        (&*key, "none.key"),
        (LISTEN, "\nlisten = '192.0.2.1:0'"),
        (ISSUER, "https://other.example.org"),
        (
            "[server]",
            "[log]\nlevel = 'loud'\n[password]\nbreached = 'none.txt'\n[server]",
        ),
    ];
    configure(root.path(), &changes);
    let (output, said) = check(root.path());
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "server.tls_key",
        "server.listen",
        "token.issuer",
        "log.level",
        "password.breached",
        "database.master_key",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("\nstart ").count(), 6, "{said}");
}

#[test]
fn what_soon_is_wrong_is_a_warning() {
    let ca = Ca::new().unwrap();
    let day = 86_400;
    for (description, name, seconds, issuer, wanted) in [
        (
            "the issuer's, for long",
            "auth.example.org",
            90 * day,
            ISSUER,
            None,
        ),
        (
            "another name",
            "mcias.example.org",
            90 * day,
            ISSUER,
            Some("is not for auth.example.org; it is for mcias.example.org"),
        ),
        (
            "a few days",
            "auth.example.org",
            3 * day,
            ISSUER,
            Some("the certificate ends in 2d23h"),
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        files(root.path(), &ca);
        let leaf = ca.issue_until(&[name], seconds).unwrap();
        leaf.write(root.path(), "server").unwrap();
        configure(root.path(), &[(ISSUER, issuer)]);
        succeeds(root.path(), &["init"]);
        let said = succeeds(root.path(), &["check"]);
        let warned = said.contains("\nwarning ");
        assert_eq!(warned, wanted.is_some(), "{description}: {said}");
        let told = said.contains(wanted.unwrap_or_default());
        assert!(told, "{description}: {said}");
    }
}

#[test]
fn a_certificate_in_the_place_of_its_key_is_told() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    configure(root.path(), &[("server.key", "server.crt")]);
    let (output, said) = check(root.path());
    assert_eq!(output.status.code(), Some(1));
    let told = said.contains("server.tls_key") && said.contains("it holds a certificate, and no");
    assert!(told, "{said}");
}

/// What somebody else made in passing, and what others can look into.
#[test]
fn whose_the_files_are_is_told() {
    let nobody = Some(65_534);
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    succeeds(root.path(), &["init"]);
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let database = root.path().join("mcias.db");
    for path in [&database, &root.path().join("mcias.db.lock")] {
        chown(path, nobody, nobody).unwrap();
    }
    let backups = root.path().join("backups");
    fs::create_dir(&backups).unwrap();
    chown(&backups, nobody, nobody).unwrap();
    let said = succeeds(root.path(), &["check"]);
    let closed = format!(
        "snapshots cannot be written: {} belongs to nobody",
        backups.display()
    );
    let whose = format!("{} belongs to nobody, and", database.display());
    let directory = format!("`chmod 700 {}`", root.path().display());
    for wanted in [&whose, &directory, &closed, &"`chown root: ".to_owned()] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    for command in ["server", "recover", "snapshot"] {
        // Without what lets root use any file.
        let output = Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
            .args([env!("CARGO_BIN_EXE_mcias"), command])
            .env_clear()
            .env("MC_ROOT", root.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{command}: {said}");
        assert!(said.contains(&whose), "{command}: {said}");
    }
}

/// As the table in every help says.
#[test]
fn an_exit_code_means_the_same_of_every_command() {
    let root = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str]| run(root.path(), arguments).status.code();
    for command in ["init", "status", "server"] {
        assert_eq!(code(&[command]), Some(2), "{command} of no configuration");
    }
    assert_eq!(code(&["check"]), Some(1), "it is in the way of a start");
    files(root.path(), &Ca::new().unwrap());
    for (arguments, wanted) in [
        (&["init"][..], 0),
        (&["init"], 5),
        (&["restore", "none"], 3),
        (&["snapshot"], 0),
        (&["recover", "nobody"], 3),
    ] {
        assert_eq!(code(arguments), Some(wanted), "{arguments:?}");
    }
}

#[test]
fn a_disk_with_little_room_is_a_warning() {
    let disk = Disk::new();
    files(disk.path(), &Ca::new().unwrap());
    succeeds(disk.path(), &["init"]);
    disk.fill_almost();
    let said = succeeds(disk.path(), &["check"]);
    assert!(said.contains("make room"), "{said}");
}

#[test]
fn only_this_service_is_taken_for_it() {
    let ca = Ca::new().unwrap();
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for root in [&root, &other] {
        files(root.path(), &ca);
    }
    // Another issuer's, with the same certificate.
    for name in ["server.crt", "server.key"] {
        fs::copy(root.path().join(name), other.path().join(name)).unwrap();
    }
    configure(other.path(), &[(ISSUER, "https://other.example.org")]);
    let mut started = [root.path(), other.path()].map(|root| {
        succeeds(root, &["init"]);
        Process::start(&mut mcias(root, &["server"])).unwrap()
    });
    let [https, others] = [0, 1].map(|n| address(&mut started[n], "https"));
    let grpc = address(&mut started[0], "grpc");
    let mail = TcpListener::bind("127.0.0.1:0").unwrap();
    let mails = mail.local_addr().unwrap();
    std::thread::spawn(move || {
        // Whoever connects is told that this is something else.
        for stream in mail.incoming().flatten() {
            use std::io::Write as _;
            let _ = (&stream).write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let config = fs::read_to_string(root.path().join("mcias.toml")).unwrap();
    let foreign = "another program is at";
    for (description, at, grpc_at, code, wanted) in [
        ("both", https, grpc, 0, ["HTTPS", "this service answers"]),
        ("a mail server", mails, grpc, 1, ["server.listen", foreign]),
        ("of gRPC", https, mails, 1, ["server.grpc_listen", foreign]),
        (
            "another MCIAS",
            others,
            grpc,
            1,
            [
                "server.listen",
                "does not say that it is https://auth.example.org",
            ],
        ),
    ] {
        fs::write(root.path().join("mcias.toml"), &config).unwrap();
        let (at, grpc_at) = (
            format!("\nlisten = '{at}'"),
            format!("grpc_listen = '{grpc_at}'"),
        );
        configure(root.path(), &[(LISTEN, &at), (GRPC, &grpc_at)]);
        let (output, said) = check(root.path());
        assert_eq!(output.status.code(), Some(code), "{description}: {said}");
        let status = run(root.path(), &["status"]).status;
        assert_eq!(
            status.code(),
            Some(code),
            "{description}: it serves, or not"
        );
        for part in wanted {
            assert!(said.contains(part), "{description}: {said}");
        }
        let here = said.matches("this service answers").count();
        assert_eq!(here, if code == 0 { 2 } else { 1 }, "{description}: {said}");
        assert!(
            said.contains("hint        token.issuer"),
            "{description}: {said}"
        );
    }
    for process in &mut started {
        process.terminate().unwrap();
        process.wait_exit().unwrap();
    }
    fs::write(root.path().join("mcias.toml"), &config).unwrap();
    let (at, grpc_at) = (
        format!("\nlisten = '{https}'"),
        format!("grpc_listen = '{grpc}'"),
    );
    configure(root.path(), &[(LISTEN, &at), (GRPC, &grpc_at)]);
    for (command, code) in [("check", 0), ("status", 4)] {
        let status = run(root.path(), &[command]).status;
        assert_eq!(status.code(), Some(code), "{command}, once it has stopped");
    }
}
