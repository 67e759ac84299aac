//! The pages on which people manage how they log in.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mc_proto::mcias::v1::{BeginPasskeyRequest, ListAuditRequest};
use mc_testkit::wait_for_async;

use crate::{
    factors::code,
    pages::forgive,
    running::{Clients, PASSWORD, Running},
    web::{Answer, Browser},
};

const COOKIE: &str = "__Host-mcias";
pub(crate) const RIGHT: &[(&str, &str)] = &[("password", PASSWORD)];
const WRONG: &[(&str, &str)] = &[("password", "wrong")];

pub(crate) async fn ada() -> (Running, Clients, Browser) {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    (running, admin, browser)
}

/// The secret that a page shows.
fn secret(page: &Answer) -> String {
    let code = page
        .body
        .split("<code>")
        .nth(1)
        .unwrap_or_else(|| panic!("{}", page.body));
    code.split("</code>").next().unwrap().replace(' ', "")
}

/// Confirms with the code of the step before now; again, if a step ends in between: who failed waits a little.
pub(crate) async fn confirm(browser: &mut Browser, page: &Answer, path: &str) -> Answer {
    let (token, secret) = (page.field("csrf_token"), secret(page));
    wait_for_async("a code that is taken", async || {
        let code = code(&secret, -1);
        let fields = [("csrf_token", &*token), ("code", &code)];
        let answer = browser.post(path, &fields).await;
        (!matches!(answer.status, 422 | 429)).then_some(answer)
    })
    .await
    .unwrap()
}

/// How the pages' actions ended, as the audit log has it, oldest first.
async fn logged(admin: &mut Clients, action: &str) -> Vec<String> {
    let log = admin.admin.list_audit(ListAuditRequest::default()).await;
    let log = log.unwrap().into_inner().entries;
    let rows = log.into_iter().rev().filter(|row| row.action == action);
    rows.map(|row| {
        assert_eq!(row.resource, "ada", "{action}");
        row.outcome
    })
    .collect()
}

#[tokio::test]
async fn an_authenticator_app_is_set_up_and_removed() {
    let (running, mut admin, mut browser) = ada().await;
    let mut elsewhere = Browser::new(&running);
    elsewhere.log_in("ada", PASSWORD).await;
    let page = "/factors/totp";
    assert!(
        browser
            .get("/factors")
            .await
            .body
            .contains(r#"href="/factors/totp">Set one up"#)
    );
    assert_eq!(
        browser.post(page, RIGHT).await.status,
        403,
        "without a token"
    );
    let wrong = browser.submit(page, page, WRONG).await;
    assert_eq!(wrong.status, 403);
    assert!(wrong.body.contains("The password is wrong.") && !wrong.body.contains("otpauth"));
    forgive(&running);
    let shown = browser.submit(page, page, RIGHT).await;
    let picture = shown
        .body
        .split("data:image/svg+xml;base64,")
        .nth(1)
        .unwrap();
    let picture = BASE64.decode(picture.split('"').next().unwrap()).unwrap();
    assert!(String::from_utf8(picture).unwrap().contains("<svg"));
    let secret = secret(&shown);
    assert!(shown.body.contains("href=\"otpauth://totp/") && shown.body.contains(&secret));

    let token = shown.field("csrf_token");
    let wrong = [("csrf_token", &*token), ("code", &*code(&secret, 100))];
    let refused = browser.post("/factors/totp/confirm", &wrong).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("The code cannot be accepted: ")
            && refused.body.contains("are both clocks right?<")
    );
    assert!(
        !refused.body.contains("otpauth"),
        "the secret is shown for the password alone"
    );
    forgive(&running);
    // The page that it was shown on has it still: the app has no other.
    let proof = shown.field("shown");
    assert!(!proof.contains(&secret));
    for (description, proof, again) in [("the page's", &*proof, true), ("a guess", "00", false)] {
        let fields = [wrong[0], wrong[1], ("shown", proof)];
        let refused = browser.post("/factors/totp/confirm", &fields).await;
        assert_eq!(refused.status, 422, "{description}");
        assert_eq!(refused.body.contains("otpauth"), again, "{description}");
        if again {
            assert_eq!(self::secret(&refused), secret, "{description}");
        }
        forgive(&running);
    }
    let mut copy = browser.clone();
    let done = confirm(&mut browser, &shown, "/factors/totp/confirm").await;
    assert_eq!(done.location(), "/factors");
    assert_ne!(browser.cookies[COOKIE], copy.cookies[COOKIE]);
    assert_eq!(
        copy.get("/").await.status,
        303,
        "a copy of the cookie has shown no code"
    );
    assert_eq!(
        elsewhere.get("/").await.status,
        303,
        "nor has another login"
    );
    let all = browser.get("/factors").await.body;
    assert!(all.contains("The authenticator app is set up") && all.contains(">0 left"));
    assert!(browser.get("/").await.body.contains("password and code"));

    let remove = "/factors/totp/remove";
    let wrong = browser.submit(remove, remove, WRONG).await;
    assert_eq!(wrong.status, 403);
    forgive(&running);
    let removed = browser.submit(remove, remove, RIGHT).await;
    assert_eq!(removed.location(), "/factors");
    assert!(browser.get("/factors").await.body.contains("Set one up"));
    let twice = browser.submit(remove, remove, RIGHT).await;
    assert_eq!(twice.status, 409);
    for (action, outcomes) in [
        (page, &["UNAUTHENTICATED", "OK"][..]),
        ("/factors/totp/confirm", &["INVALID_ARGUMENT", "OK"]),
        (remove, &["UNAUTHENTICATED", "OK", "FAILED_PRECONDITION"]),
    ] {
        let logged = logged(&mut admin, action).await;
        // One more, if a step ended while it was confirmed.
        let same = logged.iter().zip(outcomes).all(|(a, b)| a == b) || action.ends_with("confirm");
        assert!(
            same && logged.len() >= outcomes.len(),
            "{action}: {logged:?}"
        );
    }
}

