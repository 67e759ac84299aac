//! What nobody is to read: the program is told every kind of secret, and none of them is found again in its log, its database, a snapshot, its
//! metrics, its arguments or its environment.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mc_testkit::process::Process;
use mcias::seal;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    crash::{address, mcias},
    daemon::Daemon,
    factors::code,
    mciasctl::Home,
    oidc_client::{Party, REDIRECT, VERIFIER, request, text},
    secret::{Secret, found},
    web::{Browser, encoded},
};

const SERVICE: &str = "wiki";

/// By password, and with each second factor; and by what is nearly right.
async fn logins(daemon: &mut Daemon, admin: &str) {
    let password = daemon.secret("a password", "Ein Papagei & 40 Räuber?");
    let body = json!({ "name": "ada", "account_type": 1, "roles": ["user"], "password": password });
    daemon.call("POST", "/v1/accounts", admin, body).await;
    let wrong = daemon.secret("a wrong password", "Ein Papagei & 39 Räuber?");
    daemon
        .refused(json!({ "account": "ada", "password": wrong }))
        .await;
    // In the wrong field, as happens.
    for typed in ["papageienfutter7.im.feld", "Papageienfutter 8 im Feld"] {
        let typed = daemon.secret("a password in the field of the name", typed);
        daemon
            .refused(json!({ "account": typed, "password": wrong }))
            .await;
    }

    let login = daemon.log_in("ada", &password, "").await;
    let token = daemon.token("a token", text(&login, "token"));
    let cut = &token[..token.len() - 1];
    let answer = daemon
        .try_call("GET", "/v1/auth/whoami", cut, &Value::Null)
        .await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    let begin = json!({ "password": password });
    let begun = daemon
        .call("POST", "/v1/profile/totp/begin", &token, begin.clone())
        .await;
    let app = daemon.secret("an app's secret", text(&begun, "secret"));
    let confirm = json!({ "code": code(&app, -1) });
    let mut answer = daemon
        .try_call("POST", "/v1/profile/totp/confirm", &token, &confirm)
        .await;
    if answer.status != 200 {
        // A step has ended in between.
        let confirm = json!({ "code": code(&app, -1) });
        answer = daemon
            .try_call("POST", "/v1/profile/totp/confirm", &token, &confirm)
            .await;
    }
    assert_eq!(answer.status, 200, "{}", answer.body);

    let wrong = daemon.secret("a wrong code", &code(&app, 100));
    daemon
        .refused(json!({ "account": "ada", "password": password, "code": wrong }))
        .await;
    let shown = daemon.secret("an app's code", &code(&app, 1));
    let login = daemon.log_in("ada", &password, &shown).await;
    let token = daemon.token("a token of two factors", text(&login, "token"));
    let made = daemon
        .call("POST", "/v1/profile/recovery-codes", &token, begin)
        .await;
    let codes: Vec<String> = made["codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    for code in &codes {
        daemon.secret("a recovery code", code);
        daemon.secret("a recovery code without groups", &code.replace('-', ""));
    }
    let login = daemon.log_in("ada", &password, &codes[0]).await;
    let token = daemon.token("a token by a recovery code", text(&login, "token"));
    let renewed = daemon
        .call("POST", "/v1/auth/renew", &token, json!({}))
        .await;
    let token = daemon.token("a renewed token", text(&renewed, "token"));
    let new = daemon.secret("a new password", "Ein Kakadu und 41 Räuber!");
    let body = json!({ "old_password": wrong, "new_password": new });
    let answer = daemon
        .try_call("POST", "/v1/profile/password", &token, &body)
        .await;
    assert!(matches!(answer.status, 400 | 401 | 403), "{}", answer.body);
    daemon.forgive();
    let body = json!({ "old_password": password, "new_password": new });
    daemon
        .call("POST", "/v1/profile/password", &token, body)
        .await;
    let reset = daemon
        .call("POST", "/v1/accounts/ada/reset-password", admin, json!({}))
        .await;
    daemon.secret("a password that was reset", text(&reset, "password"));
}

