//! What is done to the database without the service: an administrator is let in again.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
};

use mc_proto::mcias::v1::{
    ChangePasswordRequest, ListAuditRequest, VerifyAuditRequest, WhoAmIRequest,
};
use mc_testkit::{process::Process, wait_for_async};
use tonic::Code;

use crate::{
    factors::enrol,
    running::{PASSWORD, Running, files},
};

pub(crate) fn mcias(root: &Path, arguments: &[&str]) -> Command {
    let mut mcias = Command::new(env!("CARGO_BIN_EXE_mcias"));
    mcias.env_clear().arg("--root").arg(root).args(arguments);
    mcias
}

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Output {
    mcias(root, arguments).output().unwrap()
}

pub(crate) fn succeeds(root: &Path, arguments: &[&str]) -> String {
    let output = run(root, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The error of what must fail.
pub(crate) fn fails(root: &Path, arguments: &[&str]) -> String {
    let output = run(root, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn an_administrator_who_is_locked_out_in_every_way_comes_back() {
    let mut running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "admin").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    enrol(&mut ada).await;
    admin.system("robot").await;
    let root = running.root.path().to_owned();
    let refused = fails(&root, &["recover", "ada"]);
    assert!(refused.contains("in use"), "the service runs: {refused}");
    assert!(ada.auth.who_am_i(WhoAmIRequest {}).await.is_ok());

    running.stop().await;
    // Nobody is an administrator who can log in, and no rule lets anybody in.
    let db = running.database();
    for sql in [
        "UPDATE account SET status = 'disabled' WHERE type = 'human'",
        "DELETE FROM account_role",
        "DELETE FROM rule",
        "INSERT INTO rule VALUES ('broken', 'no JSON', 0)",
    ] {
        db.execute(sql, []).unwrap();
    }
    drop(db);
    for (description, arguments, said) in [
        (
            "nobody",
            ["recover", "eve"].as_slice(),
            "no account \"eve\"",
        ),
        ("a program", &["recover", "robot"], "no account \"robot\""),
        ("no administrator", &["recover", "ada"], "--make-admin"),
        (
            "the policy",
            &["recover", "ada", "--make-admin"],
            "--reset-policy",
        ),
    ] {
        let error = fails(&root, arguments);
        assert!(error.contains(said), "{description}: {error}");
    }
    let with_factors = json(&succeeds(
        &root,
        &["recover", "ada", "--make-admin", "--reset-policy", "--json"],
    ));
    assert_eq!(with_factors["has_factors"], true);
    assert_eq!(with_factors["made_admin"], true);
    assert_eq!(with_factors["was"], "disabled");
    let told = succeeds(&root, &["recover", "ada", "--make-admin"]);
    assert!(
        told.contains("ada, an administrator as before; active as before"),
        "{told}"
    );
    let made = json(&succeeds(
        &root,
        &["recover", "ada", "--remove-factors", "--json"],
    ));
    assert_eq!(made["has_factors"], false);
    assert_ne!(made["password"], with_factors["password"]);
    let password = made["password"].as_str().unwrap();

    running.begin().await;
    let over = ada.auth.who_am_i(WhoAmIRequest {}).await;
    assert!(over.is_err(), "the logins of before");
    let mut before = running.clients(Some(&token)).await;
    let over = before.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
    for old in [PASSWORD, with_factors["password"].as_str().unwrap()] {
        let mut there = running.clients_from("127.0.0.7", None).await;
        let refused = there.log_in("ada", old, "").await.unwrap_err();
        assert_ne!(refused.code(), Code::Ok);
    }
    let login = running.log_in("ada", password).await.unwrap();
    assert!(login.password_expired, "to be changed first");
    let mut ada = running.clients(Some(&login.token)).await;
    let refused = ada.admin.list_audit(ListAuditRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let change = ChangePasswordRequest {
        old_password: password.to_owned(),
        new_password: "another horse, another staple".to_owned(),
    };
    ada.profile.change_password(change).await.unwrap();
    let login = running.log_in("ada", "another horse, another staple").await;
    let mut ada = running.clients(Some(&login.unwrap().token)).await;
    // An administrator again, and all of it is in the log.
    let log = ListAuditRequest {
        action: "recover".to_owned(),
        ..ListAuditRequest::default()
    };
    let log = ada.admin.list_audit(log).await.unwrap().into_inner();
    assert_eq!(log.entries.len(), 3);
    assert!(log.entries[2].detail.contains("\"make_admin\":true"));
    assert_eq!(log.entries[0].resource, "ada");
    assert!(log.entries[0].detail.contains("\"make_admin\":false"));
    assert!(log.entries[0].detail.contains("\"remove_factors\":true"));
    assert!(!log.entries[0].detail.contains(password));
    let verified = ada.admin.verify_audit(VerifyAuditRequest::default());
    assert!(verified.await.unwrap().into_inner().intact);
}

/// A password that could not be printed is not lost: another can be had.
#[test]
fn an_init_that_cannot_print_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let ca = mc_testkit::ca::Ca::new().unwrap();
    files(root.path(), &ca);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = mcias(root.path(), &["init"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("mcias recover admin"), "{error}");
    // As one that was killed before it could say so.
    let again = fails(root.path(), &["init"]);
    assert!(again.contains("`mcias recover admin`"), "{again}");
    let made = json(&succeeds(root.path(), &["recover", "--json"]));
    assert_eq!(made["account"], "admin");
    // The service that runs keeps all of them away.
    let mut process = Process::start(&mut mcias(root.path(), &["server"])).unwrap();
    process.wait_for_output("ready").unwrap();
    for arguments in [["recover"].as_slice(), &["server"]] {
        let error = fails(root.path(), arguments);
        assert!(error.contains("in use"), "{arguments:?}: {error}");
    }
    process.terminate().unwrap();
}

/// Somebody revoked everything while the clock was ahead: until that time no login could be told from what was revoked.
#[tokio::test]
async fn what_was_revoked_while_the_clock_was_ahead_is_begun_anew() {
    let mut running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let stolen = running.log_in("ada", PASSWORD).await.unwrap().token;
    running.stop().await;
    let sql = "INSERT INTO revocation SELECT 'everything', '', unixepoch() + 8640000, unixepoch() + 8650000";
    running.database().execute(sql, []).unwrap();
    running.move_away().await;
    let root = running.root.path().to_owned();
    let refused = fails(&root, &["recover", "admin"]);
    assert!(refused.contains("--drop-keys"), "{refused}");
    let made = json(&succeeds(&root, &["recover", "--drop-keys", "--json"]));
    running.password = made["password"].as_str().unwrap().to_owned();
    running.begin().await;
    let mut stolen = running.clients(Some(&stolen)).await;
    assert!(stolen.auth.who_am_i(WhoAmIRequest {}).await.is_err());
    let login = running.log_in("admin", &running.password).await.unwrap();
    let mut admin = running.clients(Some(&login.token)).await;
    assert!(admin.auth.who_am_i(WhoAmIRequest {}).await.is_ok());
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
}

/// A disk that is full, say: what is not written is lost, and nothing else.
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let mut running = Running::start().await;
    running.move_away().await;
    let root = running.root.path();
    let address = mc_testkit::port::free();
    let config = root.join("mcias.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replacen("127.0.0.1:0", &address.to_string(), 1);
    fs::write(&config, text + "[log]\nlevel = 'trace'\n").unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = mcias(root, &["server"]).stderr(full).spawn().unwrap();
    let up = wait_for_async("the service", async || TcpStream::connect(address).ok());
    up.await.unwrap();
    let end = Command::new("kill").arg(server.id().to_string()).status();
    assert!(end.unwrap().success());
    assert!(server.wait().unwrap().success());
}