#[tokio::test]
async fn recovery_codes_are_shown_once() {
    let (running, mut admin, mut browser) = ada().await;
    let page = "/factors/recovery-codes";
    let early = browser.submit(page, page, RIGHT).await;
    assert_eq!(early.status, 409);
    assert!(
        early
            .body
            .contains("Recovery codes replace a second factor")
    );
    let set_up = browser
        .submit("/factors/totp", "/factors/totp", RIGHT)
        .await;
    confirm(&mut browser, &set_up, "/factors/totp/confirm").await;
    assert_eq!(browser.submit(page, page, WRONG).await.status, 403);
    forgive(&running);
    let made = browser.submit(page, page, RIGHT).await;
    assert_eq!(
        (made.status, made.header("cache-control")),
        (200, "no-store")
    );
    let codes = made.body.split("<pre").nth(1).unwrap();
    let codes = codes
        .split_once('>')
        .unwrap()
        .1
        .split("</pre>")
        .next()
        .unwrap();
    let codes: Vec<&str> = codes.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(codes.len(), 10);
    let all = browser.get("/factors").await.body;
    assert!(all.contains(">10 left") && !all.contains(codes[0]));
    let mut somebody = running.clients(None).await;
    somebody.log_in("ada", PASSWORD, codes[3]).await.unwrap();
    assert!(browser.get("/factors").await.body.contains(">9 left"));
    assert_eq!(
        logged(&mut admin, page).await,
        ["FAILED_PRECONDITION", "UNAUTHENTICATED", "OK"]
    );
}

/// As from before there was one: whoever knows the password alone.
#[tokio::test]
async fn a_login_without_the_second_factor_changes_none() {
    let (running, mut admin, mut browser) = ada().await;
    let set_up = browser
        .submit("/factors/totp", "/factors/totp", RIGHT)
        .await;
    confirm(&mut browser, &set_up, "/factors/totp/confirm").await;
    let sql = "UPDATE session SET methods = '[\"pwd\"]'";
    running.database().execute(sql, []).unwrap();
    let all = browser.get("/factors").await.body;
    assert!(all.contains("This login has shown no second factor") && all.contains("again=1"));
    for path in ["/factors/totp/remove", "/factors/recovery-codes"] {
        let refused = browser.submit(path, path, RIGHT).await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.body.contains("log in with it"), "{path}");
        assert_eq!(logged(&mut admin, path).await, ["PERMISSION_DENIED"]);
    }
    let add = [("password", PASSWORD), ("name", "desk")];
    let refused = browser
        .submit("/factors/passkeys", "/factors/passkeys", &add)
        .await;
    assert_eq!(refused.status, 403);
    assert!(!refused.body.contains("challenge"));
}

