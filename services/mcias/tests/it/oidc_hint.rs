//! `id_token_hint`: whom a client means, at the authorization endpoint and at a logout.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use crate::{
    oidc_client::{AFTERWARDS, REDIRECT, begun, register, request, text},
    running::{ISSUER, PASSWORD},
    web::{Answer, Browser, encoded},
};

/// A link of another site.
const FOREIGN: [(&str, &str); 2] = [
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-mode", "navigate"),
];

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(payload).unwrap()).unwrap()
}

/// Where a page that loads itself again goes.
fn again(answer: &Answer) -> String {
    let rest = answer.body.split(r#"content="0; url="#).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{}: {}", answer.status, answer.body));
    rest.split('"').next().unwrap().replace("&#38;", "&")
}

fn logout(fields: &[(&str, &str)]) -> String {
    format!("/oauth/logout?{}", encoded(fields))
}

#[tokio::test]
async fn a_client_gets_who_it_means_or_nobody() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    admin.person("bob", "user").await;
    let lab = register(&running, &mut admin, "lab", false).await;
    let mut other = Browser::new(&running);
    other.log_in("bob", PASSWORD).await;
    let own = wiki.tokens(&mut browser).await;
    let bobs = wiki.tokens(&mut other).await;
    let of_lab = lab.tokens(&mut browser).await;
    let (own, bobs) = (text(&own, "id_token"), text(&bobs, "id_token"));
    let sub = text(&claims(own), "sub").to_owned();
    let signed = |change: Value| {
        let mut claims = json!({ "iss": ISSUER, "sub": sub, "aud": "wiki", "sid": "gone" });
        let all = claims.as_object_mut().unwrap();
        all.extend(change.as_object().unwrap().clone());
        running.signer().sign_as("JWT", &claims).unwrap()
    };
    let silent = |hint: &str| request("wiki", &[("prompt", "none"), ("id_token_hint", hint)]);
    let old = signed(json!({ "iat": 1, "exp": 2 }));
    let long = signed(json!({ "name": "x".repeat(4000) }));
    for (description, hint, error) in [
        ("the one who is logged in", own, None),
        ("the one who is logged in, long ago", &old, None),
        ("a long one", &long, None),
        ("somebody else", bobs, Some("login_required")),
        (
            "of another client",
            text(&of_lab, "id_token"),
            Some("invalid_request"),
        ),
        (
            "of another issuer",
            &signed(json!({ "iss": "https://evil.example" })),
            Some("invalid_request"),
        ),
        ("nonsense", "x.y.z", Some("invalid_request")),
    ] {
        let answer = browser.get(&silent(hint)).await;
        assert!(answer.location().starts_with(REDIRECT), "{description}");
        let got = answer.parameter("error");
        assert_eq!(got.as_deref(), error, "{description}");
        let code = answer.parameter("code").is_some();
        assert_eq!(code, error.is_none(), "{description}");
    }
    let mut nobody = Browser::new(&running);
    let answer = nobody.get(&silent(own)).await;
    assert_eq!(answer.parameter("error").unwrap(), "login_required");
    let longer = signed(json!({ "name": "x".repeat(8000) }));
    assert_eq!(browser.get(&silent(&longer)).await.status, 400);

    // Where somebody may be asked, he is: for that person, and once.
    let wanted = request("wiki", &[("id_token_hint", bobs)]);
    for (name, prompt) in [("ada", ""), ("ada", "login"), ("bob", ""), ("bob", "login")] {
        let mut browser = Browser::new(&running);
        browser.log_in("ada", PASSWORD).await;
        let path = request("wiki", &[("id_token_hint", bobs), ("prompt", prompt)]);
        let login = browser.get(&path).await.location().to_owned();
        assert!(
            login.starts_with("/login?next=") && login.ends_with("&again=1"),
            "{login}"
        );
        let fields = [("account", name), ("password", PASSWORD)];
        let sent = browser.submit(&login, &login, &fields).await;
        let next = sent.location().to_owned();
        assert!(!next.contains("id_token_hint"), "{next}");
        let answer = browser.get(&next).await;
        let error = answer.parameter("error");
        if name == "ada" {
            assert_eq!(error.as_deref(), Some("login_required"), "{prompt}");
            continue;
        }
        let tokens = wiki.exchange(&answer.parameter("code").unwrap(), &[]).await;
        let tokens = tokens.json();
        assert_eq!(
            claims(text(&tokens, "id_token"))["sub"],
            claims(bobs)["sub"]
        );
    }
    let login = nobody.get(&wanted).await.location().to_owned();
    assert!(login.starts_with("/login?next=") && !login.contains("id_token_hint"));
}

