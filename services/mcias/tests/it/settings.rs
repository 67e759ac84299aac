//! What is wrong in the configuration is told before the start as it is at the start: which setting it is, and what would be right.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use mc_testkit::ca::Ca;

use crate::{
    crash::mcias,
    offline::succeeds,
    running::{ISSUER, files},
};

/// What a command says that must fail, on stdout and stderr.
fn told(root: &Path, command: &str) -> String {
    let output = mcias(root, command).output().unwrap();
    assert!(!output.status.success(), "{command}: {output:?}");
    let texts = [output.stdout, output.stderr];
    texts.map(|text| String::from_utf8(text).unwrap()).concat()
}

#[test]
fn a_wrong_setting_is_told_by_status_and_start_alike() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    fs::write(root.path().join("other.pem"), Ca::new().unwrap().pem()).unwrap();
    let other = root.path().join("other.key");
    fs::write(&other, [7; 32]).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    fs::copy(root.path().join("server.key"), root.path().join("open.key")).unwrap();
    let open = Permissions::from_mode(0o644);
    fs::set_permissions(root.path().join("open.key"), open).unwrap();
    let config = root.path().join("mcias.toml");
    let fine = fs::read_to_string(&config).unwrap();
    let file = |name: &str| root.path().join(name).display().to_string();
    let (certificate, key) = (&*file("server.crt"), &*file("server.key"));
    assert!(told(root.path(), "check").contains("run `mcias init`"));
    assert!(mcias(root.path(), "init").status().unwrap().success());
    let said = succeeds(root.path(), &["check"]);
    assert!(said.contains("nothing is in its way"), "{said}");
    assert!(said.contains("the service is not started"), "{said}");

    let (http, grpc) = ("\nlisten = '127.0.0.1:0'", "grpc_listen = '127.0.0.1:0'");
    let same = "\nlisten = '127.0.0.1:18443'\ngrpc_listen = '127.0.0.1:18443'";
    let both = &*format!("{http}\n{grpc}");
    for (description, from, to, names, fix) in [
        (
            "no address",
            http,
            "\nlisten = 'here'",
            "server.listen",
            "like 127.0.0.1:8443",
        ),
        (
            "another machine's",
            http,
            "\nlisten = '192.0.2.1:0'",
            "server.listen",
            "0.0.0.0",
        ),
        (
            "no address for gRPC",
            grpc,
            "grpc_listen = 9443",
            "server.grpc_listen",
            "socket address",
        ),
        (
            "one for both",
            both,
            same,
            "server.grpc_listen",
            "write another port",
        ),
        (
            "one for HTTPS and metrics",
            http,
            "\nlisten = '127.0.0.1:18443'\nmetrics_listen = '127.0.0.1:18443'",
            "server.metrics_listen",
            "write another port",
        ),
        (
            "all of IPv4 and all there are",
            both,
            "\nlisten = '0.0.0.0:18443'\ngrpc_listen = '[::]:18443'",
            "server.grpc_listen",
            "write another port",
        ),
        (
            "no certificate",
            certificate,
            "none.crt",
            "server.tls_cert",
            "name a file with the certificate",
        ),
        (
            "a certificate that is none",
            certificate,
            "mcias.toml",
            "server.tls_cert",
            "name a file with the certificate",
        ),
        (
            "a key that everybody may read",
            key,
            "open.key",
            "server.tls_key",
            "chmod o=",
        ),
        ("no key", key, "none.key", "server.tls_key", "private key"),
        (
            "a key that is none",
            key,
            "ca.pem",
            "server.tls_key",
            "private key",
        ),
        (
            "no CA",
            "[server]",
            "[server]\ntls_ca = 'none.pem'",
            "server.tls_ca",
            "or leave it out",
        ),
        (
            "another CA",
            "[server]",
            "[server]\ntls_ca = 'other.pem'",
            "server.tls_ca",
            "that issued the certificate",
        ),
        (
            "metrics for all",
            "[server]",
            "[server]\nmetrics_listen = '0.0.0.0:0'",
            "server.metrics_listen",
            "use 127.0.0.1 or [::1]",
        ),
        (
            "host bits of proxies",
            "[server]",
            "[server]\ntrusted_proxies = ['10.0.0.1/8']",
            "server.trusted_proxies[0]",
            "did you mean 10.0.0.0/8?",
        ),
        (
            "host bits of who is not banned",
            "never_ban = []",
            "never_ban = ['::1', '2001:db8::1/64']",
            "guessing.never_ban[1]",
            "did you mean 2001:db8::/64?",
        ),
        (
            "an issuer without TLS",
            ISSUER,
            "http://mcias.example",
            "token.issuer",
            "like https://auth.example.org",
        ),
        (
            "an issuer with a path",
            ISSUER,
            "https://mcias.example/a",
            "token.issuer",
            "without a path",
        ),
        (
            "an issuer without a name",
            ISSUER,
            "https://192.0.2.1",
            "token.issuer",
            "no IP address",
        ),
        (
            "another issuer",
            ISSUER,
            "https://other.example",
            "token.issuer",
            "configure it",
        ),
        (
            "no list of passwords",
            "[server]",
            "[password]\nbreached = 'none.txt'\n[server]",
            "password.breached",
            "or leave it out",
        ),
        (
            "a list that is none",
            "[server]",
            "[password]\nbreached = 'mcias.toml'\n[server]",
            "password.breached",
            "a SHA-1 in hexadecimal",
        ),
        (
            "no level of the log",
            "[server]",
            "[log]\nlevel = 'verbose'\n[server]",
            "log.level",
            "write off, error, warn",
        ),
        (
            "no master key",
            "[server]",
            "[database]\nmaster_key = 'none'\n[server]",
            "database.master_key",
            "restore it",
        ),
        (
            "a master key that is none",
            "[server]",
            "[database]\nmaster_key = 'mcias.toml'\n[server]",
            "database.master_key",
            "mode 0600",
        ),
        (
            "the master key of another",
            "[server]",
            "[database]\nmaster_key = 'other.key'\n[server]",
            "database.master_key",
            "that this database was made with",
        ),
        (
            "no database",
            "[server]",
            "[database]\npath = 'none.db'\n[server]",
            "none.db",
            "`mcias restore <snapshot>`",
        ),
        (
            "a key that is none",
            "[server]",
            "[server]\nlisen = 1",
            "lisen",
            "did you mean listen?",
        ),
    ] {
        assert!(fine.contains(from), "{description}");
        fs::write(&config, fine.replacen(from, to, 1)).unwrap();
        for command in ["status", "server"] {
            let said = told(root.path(), command);
            for part in [names, fix] {
                assert!(said.contains(part), "{description}: {command}: {said}");
            }
        }
    }
    assert!(!root.path().join("none.db").exists(), "nothing was made");
}

#[test]
fn a_rule_that_is_none_is_told_by_status_and_start_alike() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    assert!(mcias(root.path(), "init").status().unwrap().success());
    let db = rusqlite::Connection::open(root.path().join("mcias.db")).unwrap();
    let sql = r#"UPDATE rule SET rule = '{"priority":"high"}' WHERE name = 'users'"#;
    assert_eq!(db.execute(sql, []).unwrap(), 1);
    drop(db);
    for command in ["status", "server"] {
        let said = told(root.path(), command);
        assert!(said.contains("users"), "{command}: {said}");
    }
}
