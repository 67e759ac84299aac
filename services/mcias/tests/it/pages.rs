//! Pages, as browsers get them.

use mc_proto::mcias::v1::{
    ListAuditRequest, ListSessionsRequest, ResetPasswordRequest, RevokeRequest,
    revoke_request::What,
};
use mc_testkit::clock::FakeClock;

use crate::{
    factors::{code, enrol},
    running::{PASSWORD, Running},
    web::Browser,
};

const COOKIE: &str = "__Host-mcias";

/// After a failure one waits; as if that were over.
pub(crate) fn forgive(running: &Running) {
    let sql = "DELETE FROM guesses";
    running.database().execute(sql, []).unwrap();
}

#[tokio::test]
async fn a_person_logs_in_sees_the_login_and_logs_out() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut browser = Browser::new(&running);
    let away = browser.get("/sessions").await;
    assert_eq!(away.location(), "/login?next=%2Fsessions");
    let path = "/login?next=%2Fsessions";
    let wrong = [("account", "ada"), ("password", "wrong <b>")];
    let refused = browser.submit(path, path, &wrong).await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("is wrong") && !refused.body.contains("wrong &lt;b"));
    assert_eq!(refused.field("account"), "ada", "as it was typed");
    assert!(!browser.cookies.contains_key(COOKIE));
    forgive(&running);
    let right = [("account", "ada"), ("password", PASSWORD)];
    let done = browser.submit(path, path, &right).await;
    assert_eq!(done.location(), "/sessions");
    assert_eq!(
        browser.get(path).await.location(),
        "/sessions",
        "once is enough"
    );
    let list = browser.get("/sessions").await;
    assert!(
        list.body.contains("this one") && list.body.contains("Browser/1"),
        "{}",
        list.body
    );
    assert!(browser.get("/").await.body.contains("<dd>ada</dd>"));
    // The API sees the same login.
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let listed = ada
        .profile
        .list_sessions(ListSessionsRequest {})
        .await
        .unwrap();
    assert_eq!(listed.into_inner().sessions.len(), 2);
    let mut copy = browser.clone();
    let out = browser.submit("/", "/logout", &[]).await;
    assert_eq!(out.location(), "/");
    assert!(!browser.cookies.contains_key(COOKIE));
    assert_eq!(
        copy.get("/").await.location(),
        "/login?next=%2F",
        "not only the cookie"
    );
    let listed = ada
        .profile
        .list_sessions(ListSessionsRequest {})
        .await
        .unwrap();
    assert_eq!(listed.into_inner().sessions.len(), 1);
    let log = admin
        .admin
        .list_audit(ListAuditRequest::default())
        .await
        .unwrap();
    let log: Vec<_> = log.into_inner().entries;
    let of = |action: &str| log.iter().filter(|e| e.action == action).count();
    assert_eq!((of("/login"), of("/logout")), (2, 1), "{log:?}");
}

#[tokio::test]
async fn what_a_page_refuses_is_in_the_log() {
    const STRANGERS: usize = 60;
    let running = Running::start_at(&FakeClock::new()).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut ada = Browser::new(&running);
    ada.log_in("ada", PASSWORD).await;
    let weak = [
        ("old_password", PASSWORD),
        ("new_password", "password"),
        ("repeated", "password"),
    ];
    let refused = ada.submit("/password", "/password", &weak).await;
    assert_eq!(refused.status, 422);
    let mut stranger = Browser::new(&running);
    let page = stranger.get("/login").await;
    assert!(page.body.contains("Forgotten? An administrator"));
    assert!(!page.body.contains("to go on to"), "{}", page.body);
    let token = page.field("csrf_token");
    let wrong = [
        ("csrf_token", &*token),
        ("account", "ada"),
        ("password", "?"),
    ];
    assert_eq!(stranger.post("/login", &wrong).await.status, 401);
    // Not looked at: it comes too early. More of them than strangers may write.
    for _ in 0..=STRANGERS {
        assert_eq!(stranger.post("/login", &wrong).await.status, 429);
    }
    let log = ListAuditRequest {
        limit: 1000,
        ..ListAuditRequest::default()
    };
    let log = admin.admin.list_audit(log).await.unwrap().into_inner();
    let count = |action: &str, outcome: &str| {
        let rows = log.entries.iter().filter(|row| row.action == action);
        let rows = rows.filter(|row| row.outcome == outcome);
        rows.inspect(|row| assert_eq!(row.resource, "ada", "{row:?}"))
            .count()
    };
    assert_eq!(count("/password", "INVALID_ARGUMENT"), 1);
    assert_eq!(count("/login", "UNAUTHENTICATED"), 1);
    assert_eq!(count("/login", "RESOURCE_EXHAUSTED"), STRANGERS);
}

