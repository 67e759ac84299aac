//! The program itself, which logs all that it can, and what it was told.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use mc_testkit::{ca::Ca, process::Process};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    crash::{address, mcias},
    running::files,
    secret::{Secret, found},
    web::{Answer, Http},
};

/// The program, its files, and what it was told or has told.
pub(crate) struct Daemon {
    pub(crate) root: tempfile::TempDir,
    ca: Ca,
    pub(crate) process: Process,
    metrics: SocketAddr,
    pub(crate) secrets: Vec<Secret>,
    /// What was written by programs that have ended.
    pub(crate) written: String,
    /// The first administrator's.
    pub(crate) password: String,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let ca = Ca::new().unwrap();
        files(root.path(), &ca);
        // It does not say where they are, so a port that was free is to do.
        let metrics = mc_testkit::port::free();
        let config = root.path().join("mcias.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace(
            "[server]",
            &format!("[server]\nmetrics_listen = '{metrics}'"),
        );
        fs::write(&config, text + "[log]\nlevel = 'trace'\n").unwrap();
        let output = mcias(root.path(), "init").arg("--json").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let process = Process::start(&mut mcias(root.path(), "server")).unwrap();
        let mut daemon = Self {
            root,
            ca,
            process,
            metrics,
            secrets: Vec::new(),
            written: String::from_utf8(output.stderr).unwrap(),
            password: made["password"].as_str().unwrap().to_owned(),
        };
        let password = daemon.password.clone();
        daemon.secret("the first password", &password);
        let key = fs::read(daemon.root.path().join("master.key")).unwrap();
        daemon.secrets.push(Secret::of("the master key", &key));
        daemon
    }

    pub(crate) fn secret(&mut self, what: &'static str, secret: &str) -> String {
        assert!(!secret.is_empty(), "{what}");
        self.secrets.push(Secret::of(what, secret.as_bytes()));
        secret.to_owned()
    }

    /// A JWT: who has its signature has it.
    pub(crate) fn token(&mut self, what: &'static str, token: &str) -> String {
        let signature = token.rsplit('.').next().unwrap();
        assert_eq!(signature.len(), 86, "{what}: {token}");
        self.secret(what, signature);
        token.to_owned()
    }

    pub(crate) fn http(&mut self) -> Http {
        Http::at(address(&mut self.process, "https"), &self.ca.pem())
    }

    pub(crate) async fn try_call(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        headers.extend((!token.is_empty()).then_some(("authorization", bearer.as_str())));
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        self.http().ask(method, path, &headers, &body).await
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: Value,
    ) -> Value {
        let answer = self.try_call(method, path, token, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// A login of which nothing comes.
    pub(crate) async fn refused(&mut self, body: Value) {
        let answer = self.try_call("POST", "/v1/auth/login", "", &body).await;
        assert!(matches!(answer.status, 400 | 401), "{}", answer.body);
        self.forgive();
    }

    pub(crate) async fn log_in(&mut self, account: &str, password: &str, code: &str) -> Value {
        let body = json!({ "account": account, "password": password, "code": code });
        self.call("POST", "/v1/auth/login", "", body).await
    }

    /// Lets nobody wait for the failures so far.
    pub(crate) fn forgive(&self) {
        let db = Connection::open(self.root.path().join("mcias.db")).unwrap();
        db.busy_timeout(mc_testkit::DEADLINE).unwrap();
        db.execute("DELETE FROM guesses", []).unwrap();
    }

    /// The service's files but for those that are secrets: what there is of the database, and snapshots unpacked.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.root.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    directories.push(path);
                } else if name.ends_with(".tar.zst") {
                    let unpacked = tempfile::tempdir().unwrap();
                    let into = unpacked.path().join("snapshot");
                    let manifest = mcdsl::archive::read(&path, &into, 1 << 30).unwrap();
                    for file in manifest.files {
                        files.push((
                            path.join(&file.name),
                            fs::read(into.join(&file.name)).unwrap(),
                        ));
                    }
                } else if !["master.key", "server.key"].contains(&&*name) {
                    files.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        files
    }

    /// Whether a text that is no secret is in the database or a snapshot.
    pub(crate) fn is_kept(&self, known: &str) -> bool {
        let known = Secret::of("known", known.as_bytes());
        self.files()
            .iter()
            .any(|(_, bytes)| !found([&known], bytes).is_empty())
    }

    /// Looks for every secret in everything; whatever is found is told at once.
    pub(crate) fn search(&self) {
        let process = PathBuf::from(format!("/proc/{}", self.process.id()));
        let read = |name: &str| (name.to_owned(), fs::read(process.join(name)).unwrap());
        let mut all = vec![
            ("the log".to_owned(), self.process.output().into_bytes()),
            (
                "what was written before".to_owned(),
                self.written.clone().into_bytes(),
            ),
            ("the metrics".to_owned(), metrics(self.metrics)),
            read("cmdline"),
            read("environ"),
        ];
        let files = self.files();
        assert!(files.iter().any(|(path, _)| path.ends_with("mcias.db")));
        all.extend(
            files
                .into_iter()
                .map(|(path, bytes)| (path.display().to_string(), bytes)),
        );
        let found: Vec<String> = all
            .iter()
            .flat_map(|(place, bytes)| {
                let found = found(&self.secrets, bytes);
                found
                    .into_iter()
                    .map(move |found| format!("{place} has {found}"))
            })
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        // Nobody else was told either.
        for thread in fs::read_dir(process.join("task")).unwrap() {
            let children = fs::read_to_string(thread.unwrap().path().join("children"));
            assert_eq!(children.unwrap_or_default(), "", "it has started a program");
        }
    }
}

fn metrics(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    answer
}
