//! A disk without room: nobody is told that something was done, and the service is well again by itself.

use std::path::Path;

use mc_testkit::{ca::Ca, process::Process, wait_for_async};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    crash::{address, mcias},
    running::files,
    web::{Answer, Browser, Http},
};

/// Of MCIAS alone.
pub(crate) struct Disk {
    disk: mc_testkit::disk::Disk,
    // Dropped after what is mounted there.
    directory: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = mc_testkit::disk::Disk::over(directory.path(), 4).unwrap();
        Self { disk, directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// To the last byte.
    fn fill(&self) {
        self.disk.fill().unwrap();
    }

    /// A twentieth of it is left.
    pub(crate) fn fill_almost(&self) {
        self.disk.fill_but(200).unwrap();
    }

    fn free(&self) {
        self.disk.free().unwrap();
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