#[tokio::test]
async fn whatever_ends_a_login_ends_its_pages() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut here = Browser::new(&running);
    here.log_in("ada", PASSWORD).await;
    let mut there = Browser::new(&running);
    there.log_in("ada", PASSWORD).await;
    // One's own page ends another login.
    let list = here.get("/sessions").await;
    let ids: Vec<&str> = list.body.split("name=\"id\" value=\"").skip(1).collect();
    let other = ids
        .iter()
        .position(|row| !row.is_empty() && !here_is(&list.body, row));
    let other = ids[other.unwrap()].split('"').next().unwrap().to_owned();
    let ended = here
        .submit("/sessions", "/sessions/end", &[("id", &other)])
        .await;
    assert_eq!(ended.location(), "/sessions");
    assert!(
        here.get("/sessions")
            .await
            .body
            .contains("The login has ended.")
    );
    assert_eq!(there.get("/").await.location(), "/login?next=%2F");
    assert!(
        !there.cookies.contains_key(COOKIE),
        "its cookie is of no use"
    );
    // An administrator ends all.
    let revoke = RevokeRequest {
        what: Some(What::Account("ada".to_owned())),
        ..RevokeRequest::default()
    };
    admin.accounts.revoke(revoke).await.unwrap();
    assert_eq!(
        here.get("/sessions").await.location(),
        "/login?next=%2Fsessions"
    );
    // Nobody else's can be ended.
    there.log_in("ada", PASSWORD).await;
    let id: String = running
        .database()
        .query_row(
            "SELECT id FROM session WHERE account = (SELECT id FROM account WHERE name = 'ada')",
            [],
            |r| r.get(0),
        )
        .unwrap();
    let mut chief = Browser::new(&running);
    chief.log_in("admin", &running.password).await;
    chief
        .submit("/sessions", "/sessions/end", &[("id", &id)])
        .await;
    assert_eq!(there.get("/").await.status, 200);
}

/// Whether the row of a login's form is the one of this browser.
fn here_is(page: &str, row: &str) -> bool {
    let at = page.find(row).unwrap();
    let begin = page[..at].rfind("<tr").unwrap();
    page[begin..at].contains("this one")
}

#[tokio::test]
async fn a_second_factor_is_a_second_step() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let secret = enrol(&mut ada).await;
    let mut browser = Browser::new(&running);
    let second = browser.log_in("ada", PASSWORD).await;
    assert_eq!(second.status, 200);
    assert!(!second.body.contains(PASSWORD) && !browser.cookies.contains_key(COOKIE));
    let (token, step) = (second.field("csrf_token"), second.field("step"));
    let send = |code: &str, step: &str| {
        vec![
            ("csrf_token".to_owned(), token.clone()),
            ("step".to_owned(), step.to_owned()),
            ("code".to_owned(), code.to_owned()),
        ]
    };
    let right = code(&secret, 0);
    let mut changed = step.clone().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (description, typed, step, status, text) in [
        (
            "another step",
            right.as_str(),
            changed.as_str(),
            200,
            "took too long",
        ),
        ("nothing", " ", &step, 200, "authenticator app"),
        ("a wrong code", "000000", &step, 401, "code is wrong"),
    ] {
        let fields = send(typed, step);
        let fields: Vec<_> = fields.iter().map(|(a, b)| (&**a, &**b)).collect();
        let answer = browser.post("/login", &fields).await;
        assert_eq!(answer.status, status, "{description}");
        assert!(answer.body.contains(text), "{description}: {}", answer.body);
        assert!(!browser.cookies.contains_key(COOKIE), "{description}");
    }
    let fields = send(&right, &step);
    let fields: Vec<_> = fields.iter().map(|(a, b)| (&**a, &**b)).collect();
    forgive(&running);
    let done = browser.post("/login?next=/sessions", &fields).await;
    assert_eq!(done.location(), "/sessions");
    assert!(browser.get("/").await.body.contains("password and code"));
    let mut other = Browser::new(&running);
    other.get("/login").await;
    let replayed = other.post("/login", &fields).await;
    assert_eq!(replayed.status, 403, "another browser's form");
}

