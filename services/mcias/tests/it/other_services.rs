//! Tokens for other services: whoever has one goes on with its login, or ends it, and does nothing else here.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mc_proto::mcias::v1::{
    CheckTokenRequest, IssueTokenRequest, ListSessionsRequest, LoginRequest, LogoutRequest,
    PutRuleRequest, RenewRequest, Rule, WhoAmIRequest,
};
use mc_testkit::clock::FakeClock;
use serde_json::Value;
use tonic::Code;

use crate::{
    oidc_client::{Party, register, text},
    running::{Clients, PASSWORD, Running},
    web::Browser,
};

/// MCIAS, the service `wiki`, and Ada, whom a program logged in to it.
struct World {
    clock: FakeClock,
    running: Running,
    admin: Clients,
    wiki: Party,
    /// Of a system account that may ask whether tokens are valid.
    checker: Clients,
}

impl World {
    async fn start() -> Self {
        let clock = FakeClock::new();
        let running = Running::start_at(&clock).await;
        let mut admin = running.admin().await;
        admin.person("ada", "user").await;
        let wiki = register(&running, &mut admin, "wiki", false).await;
        admin.system("checker").await;
        let token = system_token(&mut admin, "checker", "mcias").await;
        let checker = running.clients(Some(&token)).await;
        Self {
            clock,
            running,
            admin,
            wiki,
            checker,
        }
    }

    /// A token of Ada's for the wiki.
    async fn token(&self) -> String {
        let mut somebody = self.running.clients(None).await;
        let request = LoginRequest {
            account: "ada".to_owned(),
            password: PASSWORD.to_owned(),
            service: "wiki".to_owned(),
            ..LoginRequest::default()
        };
        let login = somebody.auth.login(request).await.unwrap();
        login.into_inner().token
    }

    async fn with(&self, token: &str) -> Clients {
        self.running.clients(Some(token)).await
    }

    async fn is_valid(&mut self, token: &str) -> bool {
        let token = token.to_owned();
        let answer = self.checker.auth.check_token(CheckTokenRequest { token });
        answer.await.unwrap().into_inner().valid
    }

    /// What a renewal with the token says, and the token is as valid after it as before.
    async fn refused(&mut self, token: &str) -> Code {
        let mut clients = self.with(token).await;
        let refused = clients.auth.renew(RenewRequest {}).await.unwrap_err();
        assert!(self.is_valid(token).await, "{refused:?}");
        refused.code()
    }

    fn change(&self, sql: &str) {
        self.running.database().execute(sql, []).unwrap();
    }
}

async fn system_token(admin: &mut Clients, name: &str, service: &str) -> String {
    let request = IssueTokenRequest {
        name: name.to_owned(),
        services: vec![service.to_owned()],
        ..IssueTokenRequest::default()
    };
    let issued = admin.accounts.issue_token(request).await.unwrap();
    issued.into_inner().token
}

/// What a token says.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_login_to_another_service_goes_on_and_ends() {
    let mut world = World::start().await;
    let old = world.token().await;
    world.clock.advance(Duration::from_secs(600));
    let mut ada = world.with(&old).await;
    let renewed = ada.auth.renew(RenewRequest {}).await.unwrap();
    let new = renewed.into_inner().token;
    let (before, after) = (claims(&old), claims(&new));
    for same in [
        "aud",
        "sub",
        "sid",
        "iss",
        "roles",
        "tags",
        "amr",
        "name",
        "account_type",
    ] {
        assert_eq!(before[same], after[same], "{same}");
    }
    assert_eq!(after["aud"], serde_json::json!(["wiki"]));
    let exp = |claims: &Value| claims["exp"].as_u64().unwrap();
    assert_eq!(exp(&after), exp(&before) + 600);
    assert!(!world.is_valid(&old).await && world.is_valid(&new).await);
    let known = world.wiki.introspect(&new).await;
    assert_eq!(known["active"], true, "at the wiki");
    let twice = ada.auth.renew(RenewRequest {}).await.unwrap_err();
    assert_eq!(twice.code(), Code::Unauthenticated, "the old one");

    // Nothing else is done with it here.
    let mut ada = world.with(&new).await;
    let who = ada.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    let list = ada.profile.list_sessions(ListSessionsRequest {}).await;
    for refused in [who, list.unwrap_err()] {
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let header = format!("Authorization: Bearer {new}");
    let json = "Content-Type: application/json";
    let post = ["-X", "POST", "-H", &header, "-H", json, "-d", "{}"];
    let (status, _) = world.running.curl(&post, "/v1/auth/check").await;
    assert_eq!(status, 401, "by REST neither");
    let (status, body) = world.running.curl(&post, "/v1/auth/logout").await;
    assert_eq!(status, 200, "{body}");
    assert!(!world.is_valid(&new).await);
    let over = ada.auth.logout(LogoutRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "twice");
    let sql = "SELECT count(*) FROM audit WHERE name = 'ada' AND outcome = 'OK'
        AND action IN ('/metacircular.mcias.v1.Auth/Renew', '/metacircular.mcias.v1.Auth/Logout')";
    let db = world.running.database();
    let rows: i64 = db.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
}

