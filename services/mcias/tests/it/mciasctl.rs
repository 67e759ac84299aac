//! The tool as its users meet it: the program itself, with a home of its own, against the service.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::running::{PASSWORD, Running};

/// A person's home and what is in their environment.
pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Home {
    pub(crate) fn of(running: &Running) -> Self {
        let ca = running.root.path().join("ca.pem").display().to_string();
        Self::at(running.handle.grpc().port(), ca)
    }

    /// With a server at this port of the machine, whose certificate leads to a CA in a file.
    pub(crate) fn at(port: u16, ca: String) -> Self {
        let server = format!("https://localhost:{port}");
        Self {
            directory: tempfile::tempdir().unwrap(),
            environment: vec![("MCIAS_SERVER", server), ("MCIAS_CA", ca)],
        }
    }

    /// Runs a command with `input` as its stdin.
    pub(crate) async fn run(&self, line: &str, input: &str) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mciasctl"))
            .args(line.split_whitespace())
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.directory.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that failed before it read has closed its end.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) async fn log_in(&self, account: &str, password: &str) {
        let line = format!("login --account {account}");
        let ended = self.run(&line, &format!("{password}\n")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        let state = self.directory.path().join(".local/state");
        state.join("metacircular/tokens/mcias.json")
    }

    /// The one entry of the store.
    fn kept(&self) -> Value {
        let text = fs::read_to_string(self.tokens()).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let (_, entry) = all.as_object().unwrap().iter().next().unwrap();
        entry.clone()
    }

    /// Lets the kept token end in so many seconds, as far as the tool knows.
    fn ends_in(&self, seconds: u64) {
        let text = fs::read_to_string(self.tokens()).unwrap();
        let mut all: Value = serde_json::from_str(&text).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        for entry in all.as_object_mut().unwrap().values_mut() {
            entry["expires_unix_s"] = (now.as_secs() + seconds).into();
        }
        fs::write(self.tokens(), all.to_string()).unwrap();
    }

    /// A file with a token, to be named.
    pub(crate) fn token_file(&self, token: &str) -> String {
        let path = self.directory.path().join("token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

#[tokio::test]
async fn a_login_lasts_until_the_logout() {
    let running = Running::start().await;
    let home = Home::of(&running);
    for (description, input, code, said) in [
        ("nothing on stdin", "", 2, "Password"),
        ("a wrong password", "wrong\n", 5, ""),
    ] {
        let ended = home.run("login --account nobody", input).await;
        assert_eq!(ended.code, code, "{description}: {ended:?}");
        assert!(ended.err.contains(said), "{description}: {ended:?}");
        assert!(!ended.err.contains("log in"), "{description}: {ended:?}");
    }
    let ended = home.run("whoami", "").await;
    assert_eq!(
        (ended.code, ended.err.contains("mciasctl login")),
        (5, true)
    );

    home.log_in("admin", &running.password).await;
    let who = home.run("whoami --json", "").await.json();
    assert_eq!(
        (&who["account"], &who["roles"][0]),
        (&"admin".into(), &"admin".into())
    );
    let mode = fs::metadata(home.tokens()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let sessions = home.run("profile sessions --json", "").await.json();
    let device = sessions[0]["device"].as_str().unwrap();
    assert!(device.starts_with("mciasctl on "), "{device}");

    let file = home.token_file(home.kept()["token"].as_str().unwrap());
    let with_file = format!("--token-file {file} whoami");
    assert_eq!(home.run(&with_file, "").await.code, 0);
    assert_eq!(home.run("logout", "").await.code, 0);
    assert_eq!(home.run("whoami", "").await.code, 5, "forgotten here");
    assert_eq!(home.run(&with_file, "").await.code, 5, "and void there");
    assert_eq!(home.run("logout", "").await.code, 0, "again");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    let first = home.kept()["token"].clone();
    assert_eq!(home.run("whoami", "").await.code, 0);
    assert_eq!(home.kept()["token"], first, "not before");

    home.ends_in(300);
    // The token before is void once one of them has renewed it.
    let (a, b, c) = tokio::join!(
        home.run("whoami", ""),
        home.run("status", ""),
        home.run("account list", "")
    );
    for ended in [&a, &b, &c] {
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let second = home.kept()["token"].clone();
    assert_ne!(second, first);
    let file = home.token_file(first.as_str().unwrap());
    let before = home.run(&format!("--token-file {file} whoami"), "").await;
    assert_eq!(before.code, 5, "{before:?}");

    home.ends_in(0);
    let ended = home.run("whoami", "").await;
    assert_eq!(
        (ended.code, ended.err.contains("mciasctl login")),
        (5, true)
    );
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let running = Running::start().await;
    let mut home = Home::of(&running);
    let login = "login --account admin --save";
    let ended = home.run(login, &format!("{}\n", running.password)).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let (server, ca) = (home.environment[0].1.clone(), home.environment[1].1.clone());
    for (description, environment, line, code) in [
        ("the file", vec![], "whoami", 0),
        (
            "the environment",
            vec![("MCIAS_SERVER", "https://localhost:1".to_owned())],
            "whoami",
            5,
        ),
        (
            "a flag",
            vec![("MCIAS_SERVER", "https://localhost:1".to_owned())],
            &format!("whoami --server {server}"),
            0,
        ),
        (
            "a CA that is none",
            vec![("MCIAS_CA", "/dev/null".to_owned())],
            "whoami",
            2,
        ),
        (
            "a CA as a flag",
            vec![("MCIAS_CA", "/dev/null".to_owned())],
            &format!("whoami --ca {ca}"),
            0,
        ),
        (
            "a token's file",
            vec![("MC_TOKEN_FILE", "/nonexistent".to_owned())],
            "whoami",
            2,
        ),
    ] {
        home.environment = environment;
        let ended = home.run(line, "").await;
        assert_eq!(ended.code, code, "{description}: {ended:?}");
    }
    home.environment.clear();
    let nobody = home.run(
        "login --account admin --server https://localhost:1 --json",
        "x\n",
    );
    let nobody = nobody.await;
    assert_eq!(nobody.code, 4, "{nobody:?}");
    let error: Value = serde_json::from_str(&nobody.err).unwrap();
    assert_eq!(error["exit_code"], 4);
}

#[tokio::test]
async fn a_password_that_has_to_be_changed() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    let created = home.run("account create ada --role admin --json", "").await;
    let first = created.json()["password"].as_str().unwrap().to_owned();
    assert_eq!(home.run("logout", "").await.code, 0);
    let ended = home.run("login --account ada", &format!("{first}\n")).await;
    assert!(ended.out.contains("mciasctl profile password"), "{ended:?}");
    let who = home.run("whoami", "").await;
    assert!(who.out.contains("mciasctl profile password"), "{who:?}");
    let refused = home.run("account list", "").await;
    assert_eq!(refused.code, 5, "nothing else");
    let what = "change the password first; the role `admin` is needed";
    assert!(refused.err.contains(what), "{refused:?}");
    let weak = home
        .run("profile password", &format!("{first}\npassword\n"))
        .await;
    assert_eq!(weak.code, 2, "{weak:?}");
    let changed = home
        .run("profile password", &format!("{first}\n{PASSWORD}\n"))
        .await;
    assert_eq!(changed.code, 0, "{changed:?}");
    let list = home.run("account list", "").await;
    assert_eq!(list.code, 0, "the same login can do all: {list:?}");
}

#[tokio::test]
async fn a_login_ends_the_one_that_it_replaces() {
    let running = Running::start().await;
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    let first = home.kept()["token"].as_str().unwrap().to_owned();
    home.log_in("admin", &running.password).await;
    let sessions = home.run("profile sessions --json", "").await.json();
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    let file = home.token_file(&first);
    let over = home.run(&format!("--token-file {file} whoami"), "").await;
    assert_eq!(over.code, 5, "{over:?}");
    // One that fails ends nothing.
    assert_eq!(home.run("login --account admin", "wrong\n").await.code, 5);
    assert_eq!(home.run("whoami", "").await.code, 0);
}

#[tokio::test]
async fn second_factors() {
    let running = Running::start().await;
    let home = Home::of(&running);
    running.admin().await.person("ada", "user").await;
    home.log_in("ada", PASSWORD).await;
    let password = format!("{PASSWORD}\n");
    let enrolled = home
        .run("profile totp enrol --json", &password)
        .await
        .json();
    let secret = enrolled["secret"].as_str().unwrap();
    let code = Command::new("oathtool")
        .args(["--totp", "--base32", secret])
        .output()
        .await
        .unwrap();
    let code = String::from_utf8(code.stdout).unwrap();
    let confirmed = home.run("profile totp confirm", &code).await;
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let codes = home
        .run("profile recovery-codes --yes --json", &password)
        .await;
    let recovery = codes.json()["codes"][0].as_str().unwrap().to_owned();
    assert_eq!(home.run("logout", "").await.code, 0);

    let alone = home.run("login --account ada", &password).await;
    assert_eq!(alone.code, 2, "a code is missing: {alone:?}");
    let both = format!("{password}{recovery}\n");
    let ended = home.run("login --account ada --json", &both).await;
    assert_eq!(ended.json()["account"], "ada");
    let who = home.run("profile show --json", "").await.json();
    assert_eq!(who["factors"]["totp"], true);
    assert_eq!(who["factors"]["recovery_codes"], 9);
    let removed = home.run("profile totp remove --yes", &password).await;
    assert_eq!(removed.code, 0, "{removed:?}");
}
