//! Second factors: an authenticator app, recovery codes.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mc_proto::mcias::v1::{
    BeginTotpRequest, ClearSecondFactorsRequest, ConfirmTotpRequest, GetFactorsRequest,
    ListAuditRequest, NewRecoveryCodesRequest, PutRuleRequest, RemoveTotpRequest, Rule,
    SecondFactor, UpdateAccountRequest, WhoAmIRequest,
};
use mc_testkit::{clock::FakeClock, wait_for_async};
use tonic::Code;

use crate::running::{Clients, PASSWORD, Running};

/// What an app shows now, and some steps from now.
pub(crate) fn code(secret: &str, steps: i64) -> String {
    let away = Duration::from_secs(30 * steps.unsigned_abs());
    let now = SystemTime::now();
    code_at(secret, if steps < 0 { now - away } else { now + away })
}

/// What an app shows at a time.
pub(crate) fn code_at(secret: &str, time: SystemTime) -> String {
    let at = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("oathtool")
        .args(["--totp", "--base32", secret, &format!("--now=@{at}")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Enrols an app, with the code of the step before now.
pub(crate) async fn enrol(clients: &mut Clients) -> String {
    let begin = BeginTotpRequest {
        password: PASSWORD.to_owned(),
    };
    let begun = clients
        .profile
        .begin_totp(begin)
        .await
        .unwrap()
        .into_inner();
    assert!(begun.uri.starts_with("otpauth://totp/") && begun.qr.contains("<svg"));
    // Again, if a step ends in between; who failed waits a little.
    wait_for_async("a code that is taken", async || {
        let request = ConfirmTotpRequest {
            code: code(&begun.secret, -1),
        };
        match clients.profile.confirm_totp(request).await {
            Ok(_) => Some(()),
            Err(refused) => {
                let code = refused.code();
                let later = matches!(code, Code::InvalidArgument | Code::ResourceExhausted);
                assert!(later, "{refused:?}");
                None
            }
        }
    })
    .await
    .unwrap();
    begun.secret
}

#[tokio::test]
async fn a_code_of_an_app_is_taken_once() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let secret = enrol(&mut ada).await;
    let needed = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(needed.token.is_empty());
    assert_eq!(needed.needed, [i32::from(SecondFactor::Totp)]);
    let mut somebody = running.clients(None).await;
    // The next step's code is right as well: clocks differ.
    let next = code(&secret, 1);
    let login = somebody.log_in("ada", PASSWORD, &next).await.unwrap();
    let mut ada = running.clients(Some(&login.token)).await;
    let known = ada
        .auth
        .who_am_i(WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(known.methods, ["pwd", "otp", "mfa"]);
    let again = somebody.log_in("ada", PASSWORD, &next).await.unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated, "the same once more");
    // From elsewhere, since here it is to wait now.
    let mut elsewhere = running.clients_from("127.0.0.2", None).await;
    let before = elsewhere
        .log_in("ada", PASSWORD, &code(&secret, 0))
        .await
        .unwrap_err();
    assert_eq!(before.code(), Code::Unauthenticated, "one before it");
}

#[tokio::test]
async fn of_two_with_the_same_code_one_logs_in() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let secret = enrol(&mut ada).await;
    let code = code(&secret, 1);
    let mut a = running.clients_from("127.0.0.2", None).await;
    let mut b = running.clients_from("127.0.0.1", None).await;
    let (a, b) = tokio::join!(
        a.log_in("ada", PASSWORD, &code),
        b.log_in("ada", PASSWORD, &code)
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
}

#[tokio::test]
async fn recovery_codes_replace_it_once_each() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let ask = NewRecoveryCodesRequest {
        password: PASSWORD.to_owned(),
    };
    let early = ada
        .profile
        .new_recovery_codes(ask.clone())
        .await
        .unwrap_err();
    assert_eq!(
        early.code(),
        Code::FailedPrecondition,
        "there is nothing to replace"
    );
    enrol(&mut ada).await;
    let old = ada
        .profile
        .new_recovery_codes(ask.clone())
        .await
        .unwrap()
        .into_inner()
        .codes;
    let codes = ada
        .profile
        .new_recovery_codes(ask)
        .await
        .unwrap()
        .into_inner()
        .codes;
    assert_eq!(codes.len(), 10);
    let mut somebody = running.clients(None).await;
    let typed = codes[0].to_uppercase().replace('-', " ");
    assert!(
        somebody.log_in("ada", PASSWORD, &typed).await.is_ok(),
        "as people type it"
    );
    let again = somebody
        .log_in("ada", PASSWORD, &codes[0])
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated, "once more");
    let mut elsewhere = running.clients_from("127.0.0.2", None).await;
    let old = elsewhere
        .log_in("ada", PASSWORD, &old[1])
        .await
        .unwrap_err();
    assert_eq!(old.code(), Code::Unauthenticated, "those before are void");
    let factors = ada
        .profile
        .get_factors(GetFactorsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((factors.recovery_codes, factors.totp), (9, true));
    let text = std::fs::read(running.root.path().join("mcias.db")).unwrap();
    let plain = codes[3].replace('-', "");
    assert!(!text.windows(plain.len()).any(|w| w == plain.as_bytes()));
}

#[tokio::test]
async fn one_that_is_required_is_enrolled_first() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let require = UpdateAccountRequest {
        name: "ada".to_owned(),
        second_factor_required: Some(true),
        ..UpdateAccountRequest::default()
    };
    admin.accounts.update_account(require).await.unwrap();
    let login = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(login.enrol_second_factor);
    let mut ada = running.clients(Some(&login.token)).await;
    let known = ada
        .auth
        .who_am_i(WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        known.roles.is_empty(),
        "nothing before it is enrolled: {known:?}"
    );
    let secret = enrol(&mut ada).await;
    let mut somebody = running.clients(None).await;
    let login = somebody
        .log_in("ada", PASSWORD, &code(&secret, 1))
        .await
        .unwrap();
    assert!(!login.enrol_second_factor && !login.token.is_empty());
}

