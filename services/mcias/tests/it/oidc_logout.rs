//! Logging out by OpenID Connect.

use std::time::Duration;

use mc_testkit::clock::FakeClock;

use crate::{
    oidc_client::{AFTERWARDS, begun, error, register, text},
    running::{PASSWORD, Running},
    web::{Browser, encoded},
};

#[tokio::test]
async fn a_logout_ends_what_the_login_gave() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let app = register(&running, &mut admin, "app", true).await;
    let of_wiki = wiki.tokens(&mut browser).await;
    let of_app = app.tokens(&mut browser).await;
    let hint = text(&of_wiki, "id_token");
    let mut copy = browser.clone();
    let fields = [
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", AFTERWARDS),
        ("state", "x y"),
    ];
    // Posted, it goes on as a page.
    let posted = browser.http.post("/oauth/logout", &[], &fields).await;
    let out = browser.get(posted.location()).await;
    assert_eq!(out.location(), format!("{AFTERWARDS}?state=x+y"));
    assert_eq!(copy.get("/").await.status, 303);
    for tokens in [&of_wiki, &of_app] {
        assert!(!wiki.knows(text(tokens, "access_token")).await);
    }
    assert_eq!(
        error(&app.refresh(text(&of_app, "refresh_token")).await),
        "invalid_grant"
    );
    // Nobody is logged in: it goes on at once.
    let path = format!("/oauth/logout?{}", encoded(&fields));
    assert_eq!(
        browser.get(&path).await.location(),
        format!("{AFTERWARDS}?state=x+y")
    );
    // Without proof of whom it is about the person is asked.
    browser.log_in("ada", PASSWORD).await;
    let asked = [
        ("client_id", "app"),
        ("post_logout_redirect_uri", AFTERWARDS),
    ];
    let path = format!("/oauth/logout?{}", encoded(&asked));
    let question = browser.get(&path).await;
    assert_eq!(question.status, 200);
    assert!(question.body.contains("app") && browser.get("/").await.status == 200);
    let forged = browser.post("/oauth/logout/confirm", &asked).await;
    assert_eq!(forged.status, 403);
    let done = browser.submit(&path, "/oauth/logout/confirm", &asked).await;
    assert_eq!(done.location(), AFTERWARDS);
    assert_eq!(browser.get("/").await.status, 303);
}

/// A login here lasts for an hour after the last page; what it gave goes on for as long as clients use it.
#[tokio::test]
async fn a_logout_ends_what_a_login_gave_that_is_over() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let app = register(&running, &mut admin, "app", true).await;
    let (mut browser, mut other) = (Browser::new(&running), Browser::new(&running));
    browser.log_in("ada", PASSWORD).await;
    other.log_in("ada", PASSWORD).await;
    let of_wiki = wiki.tokens(&mut browser).await;
    let of_app = app.tokens(&mut browser).await;
    let elsewhere = app.tokens(&mut other).await;
    clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(browser.get("/").await.status, 303, "the login here is over");
    let of_app = app.refresh(text(&of_app, "refresh_token")).await;
    assert_eq!(of_app.status, 200, "what it gave is not: {}", of_app.body);
    let of_app = of_app.json();
    let path = format!(
        "/oauth/logout?{}",
        encoded(&[("id_token_hint", text(&of_wiki, "id_token"))])
    );
    let out = browser.get(&path).await;
    assert_eq!(out.location(), "/");
    assert!(!app.knows(text(&of_app, "access_token")).await);
    for (client, tokens) in [(&wiki, &of_wiki), (&app, &of_app)] {
        let refused = client.refresh(text(tokens, "refresh_token")).await;
        assert_eq!(error(&refused), "invalid_grant");
    }
    let other = app.refresh(text(&elsewhere, "refresh_token")).await;
    assert_eq!(other.status, 200, "of another login: {}", other.body);
}

/// Two machines in one network whose browsers call themselves alike are one device: who logs in at one takes over what the other's login
/// gave, once that is over. He can end it, and is given nothing by it; of others he takes nothing.
#[tokio::test]
async fn machines_that_look_alike_are_one_device_of_their_owner() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("bob", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let mut first = Browser::new(&running);
    let mut others = Browser::new(&running);
    first.log_in("ada", PASSWORD).await;
    others.log_in("bob", PASSWORD).await;
    let given = wiki.tokens(&mut first).await;
    let bobs = wiki.tokens(&mut others).await;
    // Beside a login that goes on nothing is taken over.
    let mut second = Browser::new(&running);
    second.log_in("ada", PASSWORD).await;
    second.submit("/", "/logout", &[]).await;
    let given = wiki.refresh(text(&given, "refresh_token")).await;
    assert_eq!(given.status, 200, "{}", given.body);
    clock.advance(Duration::from_secs(2 * 3600));
    second.log_in("ada", PASSWORD).await;
    let given = wiki.refresh(text(&given.json(), "refresh_token")).await;
    assert_eq!(given.status, 200, "it goes on: {}", given.body);
    second.submit("/", "/logout", &[]).await;
    let given = wiki.refresh(text(&given.json(), "refresh_token")).await;
    assert_eq!(error(&given), "invalid_grant", "ended with the device");
    let bobs = wiki.refresh(text(&bobs, "refresh_token")).await;
    assert_eq!(bobs.status, 200, "somebody else's: {}", bobs.body);
}

/// The login here of somebody who works in a client is over after an hour; who logs in again at the same device goes on with what it has.
#[tokio::test]
async fn the_next_login_of_a_device_ends_what_the_one_before_gave() {
    type Ends =
        for<'b> fn(&'b mut Browser, &'b str) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'b>>;
    let by_page: Ends = |browser, _| {
        Box::pin(async move {
            let out = browser.submit("/", "/logout", &[]).await;
            assert_eq!(out.status, 303, "{}", out.body);
        })
    };
    let by_client: Ends = |browser, hint| {
        Box::pin(async move {
            let path = format!("/oauth/logout?{}", encoded(&[("id_token_hint", hint)]));
            assert_eq!(browser.get(&path).await.location(), "/");
        })
    };
    for (description, end) in [("by its page", by_page), ("by a client", by_client)] {
        let clock = FakeClock::new();
        let running = Running::start_at(&clock).await;
        let mut admin = running.admin().await;
        admin.person("ada", "user").await;
        let wiki = register(&running, &mut admin, "wiki", false).await;
        let app = register(&running, &mut admin, "app", true).await;
        let (mut browser, mut phone) = (Browser::new(&running), Browser::new(&running));
        phone.agent = "Phone/1";
        for browser in [&mut browser, &mut phone] {
            browser.log_in("ada", PASSWORD).await;
        }
        let before = wiki.tokens(&mut browser).await;
        let elsewhere = wiki.tokens(&mut phone).await;
        clock.advance(Duration::from_secs(2 * 3600));
        let before = wiki.refresh(text(&before, "refresh_token")).await.json();
        let elsewhere = wiki.refresh(text(&elsewhere, "refresh_token")).await.json();
        assert_eq!(browser.get("/").await.status, 303, "the login is over");
        browser.log_in("ada", PASSWORD).await;
        let now = app.tokens(&mut browser).await;
        end(&mut browser, text(&now, "id_token")).await;
        for (client, tokens) in [(&app, &now), (&wiki, &before)] {
            let refused = client.refresh(text(tokens, "refresh_token")).await;
            assert_eq!(error(&refused), "invalid_grant", "{description}");
        }
        let phone = wiki.refresh(text(&elsewhere, "refresh_token")).await;
        assert_eq!(
            phone.status, 200,
            "{description}: the other device: {}",
            phone.body
        );
    }
}
