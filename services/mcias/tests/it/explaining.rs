//! What the policy's explanation says is what a login gets.

use std::time::Duration;

use mc_proto::mcias::v1::{
    AccountStatus, DeleteRuleRequest, ExplainRequest, ExplainResponse, LoginRequest, LoginResponse,
    PutRuleRequest, PutServiceRequest, Rule, Service, UpdateAccountRequest,
};
use mc_testkit::clock::FakeClock;
use tonic::{Code, Status};

use crate::{
    factors::enrol,
    running::{Clients, PASSWORD, Running},
};

/// What rules say of guests at a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    In,
    InWithSecond,
    Out,
}

/// Makes the rule of that service say it.
async fn say(admin: &mut Clients, service: &str, says: Says) {
    let name = format!("guests-{service}");
    let _ = admin
        .admin
        .delete_rule(DeleteRuleRequest {
            name: name.clone(),
            ..DeleteRuleRequest::default()
        })
        .await;
    if says == Says::Nothing {
        return;
    }
    let rule = Rule {
        name,
        deny: says == Says::Out,
        roles: vec!["guest".to_owned()],
        services: vec![service.to_owned()],
        second_factor: says == Says::InWithSecond,
        ..Rule::default()
    };
    let put = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(put).await.unwrap();
}

async fn update(admin: &mut Clients, required: bool, status: AccountStatus) {
    let request = UpdateAccountRequest {
        name: "gus".to_owned(),
        status: status.into(),
        second_factor_required: Some(required),
        ..UpdateAccountRequest::default()
    };
    admin.accounts.update_account(request).await.unwrap();
}

