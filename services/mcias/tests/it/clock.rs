//! What time does: logins and keys end with it, and a clock that somebody sets ahead or back destroys nothing.

use std::time::{Duration, SystemTime};

use mc_proto::mcias::v1::{
    GetKeysRequest, ListTokensRequest, RenewRequest, RotateKeyRequest, VerifyAuditRequest,
    WatchRevocationsRequest, auth_client::AuthClient, revocation::What, revocation_event::Event,
    revoke_request::What as Revoked,
};
use mc_testkit::clock::FakeClock;
use tonic::Code;

use crate::{
    factors::{code_at, enrol},
    issuing::{is_known, issue_for, revoke},
    oidc_client::{error, register, text},
    running::{Bearer, PASSWORD, Running},
    web::Browser,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

async fn keys(running: &Running) -> usize {
    let mut clients = running.clients(None).await;
    let keys = clients.auth.get_keys(GetKeysRequest {}).await.unwrap();
    keys.into_inner().keys.len()
}

/// The tokens that a service which begins to watch is told to refuse.
async fn told(running: &Running, watcher: &str) -> Vec<String> {
    let mut clients = running.clients(Some(watcher)).await;
    let stream = clients.auth.watch_revocations(WatchRevocationsRequest {});
    let mut stream = stream.await.unwrap().into_inner();
    let mut tokens = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        match message.event.unwrap() {
            Event::Revoked(revocation) => {
                if let Some(What::Token(id)) = revocation.what {
                    tokens.push(id);
                }
            }
            Event::Synced(_) => break,
            Event::Heartbeat(_) => {}
        }
    }
    tokens
}

/// A client of OpenID Connect may renew a login whose token has expired, so that a month is a few steps.
#[tokio::test]
async fn a_login_is_renewed_for_thirty_days_and_no_longer() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    let mut tokens = wiki.tokens(&mut browser).await;
    let mut days = 0;
    loop {
        clock.advance(DAY - Duration::from_secs(60));
        let answer = wiki.refresh(text(&tokens, "refresh_token")).await;
        if answer.status != 200 {
            assert_eq!(error(&answer), "invalid_grant");
            break;
        }
        tokens = answer.json();
        days += 1;
    }
    assert_eq!(days, 30);
    // The last token was no longer than the login.
    assert!(!wiki.knows(text(&tokens, "access_token")).await);
    let left = tokens["expires_in"].as_u64().unwrap();
    assert!(left <= 30 * 60, "{left} s");
    // What is over is forgotten: however often it was renewed, one row.
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let db = running.database();
        db.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("revocation"), 1);
    clock.advance(2 * HOUR);
    running.handle.forget().await.unwrap();
    assert_eq!((count("revocation"), count("session")), (0, 0));
}

/// A login by the API, whose end is near.
#[tokio::test]
async fn no_token_outlives_its_login() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    running.admin().await.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let db = running.database();
    db.execute("UPDATE session SET ends_s = created_s + 5400", [])
        .unwrap();
    clock.advance(HOUR);
    let channel = running.channel_from("127.0.0.1").await;
    let mut auth = AuthClient::with_interceptor(channel.clone(), Bearer::of(&token));
    let renewed = auth.renew(RenewRequest {}).await.unwrap().into_inner();
    let expires = SystemTime::try_from(renewed.expires.unwrap()).unwrap();
    let left = expires.duration_since(clock.now()).unwrap();
    assert!(left <= HOUR / 2, "{left:?}");
    clock.advance(HOUR / 2);
    let mut auth = AuthClient::with_interceptor(channel, Bearer::of(&renewed.token));
    let over = auth.renew(RenewRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "{over:?}");
}

#[tokio::test]
async fn a_key_is_forgotten_with_its_last_token() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let (robot, _) = issue_for(&mut admin, "robot", 90).await;
    let rotate = RotateKeyRequest::default();
    admin.admin.rotate_key(rotate).await.unwrap();
    for (description, passed, wanted) in [
        ("the logins' tokens are valid", HOUR / 2, 2),
        ("the robot's is", 2 * HOUR, 2),
        (
            "the robot's is, a day before its end",
            89 * DAY - 3 * HOUR,
            2,
        ),
        ("no token of it is", DAY + HOUR, 1),
    ] {
        clock.advance(passed);
        running.handle.forget().await.unwrap();
        assert_eq!(keys(&running).await, wanted, "{description}");
        assert_eq!(
            is_known(&running, &robot).await,
            wanted == 2,
            "{description}"
        );
    }
}