#[tokio::test]
async fn nobody_touches_anothers_passkey() {
    let (running, mut admin, mut browser) = ada().await;
    admin.person("eve", "user").await;
    let sql = "INSERT INTO passkey (id, account, name, credential_id, credential, created_s)
        SELECT 'key-of-' || name, id, 'of ' || name, CAST(name AS BLOB), '{}', 0 FROM account WHERE name IN ('ada', 'eve')";
    running.database().execute(sql, []).unwrap();
    // Hers is there, by a login that has shown it.
    let sql = "UPDATE session SET methods = '[\"pop\", \"user\", \"mfa\"]'";
    running.database().execute(sql, []).unwrap();
    let all = browser.get("/factors").await.body;
    assert!(all.contains("of ada") && !all.contains("of eve"));
    let page = "/factors/passkeys/remove";
    let own = format!("{page}?id=key-of-ada");
    assert_eq!(
        browser.get(&format!("{page}?id=key-of-eve")).await.status,
        404
    );
    let other = [("id", "key-of-eve"), ("password", PASSWORD)];
    assert_eq!(browser.submit(&own, page, &other).await.status, 404);
    let sql = "SELECT count(*) FROM passkey";
    let count = || {
        running
            .database()
            .query_row(sql, [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(count().unwrap(), 2);
    let wrong = [("id", "key-of-ada"), ("password", "wrong")];
    assert_eq!(browser.submit(&own, page, &wrong).await.status, 403);
    forgive(&running);
    assert_eq!(count().unwrap(), 2);
    let right = [("id", "key-of-ada"), ("password", PASSWORD)];
    assert_eq!(
        browser.submit(&own, page, &right).await.location(),
        "/factors"
    );
    assert_eq!(count().unwrap(), 1);
    assert_eq!(logged(&mut admin, page).await, ["UNAUTHENTICATED", "OK"]);
}

#[tokio::test]
async fn a_passkeys_page_is_for_the_password_alone() {
    let (running, mut admin, mut browser) = ada().await;
    let (page, finish) = ("/factors/passkeys", "/factors/passkeys/finish");
    for (description, name, password, status) in [
        ("no name", " ", PASSWORD, 422),
        ("a long name", &*"x".repeat(65), PASSWORD, 422),
        ("another password", "desk", "wrong", 403),
    ] {
        let fields = [("name", name), ("password", password)];
        let refused = browser.submit(page, page, &fields).await;
        assert_eq!(refused.status, status, "{description}");
        assert!(!refused.body.contains("challenge"), "{description}");
        forgive(&running);
    }
    let fields = [("name", "<desk>"), ("password", PASSWORD)];
    let begun = browser.submit(page, page, &fields).await;
    assert!(begun.body.contains("data-options=") && begun.body.contains("&#60;desk&#62;"));
    // Of another account's ceremony, and of an answer that is none.
    admin.person("eve", "user").await;
    let token = running.log_in("eve", PASSWORD).await.unwrap().token;
    let mut eve = running.clients(Some(&token)).await;
    let password = PASSWORD.to_owned();
    let hers = eve
        .profile
        .begin_passkey(BeginPasskeyRequest { password })
        .await;
    let hers = hers.unwrap().into_inner().ceremony;
    let own = begun.field("ceremony");
    for (description, ceremony, credential, text) in [
        ("another account's", &*hers, "{}", "another account"),
        ("nobody's", "AAAA", "{}", "none of this service"),
        (
            "without a script",
            &own,
            "",
            "no answer of an authenticator",
        ),
    ] {
        let token = begun.field("csrf_token");
        let fields = [
            ("csrf_token", &*token),
            ("ceremony", ceremony),
            ("credential", credential),
            ("name", "desk"),
        ];
        let refused = browser.post(finish, &fields).await;
        assert_eq!(refused.status, 422, "{description}");
        assert!(
            refused.body.contains(text),
            "{description}: {}",
            refused.body
        );
    }
    assert_eq!(logged(&mut admin, finish).await, ["INVALID_ARGUMENT"; 3]);
    assert_eq!(
        logged(&mut admin, page).await,
        [
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
            "UNAUTHENTICATED",
            "OK"
        ]
    );
    let mut stranger = Browser::new(&running);
    let fields = [("ceremony", "AAAA"), ("credential", "{}")];
    assert_eq!(
        stranger.post("/login/passkey", &fields).await.status,
        403,
        "without a token"
    );
    let path = "/login/passkey?next=%2Fsessions";
    let refused = stranger
        .submit("/login?next=%2Fsessions", path, &fields)
        .await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("begin anew"));
    assert!(
        refused.body.contains("/login/passkey?next=/sessions"),
        "and once more"
    );
    assert!(!stranger.cookies.contains_key(COOKIE));
}
