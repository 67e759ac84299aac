//! What time does to what is between two requests: codes, ceremonies, steps of a login, and pages' sessions end with it.

use std::time::Duration;

use mc_proto::mcias::v1::{BeginPasskeyLoginRequest, FinishPasskeyLoginRequest};
use mc_testkit::clock::FakeClock;

use crate::{
    clock::{DAY, HOUR},
    factors::{code_at, enrol},
    oidc_client::{error, register},
    running::{PASSWORD, Running},
    web::Browser,
};

#[tokio::test]
async fn codes_and_ceremonies_are_of_use_for_a_while() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    let (early, late) = (wiki.code(&mut browser).await, wiki.code(&mut browser).await);
    clock.advance(Duration::from_secs(59));
    assert_eq!(wiki.exchange(&early, &[]).await.status, 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(error(&wiki.exchange(&late, &[]).await), "invalid_grant");

    let mut somebody = running.clients(None).await;
    let second = Duration::from_secs(1);
    for (description, passes, set_back, said) in [
        ("at once", 0, 0, "credential:"),
        ("just", 299, 0, "credential:"),
        ("after five minutes", 300, 0, "ceremony:"),
        (
            "by a clock that was put right by a little",
            0,
            10,
            "credential:",
        ),
        ("by one that was ahead", 0, 11, "ceremony:"),
    ] {
        let begin = BeginPasskeyLoginRequest::default();
        let begun = somebody.auth.begin_passkey_login(begin).await.unwrap();
        clock.advance(second * passes);
        clock.set_back(second * set_back);
        let request = FinishPasskeyLoginRequest {
            ceremony: begun.into_inner().ceremony,
            credential: "{}".to_owned(),
            ..FinishPasskeyLoginRequest::default()
        };
        let refused = somebody.auth.finish_passkey_login(request).await;
        let refused = refused.unwrap_err();
        // One that is good goes on to what the authenticator said.
        let got = refused.message();
        assert!(got.starts_with(said), "{description}: {got}");
        clock.set_ahead(second * set_back);
    }
}

#[tokio::test]
async fn a_page_session_ends() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    running.admin().await.person("ada", "user").await;
    for (description, step, hours) in [
        ("idle", Duration::from_secs(3601), 1),
        ("busy", HOUR / 2, 12),
    ] {
        let mut browser = Browser::new(&running);
        browser.log_in("ada", PASSWORD).await;
        let begun = clock.now();
        while browser.get("/").await.status == 200 {
            clock.advance(step);
            assert!(clock.now() < begun + 2 * DAY, "{description}");
        }
        let ended = clock.now().duration_since(begun).unwrap().as_secs() / 3600;
        assert_eq!(ended, hours, "{description}");
    }
}

/// A login lasts for 12 hours on pages, a code for a minute, a step for five; not for those of a clock that is right again.
#[tokio::test]
async fn what_pages_gave_while_the_clock_was_ahead_is_over_when_it_is_right() {
    const AHEAD: Duration = Duration::from_secs(365 * 24 * 3600);
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    for (description, ahead) in [("a year", AHEAD), ("an hour", HOUR)] {
        clock.set_ahead(ahead);
        let mut browser = Browser::new(&running);
        browser.log_in("ada", PASSWORD).await;
        let mut copy = browser.clone();
        let code = wiki.code(&mut browser).await;
        assert_eq!(browser.get("/").await.status, 200, "{description}");
        clock.set_back(ahead);
        let away = browser.get("/").await;
        assert_eq!(away.location(), "/login?next=%2F", "{description}");
        let refused = wiki.exchange(&code, &[]).await;
        assert_eq!(error(&refused), "invalid_grant", "{description}");
        // Whoever logs in next, it does not come back with that time.
        Browser::new(&running).log_in("ada", PASSWORD).await;
        clock.advance(ahead);
        assert_eq!(copy.get("/").await.status, 303, "{description}");
    }
    // A login whose page session is of now: the login alone is of the future.
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    let sql = "UPDATE session SET used_s = used_s + ?1, created_s = created_s + ?1, expires_s = expires_s + ?1";
    running.database().execute(sql, [365 * 24 * 3600]).unwrap();
    assert_eq!(browser.get("/").await.location(), "/login?next=%2F");
}

/// The first step of a login is in the form of the second.
#[tokio::test]
async fn a_step_of_a_login_is_of_use_for_five_minutes_of_the_right_clock() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    running.admin().await.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let secret = enrol(&mut running.clients(Some(&token)).await).await;
    for (description, ahead, passed, wanted) in [
        ("at once", 0, 60, 303),
        ("after five minutes", 0, 300, 200),
        ("of an hour ahead", 3600, 60, 200),
        ("of what is put right by a little", 5, 0, 303),
        ("and by a little more", 30, 0, 200),
    ] {
        let mut browser = Browser::new(&running);
        clock.set_ahead(Duration::from_secs(ahead));
        let form = browser.log_in("ada", PASSWORD).await;
        let (token, step) = (form.field("csrf_token"), form.field("step"));
        clock.set_back(Duration::from_secs(ahead));
        clock.advance(Duration::from_secs(passed));
        let code = code_at(&secret, clock.now());
        let fields = [("csrf_token", &*token), ("step", &*step), ("code", &*code)];
        let answer = browser.post("/login", &fields).await;
        assert_eq!(answer.status, wanted, "{description}: {}", answer.body);
        if wanted == 200 {
            assert!(answer.body.contains("took too long"), "{description}");
        }
    }
}
