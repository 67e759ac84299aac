//! What the audit log has of bans and of logins in two steps: one row for one thing.

use std::time::Duration;

use mc_proto::mcias::v1::{AuditEntry, LiftBanRequest, ListAuditRequest};
use mc_testkit::clock::FakeClock;
use serde_json::json;
use tonic::Code;

use crate::{
    factors::{code, enrol},
    running::{Clients, PASSWORD, Running},
    web::Http,
};

/// Whoever is on it, the newest first.
async fn log(admin: &mut Clients, action: &str) -> Vec<AuditEntry> {
    let request = ListAuditRequest {
        action: action.to_owned(),
        limit: 1000,
        ..ListAuditRequest::default()
    };
    let list = admin.admin.list_audit(request).await.unwrap();
    list.into_inner().entries
}

async fn ban(guesser: &mut Clients) {
    for n in 0..100 {
        let name = format!("name-{n}");
        guesser.log_in(&name, "a guess", "").await.unwrap_err();
    }
}

#[tokio::test]
async fn a_ban_is_an_action_and_what_it_refuses_has_no_rows() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    let mut guesser = running.clients_from("127.0.0.9", None).await;
    ban(&mut guesser).await;
    let begun = log(&mut admin, "ban.").await;
    let begun: Vec<_> = begun
        .iter()
        .map(|row| (&*row.action, &*row.resource))
        .collect();
    assert_eq!(begun, [("ban.begin", "127.0.0.9/32")]);

    // Beyond what of strangers has no row, which is counted as well.
    clock.advance(Duration::from_secs(60));
    let before = log(&mut admin, "Login").await.len();
    for n in 0..80 {
        let refused = guesser.log_in("admin", "a guess", "").await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{n}");
    }
    assert_eq!(log(&mut admin, "Login").await.len(), before);
    let lift = LiftBanRequest {
        source: "127.0.0.9".to_owned(),
    };
    admin.admin.lift_ban(lift).await.unwrap();
    let lifted = log(&mut admin, "LiftBan").await;
    let detail: serde_json::Value = serde_json::from_str(&lifted[0].detail).unwrap();
    assert_eq!(detail, json!({ "bans": 1, "refused": 80 }));
}

#[tokio::test]
async fn who_comes_too_early_is_told_when_to_come_again_by_rest_too() {
    let running = Running::start_at(&FakeClock::new()).await;
    running.log_in("admin", "a guess").await.unwrap_err();
    let body = json!({ "account": "admin", "password": running.password }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = Http::new(&running)
        .ask("POST", "/v1/auth/login", &headers, &body)
        .await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert_eq!(answer.header("retry-after"), "1");
    let text = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(text.ends_with("; try again in 1s"), "{text}");
    assert!(!text.contains("passkey"), "one wrong password: {text}");
}

#[tokio::test]
async fn a_login_in_two_steps_has_one_row_that_says_so() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let secret = enrol(&mut ada).await;
    let first = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(first.token.is_empty());
    ada.log_in("ada", PASSWORD, &code(&secret, 0))
        .await
        .unwrap();
    let rows = log(&mut admin, "Auth/Login").await;
    let of_ada = rows.iter().filter(|row| row.resource == "ada");
    let outcomes: Vec<_> = of_ada.map(|row| &*row.outcome).collect();
    assert_eq!(
        outcomes,
        ["OK", "FAILED_PRECONDITION", "OK"],
        "the newest first"
    );
}
