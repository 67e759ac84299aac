//! What others try with the login: an answer that is another's, an answer twice, a way out of the site, a cookie.

use url::form_urlencoded;

use crate::world::{COOKIE, World, command, logged_out};

/// The path with another value of a parameter, or without it.
fn with(path: &str, name: &str, value: Option<&str>) -> String {
    let (page, query) = path.split_once('?').unwrap();
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
    let kept = pairs.filter(|(key, _)| key != name);
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .extend_pairs(value.map(|value| (name, value)))
        .finish();
    format!("{page}?{query}")
}

fn value(path: &str, name: &str) -> String {
    let query = path.split_once('?').unwrap().1;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(key, _)| key == name);
    found.unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_browsers_that_asked() {
    let world = World::start().await;
    let mut ada = world.person("ada").await;
    let mut mallory = world.person("gil").await;
    let mut attacker = world.visitor();
    let theirs = world.answered(&mut attacker, &mut mallory, "/").await;
    let (their_state, their_code) = (value(&theirs, "state"), value(&theirs, "code"));
    let long = "a".repeat(5000);
    for (description, name, sent) in [
        ("another state", "state", Some("x")),
        ("the attacker's state", "state", Some(&*their_state)),
        ("no state", "state", None),
        ("another issuer", "iss", Some("https://evil.example")),
        ("no issuer", "iss", None),
        ("no code", "code", None),
        ("a code of nobody", "code", Some("x")),
        // The challenge at MCIAS is of another verifier.
        ("the attacker's code", "code", Some(&*their_code)),
        ("an error beside the code", "error", Some("access_denied")),
        ("more than is read", "more", Some(&*long)),
    ] {
        let mut victim = world.visitor();
        let back = world.answered(&mut victim, &mut ada, "/").await;
        let refused = victim.get(&with(&back, name, sent)).await;
        let status = refused.status;
        assert!(matches!(status, 400 | 403 | 502), "{description}: {status}");
        assert!(!victim.cookies.contains_key(COOKIE), "{description}");
        assert!(!refused.body.contains("evil.example"), "{description}");
    }
    // Login CSRF: the attacker's whole answer, in a browser that asked for none, and in one that did.
    let mut attacker = world.visitor();
    let theirs = world.answered(&mut attacker, &mut mallory, "/").await;
    let mut victim = world.visitor();
    assert_eq!(victim.get(&theirs).await.status, 400);
    world.answered(&mut victim, &mut ada, "/").await;
    assert_eq!(victim.get(&theirs).await.status, 400);
    assert!(!victim.cookies.contains_key(COOKIE));
    assert_eq!(
        attacker.get(&theirs).await.status,
        200,
        "the attacker's own"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_good_once() {
    let world = World::start().await;
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    let back = world.answered(&mut here, &mut there, "/").await;
    let before = here.clone();
    assert_eq!(here.get(&back).await.status, 200);
    assert_eq!(here.get("/").await.status, 200);
    let again = here.get(&back).await;
    assert_eq!(again.location(), "/", "by the history: logged in already");
    // With the cookie of before, as somebody has it who copied the browser: a code that comes twice is anybody's.
    let mut copy = before;
    let refused = copy.get(&back).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(!copy.cookies.contains_key(COOKIE));
    logged_out(&mut here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_leads_to_a_page_of_this_site() {
    let world = World::start().await;
    let mut there = world.person("ada").await;
    for (description, next, to) in [
        ("a page", "/a?b=c", "/a?b=c"),
        ("another site", "https://evil.example/", "/"),
        ("without a scheme", "//evil.example/", "/"),
        ("by a backslash", "/\\evil.example/", "/"),
        ("by dots", "/.//evil.example/", "/"),
        ("a script", "javascript:alert(1)", "/"),
    ] {
        let mut here = world.visitor();
        let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let login = format!("/login?next={next}");
        let away = here.get(&login).await.location().to_owned();
        let back = there.get(world.at_mcias(&away)).await.location().to_owned();
        let done = here.get(world.here(&back)).await;
        let on = format!(r#"content="0; url={to}""#);
        assert!(done.body.contains(&on), "{description}: {}", done.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_and_files_tell_nothing() {
    let world = World::start().await;
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    let login = here.get("/login").await;
    let pending = login.header("set-cookie").to_owned();
    assert!(pending.starts_with("__Host-guestbook-login="), "{pending}");
    for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(pending.contains(flag), "{pending}");
    }
    let state = value(login.location(), "state");
    assert!(!pending.contains(&state), "encrypted");
    let done = world.log_in(&mut here, &mut there, "/").await;
    let cookies = done.headers.get_all("set-cookie").iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap());
    let session = cookies.find(|cookie| cookie.starts_with(&format!("{COOKIE}=")));
    let session = session.unwrap();
    for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(session.contains(flag), "{session}");
    }
    assert!(!session.contains("Domain") && !session.contains("Max-Age"));
    // Who has the database, or a snapshot, has neither the cookie nor a token.
    let db = rusqlite::Connection::open(world.root.path().join("guestbook.db")).unwrap();
    let sql = "SELECT data FROM web_sessions";
    let data: String = db.query_row(sql, [], |row| row.get(0)).unwrap();
    // What a JWT's header begins with; of less there may be some in what is sealed, by chance.
    let plain = ["eyJ0eXAi", "eyJhbGci"]
        .iter()
        .any(|begin| data.contains(begin));
    assert!(data.len() > 1000 && !plain, "{data}");
    // A stolen row under a cookie of the thief's opens nothing.
    let mut gil = world.person("gil").await;
    let mut thief = world.visitor();
    world.log_in(&mut thief, &mut gil, "/").await;
    let sql = "UPDATE web_sessions SET data = ?1, account = (SELECT account FROM web_sessions WHERE name = 'ada')
        WHERE name = 'gil'";
    assert_eq!(db.execute(sql, [&data]).unwrap(), 1);
    logged_out(&mut thief).await;
    let log = world.guestbook.output();
    for secret in ["secret", "token"] {
        let secret = std::fs::read_to_string(world.root.path().join(secret)).unwrap();
        assert!(!log.contains(secret.trim()), "{log}");
    }
    assert!(!log.contains("eyJ"), "{log}");
}

#[test]
fn a_secret_that_others_may_read_is_none() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    let ca = mc_testkit::ca::Ca::new().unwrap();
    ca.issue(&["localhost"])
        .unwrap()
        .write(at, "server")
        .unwrap();
    fs::write(at.join("ca.pem"), ca.pem()).unwrap();
    for name in ["token", "secret"] {
        fs::write(at.join(name), "x").unwrap();
    }
    let set = |name: &str, mode| {
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let config = |issuer: &str, url: &str| {
        let text = format!(
            "[server]\nlisten = '127.0.0.1:0'\ngrpc_listen = '127.0.0.1:0'\ntls_cert = 'server.crt'\n\
             tls_key = 'server.key'\n[mcias]\nserver_url = 'https://localhost:1'\nca_cert = 'ca.pem'\n\
             service_name = 'guestbook'\ntoken_file = 'token'\n[sso]\nissuer = '{issuer}'\npublic_url = '{url}'\n\
             client_secret_file = 'secret'\n"
        );
        fs::write(at.join("guestbook.toml"), text).unwrap();
    };
    for (description, token, secret, issuer, url, said) in [
        (
            "a readable secret",
            0o600,
            0o640,
            "https://a",
            "https://b",
            "client_secret_file: others have access to",
        ),
        (
            "a readable token",
            0o644,
            0o600,
            "https://a",
            "https://b",
            "token_file: others have access to",
        ),
        (
            "no TLS",
            0o600,
            0o600,
            "http://127.0.0.1",
            "https://b",
            "does not begin with https://",
        ),
        (
            "a path",
            0o600,
            0o600,
            "https://a/b",
            "https://b",
            "[sso] issuer",
        ),
        (
            "no origin",
            0o600,
            0o600,
            "https://a",
            "b.example",
            "[sso] public_url",
        ),
    ] {
        config(issuer, url);
        set("token", token);
        set("secret", secret);
        let ended = command(at).arg("server").output().unwrap();
        let err = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{description}");
        assert!(err.contains(said), "{description}: {err}");
    }
}