/// The rules of MCIAS's own tokens hold.
#[tokio::test]
async fn what_may_not_go_on_does_not() {
    let mut world = World::start().await;
    let token = world.token().await;
    world.clock.advance(Duration::from_secs(60));

    world.change("UPDATE account SET password_expired = 1 WHERE name = 'ada'");
    let code = world.refused(&token).await;
    assert_eq!(code, Code::Unauthenticated, "a password to be changed");
    world.change("UPDATE account SET password_expired = 0 WHERE name = 'ada'");

    world.change("UPDATE account SET second_factor_required = 1 WHERE name = 'ada'");
    let code = world.refused(&token).await;
    assert_eq!(code, Code::Unauthenticated, "a factor to be enrolled");
    world.change("UPDATE account SET second_factor_required = 0 WHERE name = 'ada'");

    world.change("UPDATE account SET status = 'disabled' WHERE name = 'ada'");
    let code = world.refused(&token).await;
    assert_eq!(code, Code::Unauthenticated, "disabled");
    world.change("UPDATE account SET status = 'active' WHERE name = 'ada'");

    // Not for longer than the login.
    world.change("UPDATE session SET ends_s = created_s + 1200 WHERE service = 'wiki'");
    let mut ada = world.with(&token).await;
    let renewed = ada.auth.renew(RenewRequest {}).await.unwrap();
    let renewed = renewed.into_inner().token;
    let (before, after) = (claims(&token), claims(&renewed));
    let end = before["iat"].as_u64().unwrap() + 1200;
    assert_eq!(after["exp"].as_u64().unwrap(), end);

    let rule = Rule {
        name: "no-wiki".to_owned(),
        priority: 100,
        deny: true,
        services: vec!["wiki".to_owned()],
        ..Rule::default()
    };
    let put = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    world.admin.admin.put_rule(put).await.unwrap();
    assert!(!world.is_valid(&renewed).await, "a rule has ended it");
}

#[tokio::test]
async fn what_a_client_was_given_is_renewed_by_the_client() {
    let mut world = World::start().await;
    let mut browser = Browser::new(&world.running);
    browser.log_in("ada", PASSWORD).await;
    let tokens = world.wiki.tokens(&mut browser).await;
    world.clock.advance(Duration::from_secs(60));
    let access = text(&tokens, "access_token").to_owned();
    // A client shows it to whomever it calls.
    let code = world.refused(&access).await;
    assert_eq!(code, Code::FailedPrecondition);
    let refreshed = world.wiki.refresh(text(&tokens, "refresh_token")).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let access = text(&refreshed.json(), "access_token").to_owned();
    let mut ada = world.with(&access).await;
    ada.auth.logout(LogoutRequest {}).await.unwrap();
    assert!(!world.is_valid(&access).await);
    let tokens = refreshed.json();
    let over = world.wiki.refresh(text(&tokens, "refresh_token")).await;
    assert_eq!(over.status, 400, "the whole login");
    assert_eq!(browser.get("/").await.status, 200, "that one alone");
}

#[tokio::test]
async fn a_token_of_a_system_account_gives_itself_back() {
    let mut world = World::start().await;
    world.admin.system("robot").await;
    let first = system_token(&mut world.admin, "robot", "wiki").await;
    let second = system_token(&mut world.admin, "robot", "wiki").await;
    let code = world.refused(&first).await;
    assert_eq!(code, Code::PermissionDenied, "people alone renew");
    let mut robot = world.with(&first).await;
    robot.auth.logout(LogoutRequest {}).await.unwrap();
    assert!(!world.is_valid(&first).await && world.is_valid(&second).await);
}