/// Tokens of a system account.
async fn tokens(daemon: &mut Daemon, admin: &str) {
    let body = json!({ "name": "robot", "account_type": 2 });
    daemon.call("POST", "/v1/accounts", admin, body).await;
    let path = "/v1/accounts/robot/tokens";
    let issued = daemon
        .call("POST", path, admin, json!({ "services": ["mcias"] }))
        .await;
    let token = daemon.token("a system account's token", text(&issued, "token"));
    daemon
        .call("POST", "/v1/auth/check", &token, json!({ "token": token }))
        .await;
    let path = format!("{path}/{}/rotate", text(&issued, "id"));
    let rotated = daemon.call("POST", &path, admin, json!({})).await;
    daemon.token("a rotated token", text(&rotated, "token"));
}

/// A client of OpenID Connect, and the browser of who logs in to it.
async fn openid_connect(daemon: &mut Daemon, admin: &str) {
    let password = daemon.secret(
        "a password that is typed in a page",
        "Kaffee; 12 Tassen = viel",
    );
    let body = json!({ "name": "bob", "account_type": 1, "roles": ["user"], "password": password });
    daemon.call("POST", "/v1/accounts", admin, body).await;
    let service = json!({ "service": { "name": SERVICE, "redirect_uris": [REDIRECT] } });
    let made = daemon.call("PUT", "/v1/services", admin, service).await;
    let secret = daemon.secret("a client's secret", text(&made, "client_secret"));
    let mut browser = Browser {
        http: daemon.http(),
        agent: "Browser/1",
        cookies: Default::default(),
    };
    let wrong = daemon.secret("a wrong password in a page", "Kaffee; 13 Tassen = viel");
    browser.log_in("bob", &wrong).await;
    daemon.forgive();
    let form = browser.get("/login").await.field("csrf_token");
    daemon.secret("a form's token before the login", &form);
    let answer = browser.log_in("bob", &password).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    for cookie in browser.cookies.values() {
        daemon.secret("a cookie", cookie);
    }
    let form = browser.get("/password").await.field("csrf_token");
    daemon.secret("a form's token", &form);

    let wiki = Party {
        http: daemon.http(),
        id: SERVICE.to_owned(),
        secret: Some(secret.clone()),
    };
    daemon.secret("a code's verifier", VERIFIER);
    let code = wiki.code(&mut browser).await;
    daemon.secret("a code", &code);
    let stranger = Party {
        secret: Some(daemon.secret("a wrong secret", "nearly-the-clients-secret")),
        ..wiki.clone()
    };
    assert_eq!(stranger.exchange(&code, &[]).await.status, 401);
    let answer = wiki.exchange(&code, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut given = answer.json();
    for round in 0..2 {
        daemon.token("a client's access token", text(&given, "access_token"));
        daemon.token("an ID token", text(&given, "id_token"));
        let refresh = text(&given, "refresh_token").to_owned();
        for part in refresh.split('.') {
            daemon.secret("a refresh token", part);
        }
        wiki.introspect(text(&given, "access_token")).await;
        assert!(wiki.knows(text(&given, "access_token")).await);
        if round == 0 {
            let answer = wiki.refresh(&refresh).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            given = answer.json();
        }
    }
    // By Basic, and where a fault puts them: in the address.
    let basic = STANDARD.encode(format!("{SERVICE}:{secret}"));
    daemon.secret("a client's Basic", &basic);
    let basic = format!("Basic {basic}");
    let fields = [("token", text(&given, "refresh_token"))];
    let revoked = wiki
        .http
        .post("/oauth/revoke", &[("authorization", &basic)], &fields)
        .await;
    assert_eq!(revoked.status, 200, "{}", revoked.body);
    let second = wiki.code(&mut browser).await;
    daemon.secret("a code in the address", &second);
    for (path, name) in [
        ("/oauth/token", "code"),
        ("/", "access_token"),
        ("/login", "password"),
    ] {
        let misplaced = daemon.secret("a secret in the address", &format!("misplaced-{name}-4711"));
        browser
            .get(&format!("{path}?{}", encoded(&[(name, &misplaced)])))
            .await;
    }
    browser
        .get(&request(SERVICE, &[("code_challenge_method", "plain")]))
        .await;
    let code = browser.get("/").await.field("csrf_token");
    browser.post("/logout", &[("csrf_token", &code)]).await;
}

/// The tool, which speaks gRPC; and it keeps to itself what it was told.
async fn tool(daemon: &mut Daemon, password: &str) {
    let port = address(&mut daemon.process, "grpc").port();
    let home = Home::at(
        port,
        daemon.root.path().join("ca.pem").display().to_string(),
    );
    let mut written = String::new();
    let wrong = daemon.secret("a wrong password to the tool", "Nilpferd? 3 Stück");
    let ended = home
        .run("login --account admin", &format!("{wrong}\n"))
        .await;
    assert_ne!(ended.code, 0, "{ended:?}");
    daemon.forgive();
    for (line, input) in [
        ("login --account admin", password),
        ("whoami", ""),
        ("account list", ""),
        ("token list robot", ""),
        ("audit list", ""),
        ("snapshot", ""),
    ] {
        let ended = home.run(line, &format!("{input}\n")).await;
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        written += &ended.out;
        written += &ended.err;
    }
    let store = home
        .directory
        .path()
        .join(".local/state/metacircular/tokens/mcias.json");
    let kept: Value = serde_json::from_slice(&fs::read(store).unwrap()).unwrap();
    let entry = kept.as_object().unwrap().values().next().unwrap();
    daemon.token("the tool's token", text(entry, "token"));
    daemon.written += &written;
}

/// The newest snapshot, put in the place of the database.
fn restore(daemon: &mut Daemon) {
    let backups = fs::read_dir(daemon.root.path().join("backups")).unwrap();
    let snapshot = backups.map(|entry| entry.unwrap().path()).max().unwrap();
    daemon.process.terminate().unwrap();
    daemon.written += &daemon.process.output();
    let mut command = mcias(daemon.root.path(), "restore");
    let output = command.arg("--replace").arg(snapshot).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for bytes in [output.stdout, output.stderr] {
        daemon.written += &String::from_utf8(bytes).unwrap();
    }
    daemon.process = Process::start(&mut mcias(daemon.root.path(), "server")).unwrap();
}

/// Private keys and the app's secret as bytes: what is sealed in the database.
fn sealed(daemon: &mut Daemon, root: &Path) {
    let key = seal::Key::read(&root.join("master.key")).unwrap();
    let db = Connection::open(root.join("mcias.db")).unwrap();
    for (what, sql, name) in [
        (
            "a private key",
            "SELECT kid, private FROM signing_key WHERE private NOT NULL",
            "signing-key",
        ),
        (
            "an app's secret, as bytes",
            "SELECT account, secret FROM totp",
            "totp",
        ),
    ] {
        let row =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
        let (id, sealed) = db.query_row(sql, [], row).unwrap();
        let secret = key.open(&format!("{name}/{id}"), &sealed).unwrap();
        daemon.secrets.push(Secret::of(what, &secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_written_anywhere() {
    let mut daemon = Daemon::start();
    let password = daemon.password.clone();
    let login = daemon.log_in("admin", &password, "").await;
    let admin = daemon.token("an administrator's token", text(&login, "token"));
    logins(&mut daemon, &admin).await;
    let root = daemon.root.path().to_owned();
    sealed(&mut daemon, &root);
    tokens(&mut daemon, &admin).await;
    openid_connect(&mut daemon, &admin).await;
    tool(&mut daemon, &password).await;
    daemon
        .call("POST", "/v1/keys/rotate", &admin, json!({}))
        .await;
    sealed(&mut daemon, &root);
    let log = daemon
        .call("GET", "/v1/audit?limit=1000", &admin, Value::Null)
        .await;
    daemon.written += &log.to_string();
    daemon.search();
    restore(&mut daemon);
    let login = daemon.log_in("admin", &password, "").await;
    daemon.token("a token after the restore", text(&login, "token"));
    daemon.search();

    // What is no secret is found, so that the search finds what there is.
    for (place, known) in [
        (&daemon.process.output(), "127.0.0.1"),
        (&daemon.written, " TRACE rustls::"),
        (&daemon.written, "/metacircular.mcias.v1.Auth/Login"),
        (&daemon.written, "\"robot\""),
    ] {
        let secret = Secret::of("known", known.as_bytes());
        assert!(!found([&secret], place.as_bytes()).is_empty(), "{known}");
    }
    assert!(daemon.is_kept(REDIRECT));
}
