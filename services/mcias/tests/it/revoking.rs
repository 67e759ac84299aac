//! What an administrator revokes: a token, a login, all of an account or of everybody, until now or until an instant.

use std::time::{Duration, SystemTime};

use mc_proto::mcias::v1::{
    CheckTokenRequest, ListAuditRequest, RenewRequest, RevokeRequest, revoke_request::What,
};
use mc_testkit::clock::FakeClock;
use tonic::Code;

use crate::{
    admin_pages::chief,
    issuing::{is_known, issue},
    oidc_client::{error, register, text},
    running::{PASSWORD, Running},
    web::Browser,
};

fn of(what: What) -> RevokeRequest {
    RevokeRequest {
        what: Some(what),
        issued_until: None,
    }
}

fn until(what: What, until: SystemTime) -> RevokeRequest {
    RevokeRequest {
        issued_until: Some(until.into()),
        ..of(what)
    }
}

#[tokio::test]
async fn a_persons_token_is_revoked_with_its_login() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut tokens = Vec::new();
    let mut ids = Vec::new();
    for column in ["token", "id"] {
        tokens.push(running.log_in("ada", PASSWORD).await.unwrap().token);
        let sql = format!("SELECT {column} FROM session ORDER BY rowid DESC LIMIT 1");
        let id: String = running
            .database()
            .query_row(&sql, [], |r| r.get(0))
            .unwrap();
        ids.push(id);
    }
    for (at, id) in ids.iter().enumerate() {
        assert!(is_known(&running, &tokens[at]).await);
        let revoke = of(What::Token(id.clone()));
        admin.accounts.revoke(revoke.clone()).await.unwrap();
        assert!(!is_known(&running, &tokens[at]).await, "{at}");
        let again = admin.accounts.revoke(revoke).await.unwrap_err();
        assert_eq!(again.code(), Code::NotFound, "{at}");
    }
    let sql = "SELECT count(*) FROM session JOIN account ON account.id = session.account WHERE name = 'ada'";
    let left: i64 = running.database().query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
    let request = ListAuditRequest {
        action: "/metacircular.mcias.v1.Accounts/Revoke".to_owned(),
        ..ListAuditRequest::default()
    };
    let log = admin.admin.list_audit(request).await.unwrap().into_inner();
    let done = log.entries.iter().filter(|row| row.outcome == "OK");
    assert_eq!(done.count(), 2, "{log:?}");
}

/// Whoever stole a login in time has renewed it since.
#[tokio::test]
async fn what_was_before_an_instant_is_revoked_and_nothing_after_it() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    for everything in [false, true] {
        let mut admin = running.admin().await;
        let (person, robot) = match everything {
            false => ("ada", "robot"),
            true => ("bob", "robot2"),
        };
        admin.person(person, "user").await;
        admin.system(robot).await;
        let log_in = async || running.log_in(person, PASSWORD).await.unwrap().token;
        let (old, renewed) = (log_in().await, log_in().await);
        let (old_robot, _) = issue(&mut admin, robot, &[]).await;
        clock.advance(Duration::from_secs(100));
        let instant = clock.now();
        clock.advance(Duration::from_secs(100));
        let renewed = running
            .clients(Some(&renewed))
            .await
            .auth
            .renew(RenewRequest {})
            .await;
        let renewed = renewed.unwrap().into_inner().token;
        let new = log_in().await;
        let (new_robot, _) = issue(&mut admin, robot, &[]).await;
        let whats = match everything {
            false => vec![
                What::Account(robot.to_owned()),
                What::Account(person.to_owned()),
            ],
            true => vec![What::Everything(true)],
        };
        for what in whats {
            let later = until(what.clone(), clock.now() + Duration::from_secs(1));
            let refused = admin.accounts.revoke(later).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "what is to come");
            admin.accounts.revoke(until(what, instant)).await.unwrap();
        }
        for (description, token, valid) in [
            ("before it", &old, false),
            ("of a login from before it", &renewed, false),
            ("a program's from before it", &old_robot, false),
            ("after it", &new, true),
            ("a program's from after it", &new_robot, true),
        ] {
            assert_eq!(
                is_known(&running, token).await,
                valid,
                "{description}, {everything}"
            );
            let mut anybody = running.clients(Some(&new_robot)).await;
            let asked = CheckTokenRequest {
                token: token.clone(),
            };
            let told = anybody.auth.check_token(asked).await.unwrap().into_inner();
            assert_eq!(told.valid, valid, "{description}, told, {everything}");
        }
        assert!(
            is_known(&running, &log_in().await).await,
            "and whoever logs in now"
        );
    }
    let mut admin = running.admin().await;
    let token = until(What::Token("x".to_owned()), SystemTime::UNIX_EPOCH);
    let refused = admin.accounts.revoke(token).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::InvalidArgument,
        "a token has one instant"
    );
}

/// It goes by when that login began, not by which has it now: the one that gave it may be forgotten.
#[tokio::test]
async fn what_a_login_of_before_an_instant_gave_after_it_is_revoked_too() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    for (description, over, again) in [
        ("its login goes on", 100, false),
        ("the device's next login has it", 2 * 3600, true),
    ] {
        let mut browser = Browser::new(&running);
        browser.log_in("ada", PASSWORD).await;
        clock.advance(Duration::from_secs(100));
        let instant = clock.now();
        clock.advance(Duration::from_secs(100));
        let given = wiki.tokens(&mut browser).await;
        clock.advance(Duration::from_secs(over));
        let given = wiki.refresh(text(&given, "refresh_token")).await.json();
        if again {
            browser.log_in("ada", PASSWORD).await;
        }
        let mut admin = running.admin().await;
        let revoke = until(What::Account("ada".to_owned()), instant);
        admin.accounts.revoke(revoke).await.unwrap();
        let refused = wiki.refresh(text(&given, "refresh_token")).await;
        assert_eq!(error(&refused), "invalid_grant", "{description}");
    }
}

/// A program does not log in again: a change that costs it its tokens is asked again.
#[tokio::test]
async fn a_page_asks_before_a_change_costs_a_program_its_tokens() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let mut browser = chief(&running).await;
    let (page, path) = ("/admin/account?name=robot", "/admin/account/change");
    let tagged = |tags: &'static str| {
        [
            ("name", "robot"),
            ("status", "active"),
            ("tags", tags),
            ("sure", "yes"),
        ]
    };
    let without = browser.submit(page, path, &tagged("a:b")[..3]).await;
    assert_eq!(without.location(), page, "it has no token");
    let (token, _) = issue(&mut admin, "robot", &[]).await;
    let same = browser.submit(page, path, &tagged("a:b")[..3]).await;
    assert_eq!(same.location(), page, "nothing is changed");
    let asked = browser.submit(page, path, &tagged("c:d")[..3]).await;
    assert_eq!(asked.status, 409);
    for text in ["may become void", "c:d", "name=\"sure\""] {
        assert!(asked.body.contains(text), "{text}: {}", asked.body);
    }
    assert!(is_known(&running, &token).await);
    let done = browser.submit(page, path, &tagged("c:d")).await;
    assert_eq!(done.location(), page);
    assert!(!is_known(&running, &token).await);
}