async fn log_in(running: &Running, service: &str) -> Result<LoginResponse, Status> {
    let request = LoginRequest {
        account: "gus".to_owned(),
        password: PASSWORD.to_owned(),
        service: service.to_owned(),
        ..LoginRequest::default()
    };
    let answer = running.clients(None).await.auth.login(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn explain(admin: &mut Clients, service: &str) -> ExplainResponse {
    let request = ExplainRequest {
        account: "gus".to_owned(),
        service: service.to_owned(),
        tags: Vec::new(),
    };
    admin.admin.explain(request).await.unwrap().into_inner()
}

async fn wiki(admin: &mut Clients) {
    let service = Service {
        name: "wiki".to_owned(),
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(put).await.unwrap();
}

/// What is explained must be what happens to a login by the API, and to one by a browser, which is one to MCIAS first.
async fn agree(running: &Running, admin: &mut Clients, case: &str) {
    let explained = explain(admin, "wiki").await;
    let (wiki, home) = (
        log_in(running, "wiki").await,
        log_in(running, "mcias").await,
    );
    let case = format!("{case}: {explained:?}, {wiki:?}, {home:?}");
    let code = wiki.as_ref().err().map(Status::code);
    match (explained.allowed, explained.first.is_empty()) {
        (false, _) => {
            let no = [Code::PermissionDenied, Code::FailedPrecondition];
            assert!(code.is_some_and(|code| no.contains(&code)), "{case}");
        }
        (true, true) => assert_eq!(code, None, "{case}"),
        // Which can be set right.
        (true, false) => {
            assert_eq!(code, Some(Code::FailedPrecondition), "{case}");
            assert!(home.is_ok(), "{case}");
        }
    }
    let by_browser = explained.allowed && home.is_ok();
    assert_eq!(explained.by_browser, by_browser, "{case}");
    if let Ok(answer) = &wiki {
        let asked = !answer.needed.is_empty();
        assert_eq!(explained.second_factor, asked, "{case}");
    }
}

#[tokio::test]
async fn an_explanation_is_what_a_login_gets() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("gus", "guest").await;
    wiki(&mut admin).await;
    for at_wiki in [Says::Nothing, Says::In, Says::InWithSecond, Says::Out] {
        for at_home in [Says::Nothing, Says::In, Says::InWithSecond] {
            say(&mut admin, "wiki", at_wiki).await;
            say(&mut admin, "mcias", at_home).await;
            for required in [false, true] {
                // What ends logins covers its second.
                clock.advance(Duration::from_secs(5));
                update(&mut admin, required, AccountStatus::Active).await;
                let case = format!("{at_wiki:?} at wiki, {at_home:?} at home, {required}");
                agree(&running, &mut admin, &case).await;
            }
        }
    }
}

#[tokio::test]
async fn an_explanation_knows_what_the_account_has() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("gus", "guest").await;
    wiki(&mut admin).await;
    say(&mut admin, "mcias", Says::In).await;
    let token = log_in(&running, "mcias").await.unwrap().token;
    enrol(&mut running.clients(Some(&token)).await).await;
    for at_wiki in [Says::In, Says::InWithSecond] {
        say(&mut admin, "wiki", at_wiki).await;
        agree(&running, &mut admin, &format!("enrolled, {at_wiki:?}")).await;
    }
    for status in [AccountStatus::Disabled, AccountStatus::Locked] {
        update(&mut admin, false, status).await;
        agree(&running, &mut admin, &format!("{status:?}")).await;
    }
}

#[tokio::test]
async fn an_explanation_says_why_in_words() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("gus", "guest").await;
    wiki(&mut admin).await;
    let locked = AccountStatus::Locked;
    let active = AccountStatus::Active;
    for (description, at_wiki, at_home, required, status, rule, texts) in [
        (
            "let in by both",
            Says::In,
            Says::In,
            false,
            active,
            "guests-wiki",
            &["the account is active; rule guests-wiki lets it in"][..],
        ),
        (
            "not by a browser",
            Says::In,
            Says::Nothing,
            false,
            active,
            "guests-wiki",
            &[
                "not by a browser: that logs in to mcias first",
                "no rule matches",
            ],
        ),
        (
            "kept out",
            Says::Out,
            Says::In,
            false,
            active,
            "guests-wiki",
            &[
                "rule guests-wiki keeps it out",
                "(priority 0, deny) decides",
            ],
        ),
        (
            "no rule",
            Says::Nothing,
            Says::In,
            false,
            active,
            "",
            &["no rule matches, and what none allows is denied"],
        ),
        (
            "a rule demands a second factor, and there is none",
            Says::InWithSecond,
            Says::In,
            false,
            active,
            "guests-wiki",
            &[
                "enrol a second factor: one is demanded, and the account has none",
                "rule guests-wiki demands a second factor; it has none enrolled",
                "(priority 0, allow with a second factor) decides",
            ],
        ),
        (
            "the account does",
            Says::In,
            Says::In,
            true,
            active,
            "guests-wiki",
            &["the account is to have a second factor; it has none enrolled"],
        ),
        (
            "none, and nowhere to enrol it",
            Says::InWithSecond,
            Says::Nothing,
            false,
            active,
            "guests-wiki",
            &["that is done at mcias, where it cannot log in: no rule matches"],
        ),
        (
            "MCIAS demands one of browsers",
            Says::In,
            Says::InWithSecond,
            false,
            active,
            "guests-wiki",
            &["by a browser a second factor has to be enrolled first: mcias"],
        ),
        (
            "locked, whatever rules say",
            Says::In,
            Says::In,
            false,
            locked,
            "",
            &[
                "the account is locked and logs in nowhere until an administrator gives it a new password",
                "(priority 0, allow) matches, but is not asked",
            ],
        ),
    ] {
        say(&mut admin, "wiki", at_wiki).await;
        say(&mut admin, "mcias", at_home).await;
        update(&mut admin, required, status).await;
        let explained = explain(&mut admin, "wiki").await;
        assert_eq!(explained.rule, rule, "{description}: {explained:?}");
        let all = format!("{explained:?}");
        for text in texts {
            assert!(all.contains(text), "{description}: {text}: {explained:?}");
        }
    }
}