#[tokio::test]
async fn an_expired_password_is_changed_first() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let request = ResetPasswordRequest {
        name: "ada".to_owned(),
    };
    let given = admin.accounts.reset_password(request).await.unwrap();
    let given = given.into_inner().password;
    let mut browser = Browser::new(&running);
    let path = "/login?next=%2Fsessions";
    let fields = [("account", "ada"), ("password", given.as_str())];
    let sent = browser.submit(path, path, &fields).await;
    assert_eq!(sent.location(), "/password?next=%2Fsessions");
    assert_eq!(browser.get("/").await.location(), "/password");
    let page = "/password?next=%2Fsessions";
    for (description, old, new, repeated, status) in [
        ("not repeated", given.as_str(), PASSWORD, "else", 422),
        ("a weak one", &given, "password1", "password1", 422),
        ("the old one wrong", "x", PASSWORD, PASSWORD, 403),
    ] {
        let fields = [
            ("old_password", old),
            ("new_password", new),
            ("repeated", repeated),
        ];
        let answer = browser.submit(page, page, &fields).await;
        assert_eq!(answer.status, status, "{description}: {}", answer.body);
        forgive(&running);
    }
    let fields = [
        ("old_password", &*given),
        ("new_password", PASSWORD),
        ("repeated", PASSWORD),
    ];
    let done = browser.submit(page, page, &fields).await;
    assert_eq!(done.location(), "/sessions");
    assert!(
        browser
            .get("/sessions")
            .await
            .body
            .contains("password is changed")
    );
    assert!(browser.get("/").await.body.contains("<dd>user</dd>"));
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_login_changes_the_cookie_and_needs_the_pages_own_token() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut attacker = Browser::new(&running);
    attacker.log_in("admin", &running.password).await;
    // Its session put into the victim's browser: the login makes another, and ends the attacker's.
    let mut victim = attacker.clone();
    let token = victim.get("/").await.field("csrf_token");
    let fields = [
        ("csrf_token", &*token),
        ("account", "ada"),
        ("password", PASSWORD),
    ];
    victim.post("/login", &fields).await;
    assert_ne!(victim.cookies[COOKIE], attacker.cookies[COOKIE]);
    assert!(victim.get("/").await.body.contains("<dd>ada</dd>"));
    assert_eq!(attacker.get("/").await.status, 303);
    let mut invented = Browser::new(&running);
    invented.cookies.insert(COOKIE.to_owned(), "A".repeat(43));
    invented.log_in("ada", PASSWORD).await;
    assert_ne!(invented.cookies[COOKIE], "A".repeat(43));
    // Neither a login nor a logout without the token of a page.
    let mut other = Browser::new(&running);
    let foreign = other.get("/login").await.field("csrf_token");
    let mut fresh = Browser::new(&running);
    fresh.get("/login").await;
    for token in ["", &foreign] {
        let fields = [
            ("csrf_token", token),
            ("account", "ada"),
            ("password", PASSWORD),
        ];
        assert_eq!(fresh.post("/login", &fields).await.status, 403);
        let out = victim.post("/logout", &[("csrf_token", token)]).await;
        assert_eq!(out.status, 403);
    }
    let token = victim.get("/").await.field("csrf_token");
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "cross-site"),
    ];
    let body = format!("csrf_token={token}");
    let out = victim.send("POST", "/logout", &headers, &body).await;
    assert_eq!(out.status, 403, "from another site");
    assert_eq!(victim.get("/").await.status, 200);
}