/// What a clock forgets that is two years ahead for an hour was to be forgotten soon anyway.
#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_destroys_nothing() {
    let clock = FakeClock::new();
    let mut running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    for name in ["robot", "watcher"] {
        admin.system(name).await;
    }
    admin.person("ada", "user").await;
    let (stolen, stolen_id) = issue_for(&mut admin, "robot", 365).await;
    let (robot, _) = issue_for(&mut admin, "robot", 365).await;
    let (watcher, _) = issue_for(&mut admin, "watcher", 365).await;
    revoke(&mut admin, Revoked::Token(stolen_id.clone())).await;
    admin
        .admin
        .rotate_key(RotateKeyRequest::default())
        .await
        .unwrap();
    running.handle.forget().await.unwrap();

    clock.set_ahead(730 * DAY);
    assert!(
        !is_known(&running, &robot).await,
        "by that clock it is over"
    );
    running.handle.forget().await.unwrap();
    // A start in between is no way around it, nor is an hour of waiting.
    running.restart().await;
    clock.advance(HOUR);
    running.handle.forget().await.unwrap();
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
    clock.set_back(730 * DAY);
    running.handle.forget().await.unwrap();

    for restarted in [false, true] {
        if restarted {
            running.restart().await;
        }
        assert!(!is_known(&running, &stolen).await, "{restarted}");
        assert!(is_known(&running, &robot).await, "{restarted}");
        assert_eq!(keys(&running).await, 2, "{restarted}");
        let told = told(&running, &watcher).await;
        assert!(told.contains(&stolen_id), "{restarted}: {told:?}");
    }
    let mut admin = running.admin().await;
    let list = ListTokensRequest {
        name: "robot".to_owned(),
    };
    let tokens = admin.accounts.list_tokens(list).await.unwrap().into_inner();
    assert_eq!(tokens.tokens.len(), 2);
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_clock_that_is_set_back_gives_nothing_back() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    admin.person("ada", "user").await;
    admin.person("bob", "user").await;
    let (stolen, id) = issue_for(&mut admin, "robot", 365).await;
    revoke(&mut admin, Revoked::Token(id)).await;
    revoke(&mut admin, Revoked::Account("bob".to_owned())).await;
    let before = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&before)).await;
    let secret = enrol(&mut ada).await;

    clock.set_back(DAY);
    running.handle.forget().await.unwrap();
    assert!(!is_known(&running, &stolen).await, "revoked");
    assert!(!is_known(&running, &before).await, "issued in the future");
    // A code from before that an app showed, and somebody saw.
    let mut somebody = running.clients(None).await;
    let seen = code_at(&secret, clock.now());
    let refused = somebody.log_in("ada", PASSWORD, &seen).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "a step of the past");
    // No token could be told from those that were revoked.
    let refused = running.log_in("bob", PASSWORD).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("clock"), "{refused:?}");
    // Whose tokens were not revoked logs in, and the log goes on in its order.
    let mut admin = running.admin().await;
    admin.person("eve", "user").await;
    let eve = running.log_in("eve", PASSWORD).await.unwrap().token;
    assert!(is_known(&running, &eve).await);
    let verified = admin.admin.verify_audit(VerifyAuditRequest::default());
    let verified = verified.await.unwrap().into_inner();
    assert!(verified.intact, "{}", verified.problem);

    clock.set_ahead(DAY + Duration::from_secs(1));
    running.handle.forget().await.unwrap();
    assert!(!is_known(&running, &stolen).await);
    assert!(
        is_known(&running, &before).await,
        "the clock is right again"
    );
    assert!(running.log_in("bob", PASSWORD).await.is_ok());
}

/// While the clock is ahead somebody logs in, a program is given a token, and a page is looked at. Once it is right again all are revoked.
#[tokio::test]
async fn what_was_issued_while_the_clock_was_ahead_keeps_nobody_out() {
    for drop_old in [false, true] {
        let clock = FakeClock::new();
        let mut running = Running::start_at(&clock).await;
        let mut admin = running.admin().await;
        for name in ["ada", "bob"] {
            admin.person(name, "user").await;
        }
        admin.system("robot").await;
        clock.set_ahead(365 * DAY);
        let ada = running.log_in("ada", PASSWORD).await.unwrap().token;
        let mut late = running.admin().await;
        let (robot, _) = issue_for(&mut late, "robot", 365).await;
        clock.set_back(365 * DAY);
        let mut admin = running.admin().await;
        if drop_old {
            let rotate = RotateKeyRequest { drop_old };
            admin.admin.rotate_key(rotate).await.unwrap();
        } else {
            revoke(&mut admin, Revoked::Everything(true)).await;
        }
        for restarted in [false, true] {
            if restarted {
                running.restart().await;
            }
            let bob = running.log_in("bob", PASSWORD).await.unwrap().token;
            assert!(is_known(&running, &bob).await, "{drop_old} {restarted}");
            running.admin().await;
        }
        clock.advance(365 * DAY + Duration::from_secs(60));
        for (whose, token) in [("ada", &ada), ("robot", &robot)] {
            assert!(!is_known(&running, token).await, "{whose} {drop_old}");
        }
    }
}