#[tokio::test]
async fn a_logout_is_of_the_login_that_the_token_is_of() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    admin.person("bob", "user").await;
    let first = wiki.tokens(&mut browser).await;
    let second = wiki.tokens(&mut browser).await;
    let (hint, access) = (text(&first, "id_token"), text(&first, "access_token"));

    // In somebody else's browser the client's login ends, and he is asked about his own.
    let mut other = Browser::new(&running);
    other.log_in("bob", PASSWORD).await;
    let path = logout(&[("id_token_hint", hint)]);
    assert!(other.get(&path).await.body.contains("Log out?"));
    assert!(!wiki.knows(access).await);
    assert_eq!(other.get("/").await.status, 200);
    // So does what else was given by the login here, which goes on.
    assert!(!wiki.knows(text(&second, "access_token")).await);
    assert_eq!(browser.get("/").await.status, 200);
    let count = || -> i64 {
        let sql = "SELECT count(*) FROM audit WHERE action = '/oauth/logout'";
        let db = running.database();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = count();
    let mut nobody = Browser::new(&running);
    assert_eq!(nobody.get(&path).await.location(), "/");
    assert_eq!(count(), before, "nor does it fill the log");

    // Whose client's login is over is logged out all the same: clients revoke their tokens before they ask.
    let path = logout(&[
        ("id_token_hint", text(&second, "id_token")),
        ("client_id", "wiki"),
    ]);
    assert_eq!(browser.get(&path).await.location(), "/");
    assert_eq!(browser.get("/").await.status, 303);
}

/// Longer than what goes through a login page, and by a link of the client's, which brings no cookies.
#[tokio::test]
async fn a_long_request_logs_out() {
    let (_running, _admin, wiki, mut browser) = begun().await;
    for (description, length, posted) in [
        ("by GET", 5000, false),
        ("by POST", 5000, true),
        ("by POST, nearly too long", 12_000, true),
    ] {
        if browser.get("/").await.status != 200 {
            browser.log_in("ada", PASSWORD).await;
        }
        let tokens = wiki.tokens(&mut browser).await;
        let state = "s".repeat(length);
        let fields = [
            ("id_token_hint", text(&tokens, "id_token")),
            ("post_logout_redirect_uri", AFTERWARDS),
            ("state", &state),
        ];
        let path = if posted {
            let sent = browser.http.post("/oauth/logout", &FOREIGN, &fields).await;
            sent.location().to_owned()
        } else {
            logout(&fields)
        };
        // As a browser would, which keeps strict cookies to itself.
        let mut without = Browser {
            cookies: std::collections::BTreeMap::new(),
            ..browser.clone()
        };
        let held_back = without.send("GET", &path, &FOREIGN, "").await;
        let out = browser.get(&again(&held_back)).await;
        let wanted = format!("{AFTERWARDS}?state={state}");
        assert_eq!(out.location(), wanted, "{description}");
        assert_eq!(browser.get("/").await.status, 303, "{description}");
        let access = text(&tokens, "access_token");
        assert!(!wiki.knows(access).await, "{description}");
    }
    let long = "s".repeat(20_000);
    let path = logout(&[("state", &long)]);
    assert_eq!(browser.get(&path).await.status, 400);
}
