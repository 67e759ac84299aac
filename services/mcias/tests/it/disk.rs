//! A disk without room: nobody is told that something was done, and the service is well again by itself.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::Path,
    process::Command,
};

use mc_testkit::{ca::Ca, process::Process, wait_for_async};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    crash::{address, mcias},
    running::files,
    web::{Answer, Browser, Http},
};

/// A small disk.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "mcias-test"])
            .arg(disk.path())
            .status();
        assert!(mounted.unwrap().success(), "needs root");
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// To the last byte.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// A twentieth of it is left.
    pub(crate) fn fill_almost(&self) {
        self.fill();
        let filler = self.path().join("filler");
        let file = File::options().write(true).open(filler).unwrap();
        let full = file.metadata().unwrap().len();
        file.set_len(full - (200 << 10)).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever has a file open there may have it until the end.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn log_in(http: &Http, password: &str) -> Answer {
    let body = json!({ "account": "admin", "password": password }).to_string();
    let headers = [("content-type", "application/json")];
    http.ask("POST", "/v1/auth/login", &headers, &body).await
}

async fn wait_until_ready(http: &Http, ready: bool) {
    let wanted = if ready { 200 } else { 503 };
    let look = async || (http.ask("GET", "/healthz", &[], "").await.status == wanted).then_some(());
    wait_for_async("health", look).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_gets_over() {
    let disk = Disk::new();
    let ca = Ca::new().unwrap();
    files(disk.path(), &ca);
    let output = mcias(disk.path(), "init").arg("--json").output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let password = made["password"].as_str().unwrap();
    let mut process = Process::start(&mut mcias(disk.path(), "server")).unwrap();
    let address = address(&mut process, "https");
    let http = Http::at(address, &ca.pem());
    let answer = log_in(&http, password).await;
    assert_eq!(answer.status, 200);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    wait_until_ready(&http, true).await;
    let warnings = async || {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let status = http.ask("GET", "/v1/status", &headers, "").await;
        status.json()["warnings"].to_string()
    };
    disk.fill_almost();
    let little = warnings().await;
    assert!(little.contains("left; make room"), "{little}");
    disk.free();
    let browser = || Browser::of(Http::at(address, &ca.pem()));
    let (mut person, mut newcomer) = (browser(), browser());
    let logged_in = person.log_in("admin", password).await;
    assert_eq!(logged_in.status, 303, "{}", logged_in.body);

    disk.fill();
    let page = person.get(logged_in.location()).await;
    assert!(page.status < 400, "who reads: {}", page.body);
    let page = newcomer.log_in("admin", password).await;
    assert_eq!(page.status, 503, "{}", page.body);
    assert!(!page.body.contains("disk"), "{}", page.body);
    let refused = log_in(&http, password).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.json()["status"], "UNAVAILABLE");
    assert!(!refused.body.contains("disk"), "{}", refused.body);
    wait_until_ready(&http, false).await;
    let log = process.output();
    assert!(log.contains("the disk is full"), "{log}");
    let full = warnings().await;
    assert!(full.contains("is full, or takes nothing"), "{full}");

    disk.free();
    wait_until_ready(&http, true).await;
    assert_eq!(log_in(&http, password).await.status, 200);
    process.terminate().unwrap();

    disk.fill();
    let output = mcias(disk.path(), "recover").output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("the disk is full"), "{error}");
    disk.free();
    let output = mcias(disk.path(), "recover").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
