//! What a service gets: pages, logins, messages, errors, assets.

use std::time::Duration;

use axum::http::StatusCode;
use mc_testkit::clock::FakeClock;
use mcdsl::{clock::Clock, web::Limits};

use crate::{
    client::Client,
    site::{fresh, sessions, sessions_by, site},
};

#[tokio::test]
async fn who_is_not_logged_in_comes_back_after_the_login() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let away = client.get("/admin?tab=2").await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    let login = away.header("location").to_owned();
    assert_eq!(login, "/login?next=%2Fadmin%3Ftab%3D2");
    let page = client.get(&login).await;
    assert!(
        page.body
            .contains(r#"action="/login?next=/admin%3Ftab%3D2""#),
        "{}",
        page.body
    );
    let done = client.submit(&login, &login, &[("name", "admin")]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/admin?tab=2");
    let page = client.get("/admin?tab=2").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body
            .contains(r#"<a href="/admin" aria-current="page">"#)
    );
}

#[tokio::test]
async fn the_navigation_goes_by_the_roles_that_the_service_knows_of() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    for (path, shown) in [("/", false), ("/promoted", true), ("/", false)] {
        let page = client.get(path).await;
        assert_eq!(page.body.contains(r#"href="/admin""#), shown, "{path}");
    }
}

#[tokio::test]
async fn cookies_are_strict_and_hidden_from_scripts() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let form = client.get("/login").await;
    let done = client.log_in("ann").await;
    for cookie in [form.cookies(), done.cookies()].concat() {
        assert!(cookie.starts_with("__Host-sample"), "{cookie}");
        for attribute in ["Path=/", "Secure", "HttpOnly"] {
            assert!(cookie.contains(&format!("; {attribute}")), "{cookie}");
        }
        let lax = cookie.starts_with("__Host-sample-login=");
        let site = if lax {
            "SameSite=Lax"
        } else {
            "SameSite=Strict"
        };
        assert!(cookie.contains(site), "{cookie}");
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
    assert!(client.get("/").await.cookies().is_empty());
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let (dir, first, router) = fresh();
    let mut laptop = Client::new(&router);
    laptop.log_in("ann").await;
    let mut phone = Client::new(&router);
    phone.log_in("ann").await;
    drop((router, first));
    let router = site(sessions(dir.path(), Limits::default()));
    let (mut laptop, mut phone) = (laptop.moved(&router), phone.moved(&router));
    for client in [&mut laptop, &mut phone] {
        let page = client.get("/who").await;
        let kept = "ann Some(&#34;192.0.2.7&#34;) true";
        assert!(page.body.contains(kept), "{}", page.body);
    }
    laptop.submit("/", "/logout", &[]).await;
    assert_eq!(laptop.get("/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(phone.get("/").await.status, StatusCode::OK, "its own");
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        idle: Duration::ZERO,
        ..Limits::default()
    };
    let router = site(sessions(directory.path(), limits));
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    assert_eq!(client.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_message_is_shown_once() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    let fields = [
        ("name", "x"),
        ("roles", "a"),
        ("roles", "b"),
        ("unknown", "1"),
    ];
    let made = client.submit("/", "/accounts", &fields).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER);
    let part = client
        .send("GET", "/who", &[("hx-request", "true")], "")
        .await;
    assert!(!part.body.contains("Made"), "not in a part of a page");
    let message = "Made x with roles [&#34;a&#34;, &#34;b&#34;].";
    assert!(client.get("/").await.body.contains(message));
    assert!(!client.get("/").await.body.contains(message));
    assert_eq!(client.get("/fail").await.status, StatusCode::SEE_OTHER);
    let page = client.get("/").await.body;
    assert!(
        page.contains(r#"<p class="message error" role="alert"><span>Failed.</span></p>"#),
        "{page}"
    );
}

#[tokio::test]
async fn a_login_elsewhere_comes_back() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let away = client.get("/elsewhere").await;
    assert_eq!(away.header("location"), "https://idp.example/authorize?x=1");
    let cookie = away.cookies()[0].to_owned();
    assert!(cookie.starts_with("__Host-sample-login=") && cookie.contains("SameSite=Lax"));
    assert!(cookie.contains("Max-Age=600") && !cookie.contains("state"));
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let back = client.send("GET", "/callback", &foreign, "").await;
    // Not a redirect: the browser would keep the new strict cookie to itself.
    assert_eq!(back.status, StatusCode::OK);
    assert!(
        back.body
            .contains(r#"<meta http-equiv="refresh" content="0; url=/">"#)
    );
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    assert_eq!(
        client.get("/callback").await.status,
        StatusCode::BAD_REQUEST,
        "used up"
    );
}

#[tokio::test]
async fn a_login_elsewhere_is_waited_for_by_the_sites_clock() {
    let directory = tempfile::tempdir().unwrap();
    let time = FakeClock::new();
    let sessions = sessions_by(
        Clock::of(time.source()),
        directory.path(),
        Limits::default(),
    );
    let router = site(sessions);
    for (minutes, status) in [(9, StatusCode::OK), (11, StatusCode::BAD_REQUEST)] {
        let mut client = Client::new(&router);
        client.get("/elsewhere").await;
        time.advance(Duration::from_secs(60 * minutes));
        let back = client.get("/callback").await;
        assert_eq!(
            back.status, status,
            "after {minutes} minutes: {}",
            back.body
        );
    }
}

#[tokio::test]
async fn who_follows_a_link_of_another_site_is_asked_again_from_here() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let page = client.send("GET", "/admin?a=1", &foreign, "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body.contains(r#"content="0; url=/admin?a=1""#),
        "{}",
        page.body
    );
    let here = [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
    ];
    let page = client.send("GET", "/admin?a=1", &here, "").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn failures_are_pages_for_browsers_messages_for_htmx_and_text_for_others() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    client.log_in("ann").await;
    for (path, status, says, in_one) in [
        (
            "/nowhere",
            404,
            "<p>There is no such page. It",
            "That was not found. There is no such page. It may have been moved or removed.",
        ),
        (
            "/admin",
            403,
            "<p>The role “admin” is needed.</p>",
            "The role “admin” is needed.",
        ),
        (
            "/busy",
            429,
            "<p>Wait a little and try again.</p>",
            "Too many attempts. Wait a little and try again.",
        ),
        (
            "/panic",
            500,
            "<p>It has been logged.</p>",
            "Something went wrong here. It has been logged.",
        ),
        (
            "/logout",
            405,
            "cannot be used that way",
            "This page cannot be used that way.",
        ),
        ("/callback", 400, "not begun here", "not begun here"),
    ] {
        let page = client.get(path).await;
        assert_eq!(page.status, status, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(
            page.body.contains(says) && page.body.contains("<nav"),
            "{path}: {}",
            page.body
        );
        let part = client
            .send("GET", path, &[("hx-request", "true")], "")
            .await;
        assert_eq!(
            (part.status.as_u16(), part.header("hx-retarget")),
            (status, "#messages")
        );
        assert!(
            part.body
                .starts_with(r#"<p class="message error" role="alert">"#),
            "{path}: {}",
            part.body
        );
        assert!(part.body.contains(in_one), "{path}: {}", part.body);
        let text = client.send("GET", path, &[("accept", "*/*")], "").await;
        assert_eq!(text.status, status, "{path}");
        // A path that has not the method is axum's to tell programs.
        let told = text.body.contains(in_one) || status == 405;
        assert!(told, "{path}: {}", text.body);
        assert!(!text.body.contains('<'), "{path}: {}", text.body);
    }
    assert_eq!(client.get("/busy").await.header("retry-after"), "7");
    assert_eq!(
        client.get("/json").await.header("content-type"),
        "application/json"
    );
}

#[tokio::test]
async fn htmx_is_sent_to_the_login_and_on() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let htmx = [
        ("hx-request", "true"),
        ("hx-current-url", "https://a.example/b?c=d"),
    ];
    let answer = client.send("GET", "/admin", &htmx, "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("hx-redirect"), "/login?next=%2Fb%3Fc%3Dd");
    client.log_in("ann").await;
    let token = client.get("/").await.token();
    let htmx = [
        ("hx-request", "true"),
        ("x-csrf-token", token.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let answer = client.send("POST", "/accounts", &htmx, "name=x").await;
    assert_eq!(
        (answer.status, answer.header("hx-redirect")),
        (StatusCode::OK, "/")
    );
}

#[tokio::test]
async fn every_response_has_the_headers() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    for path in ["/login", "/", "/nowhere", "/panic", "/json", "/consent"] {
        let answer = client.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "));
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        let form_action = policy.split("form-action ").nth(1).unwrap();
        let consent = if path == "/consent" {
            " https://client.example"
        } else {
            ""
        };
        assert_eq!(form_action, format!("'self'{consent}"), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("strict-transport-security", "max-age=63072000"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        assert!(answer.header("permissions-policy").contains("camera=()"));
    }
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_their_hash() {
    let (_dir, _, router) = fresh();
    let mut client = Client::new(&router);
    let page = client.get("/login").await.body;
    let paths: Vec<&str> = page
        .split('"')
        .filter(|s| s.starts_with("/assets/"))
        .collect();
    assert_eq!(paths.len(), 4, "with its own script: {paths:?}");
    for path in paths {
        let asset = client.get(path).await;
        assert_eq!(asset.status, StatusCode::OK);
        assert_eq!(
            asset.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
        assert!(asset.cookies().is_empty());
        let other = path.replacen(&path[8..12], "zzzz", 1);
        assert_eq!(client.get(&other).await.status, StatusCode::NOT_FOUND);
    }
    for inline in [
        "<style",
        " style=",
        "<script>",
        " onclick",
        "hx-on",
        "javascript:",
    ] {
        assert!(!page.contains(inline), "{inline}");
    }
}