#[tokio::test]
async fn a_rule_can_ask_for_one() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let rule = Rule {
        name: "admins-with-two".to_owned(),
        roles: vec!["admin".to_owned()],
        second_factor: true,
        ..Rule::default()
    };
    admin
        .admin
        .put_rule(PutRuleRequest {
            rule: Some(rule),
            ..PutRuleRequest::default()
        })
        .await
        .unwrap();
    let login = running.log_in("admin", &running.password).await.unwrap();
    assert!(login.enrol_second_factor);
    let mut restricted = running.clients(Some(&login.token)).await;
    let get = mc_proto::mcias::v1::GetStatusRequest {};
    let refused = restricted.admin.get_status(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let get = mc_proto::mcias::v1::GetStatusRequest {};
    let over = admin.admin.get_status(get).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "the login of before");
    let ada = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(!ada.enrol_second_factor, "the rule is not about users");
}

#[tokio::test]
async fn a_stolen_token_changes_nothing_without_the_password() {
    let running = Running::start_at(&FakeClock::new()).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut thief = running.clients_from("127.0.0.2", Some(&token)).await;
    let wrong = || "not the password".to_owned();
    let begin = thief
        .profile
        .begin_totp(BeginTotpRequest { password: wrong() })
        .await;
    assert_eq!(begin.unwrap_err().code(), Code::PermissionDenied);
    // He may not try as fast as he likes either.
    let remove = thief
        .profile
        .remove_totp(RemoveTotpRequest { password: wrong() })
        .await;
    let refused = remove.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().get("retry-after").is_some());
    let clear = ClearSecondFactorsRequest {
        name: "ada".to_owned(),
    };
    let refused = thief
        .accounts
        .clear_second_factors(clear.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    admin.accounts.clear_second_factors(clear).await.unwrap();
}

/// A stolen token would become one that has shown both factors by a code that is guessed.
#[tokio::test]
async fn a_code_that_puts_an_app_in_force_is_not_guessed() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let begin = BeginTotpRequest {
        password: PASSWORD.to_owned(),
    };
    let begun = ada.profile.begin_totp(begin).await.unwrap().into_inner();
    let confirm = |time| ConfirmTotpRequest {
        code: code_at(&begun.secret, time),
    };
    let wrong = confirm(clock.now() + Duration::from_secs(3600));
    let mut thief = running.clients_from("127.0.0.2", Some(&token)).await;
    let refused = thief.profile.confirm_totp(wrong.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    // Not even the right one is looked at.
    for tried in [wrong, confirm(clock.now())] {
        let refused = thief.profile.confirm_totp(tried).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(refused.metadata().get("retry-after").is_some());
    }
    let log = admin.admin.list_audit(ListAuditRequest::default()).await;
    let log = log.unwrap().into_inner().entries;
    let tries = log.iter().filter(|e| e.action.ends_with("/ConfirmTotp"));
    let outcomes: Vec<_> = tries.map(|e| e.outcome.as_str()).collect();
    assert_eq!(
        outcomes,
        [
            "RESOURCE_EXHAUSTED",
            "RESOURCE_EXHAUSTED",
            "INVALID_ARGUMENT"
        ]
    );
    // Where its owner is nobody failed.
    ada.profile
        .confirm_totp(confirm(clock.now()))
        .await
        .unwrap();
}

/// Another login may be a thief's: it has not given the password for what it would confirm.
#[tokio::test]
async fn an_app_is_put_in_force_by_the_login_that_began() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut begins = running
        .clients(Some(&running.log_in("ada", PASSWORD).await.unwrap().token))
        .await;
    let mut other = running
        .clients(Some(&running.log_in("ada", PASSWORD).await.unwrap().token))
        .await;
    let begin = BeginTotpRequest {
        password: PASSWORD.to_owned(),
    };
    let begun = begins.profile.begin_totp(begin).await.unwrap().into_inner();
    let confirm = ConfirmTotpRequest {
        code: code_at(&begun.secret, clock.now()),
    };
    let refused = other.profile.confirm_totp(confirm.clone()).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    begins.profile.confirm_totp(confirm).await.unwrap();
    let over = other.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
}

/// Whoever knows the password alone was logged in before the owner enrolled: that login is over, and could do nothing.
#[tokio::test]
async fn a_login_from_before_undoes_no_second_factor() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut thief = running.clients(Some(&token)).await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    enrol(&mut ada).await;
    let password = || PASSWORD.to_owned();
    let remove = RemoveTotpRequest {
        password: password(),
    };
    let over = thief.profile.remove_totp(remove.clone()).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
    let codes = NewRecoveryCodesRequest {
        password: password(),
    };
    ada.profile.new_recovery_codes(codes).await.unwrap();
    ada.profile.remove_totp(remove).await.unwrap();
    let factors = ada.profile.get_factors(GetFactorsRequest {}).await.unwrap();
    let factors = factors.into_inner();
    assert_eq!(
        (factors.totp, factors.recovery_codes),
        (false, 0),
        "codes go with what they replace"
    );
}
