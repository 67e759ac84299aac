//! What others try: to use somebody's session, to fix it, to send people away, to put something into a page or a header.

use axum::http::StatusCode;

use crate::{
    client::{Client, encoded},
    site::{COOKIE, fresh},
};

#[tokio::test]
async fn a_login_changes_the_cookie_whatever_was_there() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    // One that the attacker chose, one that is well-formed and unknown.
    for fixed in ["attacker".to_owned(), "A".repeat(43)] {
        client.cookies.clear();
        client.cookies.insert(COOKIE.into(), fixed.clone());
        client.log_in("ann").await;
        assert_ne!(client.cookies[COOKIE], fixed);
    }
    // The attacker's own session, put into the browser before the login.
    let mut attacker = Client::new(&router);
    attacker.log_in("mallory").await;
    let mut victim = attacker.clone();
    victim.log_in("ann").await;
    assert_ne!(victim.cookies[COOKIE], attacker.cookies[COOKIE]);
    assert_eq!(
        attacker.get("/").await.status,
        StatusCode::SEE_OTHER,
        "ended by the login"
    );
}

#[tokio::test]
async fn a_logout_ends_the_session_and_not_only_the_cookie() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    let mut copy = client.clone();
    client.submit("/", "/logout", &[]).await;
    assert!(!client.cookies.contains_key(COOKIE));
    assert_eq!(copy.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_database_holds_no_cookie() {
    let (dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    let cookie = client.cookies[COOKIE].clone();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        let found = content
            .windows(cookie.len())
            .any(|w| w == cookie.as_bytes());
        assert!(!found);
    }
}

#[tokio::test]
async fn nothing_is_changed_without_a_token_of_the_same_session() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let before = client.get("/login").await.token();
    client.log_in("ann").await;
    let token = client.get("/").await.token();
    let mut other = Client::new(&router);
    other.log_in("mallory").await;
    let others = other.get("/").await.token();
    let cut = &token[..85];
    let cookie = client.cookies[COOKIE].clone();
    for (what, tried, status) in [
        ("its own", token.as_str(), StatusCode::SEE_OTHER),
        (
            "again: a form may be sent twice",
            &token,
            StatusCode::SEE_OTHER,
        ),
        ("of another session", &others, StatusCode::FORBIDDEN),
        ("of before the login", &before, StatusCode::FORBIDDEN),
        ("none", "", StatusCode::FORBIDDEN),
        ("cut", cut, StatusCode::FORBIDDEN),
        ("zeros", &"A".repeat(86), StatusCode::FORBIDDEN),
        ("the cookie itself", &cookie, StatusCode::FORBIDDEN),
        ("no Base64", &"é".repeat(43), StatusCode::FORBIDDEN),
    ] {
        let sent = client
            .post("/accounts", &[("csrf_token", tried), ("name", "x")])
            .await;
        assert_eq!(sent.status, status, "{what}, as a field");
        let Ok(_) = axum::http::HeaderValue::from_str(tried) else {
            continue;
        };
        let headers = [
            ("x-csrf-token", tried),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let sent = client.send("POST", "/accounts", &headers, "name=x").await;
        assert_eq!(sent.status, status, "{what}, as a header");
    }
    let slip = client.send("POST", "//v1/accounts", &[], "").await;
    assert_eq!(slip.status, StatusCode::NOT_FOUND, "no page, and no form");
    // A wrong header is not mended by a right field.
    let headers = [
        ("x-csrf-token", others.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = encoded(&[("csrf_token", &token), ("name", "x")]);
    assert_eq!(
        client
            .send("POST", "/accounts", &headers, body)
            .await
            .status,
        StatusCode::FORBIDDEN
    );
    // In the query it would be in logs.
    let path = format!("/accounts?csrf_token={token}");
    assert_eq!(
        client.post(&path, &[("name", "x")]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn no_unsafe_request_comes_past_the_guard() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    let token = client.get("/").await.token();
    let body = encoded(&[("csrf_token", &token), ("name", "x")]);
    for kind in [
        "text/plain",
        "application/json",
        "multipart/form-data; boundary=x",
        "",
        "x",
    ] {
        let sent = client
            .send("POST", "/echo", &[("content-type", kind)], body.clone())
            .await;
        assert_eq!(
            sent.status,
            StatusCode::FORBIDDEN,
            "{kind}: only a header will do"
        );
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "FOO"] {
        let sent = client.send(method, "/echo", &[], body.clone()).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{method}");
    }
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (what, header) in [
        ("another site", ("sec-fetch-site", "cross-site")),
        (
            "another host of the domain",
            ("sec-fetch-site", "same-site"),
        ),
        ("another origin", ("origin", "https://evil.example")),
        ("a sandbox", ("origin", "null")),
    ] {
        let sent = client
            .send("POST", "/accounts", &[form, header], body.clone())
            .await;
        assert_eq!(
            sent.status,
            StatusCode::FORBIDDEN,
            "{what}, with the right token"
        );
    }
    let here = [form, ("sec-fetch-site", "same-origin")];
    assert_eq!(
        client.send("POST", "/accounts", &here, body).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn nobody_is_logged_in_by_another_sites_form() {
    let (_dir, _, router) = fresh();
    let mut attacker = Client::new(&router);
    let token = attacker.get("/login").await.token();
    let mut victim = Client::new(&router);
    victim.get("/login").await;
    for tried in [token.as_str(), ""] {
        let sent = victim
            .post("/login", &[("csrf_token", tried), ("name", "mallory")])
            .await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN);
        assert!(!victim.cookies.contains_key(COOKIE));
    }
    let mut without_cookies = Client::new(&router);
    let sent = without_cookies
        .post("/login", &[("csrf_token", &token), ("name", "x")])
        .await;
    assert_eq!(sent.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_login_leads_nowhere_else() {
    let (_dir, _, router) = fresh();
    for next in [
        "//evil.example",
        "/\\evil.example",
        "https:evil.example",
        "https://evil.example",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "/./\\evil.example",
        "",
        "evil",
    ] {
        let mut client = Client::new(&router);
        let path = format!("/login?{}", encoded(&[("next", next)]));
        let done = client.submit(&path, &path, &[("name", "ann")]).await;
        assert_eq!(
            (done.status, done.header("location")),
            (StatusCode::SEE_OTHER, "/"),
            "{next:?}"
        );
        assert!(
            done.cookies().iter().all(|c| c.starts_with("__Host-")),
            "{next:?}"
        );
    }
    // By the path itself, which the login page is given as `next`.
    let mut client = Client::new(&router);
    for path in ["//evil.example/admin", "/%5cevil.example", "/admin//x"] {
        let away = client.get(path).await;
        assert!(
            matches!(away.status, StatusCode::NOT_FOUND),
            "{path}: {}",
            away.status
        );
    }
}

#[tokio::test]
async fn what_people_write_is_text() {
    let (_dir, _, router) = fresh();
    let evil =
        "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{ 7*7 }}\r\nX-Evil: 1";
    let mut client = Client::new(&router);
    let login = client.log_in(evil).await;
    assert_eq!(login.status, StatusCode::SEE_OTHER);
    assert_eq!(login.header("x-evil"), "");
    let page = client.get("/").await;
    assert!(page.body.contains("alert(1)"), "the name is there");
    let made = client
        .submit("/", "/accounts", &[("name", evil), ("roles", evil)])
        .await;
    assert_eq!(made.header("x-evil"), "");
    let shown = client.get("/").await;
    assert!(shown.body.contains("Made "));
    let next = client
        .get(&format!("/login?{}", encoded(&[("next", "/\"><script>")])))
        .await;
    let missing = client.get("/%22%3E%3Cscript%3E").await;
    for page in [page, shown, next, missing] {
        for mark in ["<script>", "<img", "'><", "\"><script"] {
            assert!(!page.body.contains(mark), "{mark} in {}", page.body);
        }
        assert!(page.body.contains("<!doctype html>"));
    }
}

#[tokio::test]
async fn what_is_too_large_or_odd_is_refused() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let token = client.get("/login").await.token();
    let big = "x".repeat(65 * 1024);
    let sent = client
        .post("/login", &[("csrf_token", &token), ("name", &big)])
        .await;
    assert_eq!(sent.status, StatusCode::PAYLOAD_TOO_LARGE);
    let headers = [
        ("x-csrf-token", token.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("name={big}");
    let sent = client.send("POST", "/login", &headers, body).await;
    assert_eq!(
        sent.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "with the token in the header"
    );
    let sent = client.post("/login", &[("csrf_token", &token)]).await;
    assert_eq!(
        sent.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "a field is missing"
    );
    let twice = [("csrf_token", token.as_str()), ("name", "a"), ("name", "b")];
    assert_eq!(
        client.post("/login", &twice).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    client.log_in("ann").await;
    let good = client.cookies[COOKIE].clone();
    for (what, value) in [
        ("a huge cookie", "A".repeat(20_000)),
        ("one more letter", format!("{good}A")),
        ("another spelling", format!("{good}=")),
        ("quotes", format!("\"{good}\"")),
        ("two of the name", format!("{good}; {COOKIE}={good}")),
        ("nothing", String::new()),
    ] {
        let mut odd = Client::new(&router);
        odd.cookies.insert(COOKIE.into(), value);
        assert_eq!(odd.get("/").await.status, StatusCode::SEE_OTHER, "{what}");
    }
}
