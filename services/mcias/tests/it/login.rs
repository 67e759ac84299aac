//! Logging in by password, and what the policy says of it.

use mc_proto::mcias::v1::{
    AccountStatus, AuditEntry, DeleteRuleRequest, ExplainRequest, ListAuditRequest, LoginRequest,
    PutRuleRequest, PutServiceRequest, Rule, Service, UpdateAccountRequest, VerifyAuditRequest,
    WhoAmIRequest,
};
use tonic::Code;

use crate::{
    running::{Clients, PASSWORD, Running},
    web::Http,
};

async fn service(admin: &mut Clients, name: &str, tags: &[&str]) {
    let service = Service {
        name: name.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Service::default()
    };
    let request = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(request).await.unwrap();
}

async fn log_in_to(running: &Running, account: &str, service: &str) -> Result<String, Code> {
    let request = LoginRequest {
        account: account.to_owned(),
        password: PASSWORD.to_owned(),
        service: service.to_owned(),
        ..LoginRequest::default()
    };
    let answer = running.clients(None).await.auth.login(request).await;
    answer.map(|a| a.into_inner().token).map_err(|e| e.code())
}

/// What strangers send is held until it is whole.
#[tokio::test]
async fn a_request_for_a_login_is_small() {
    let running = Running::start().await;
    let http = Http::new(&running);
    for (description, size, status, code) in [
        ("one that is none", 60 << 10, 400, Code::InvalidArgument),
        (
            "more than a request has",
            64 << 10,
            413,
            Code::ResourceExhausted,
        ),
    ] {
        let password = "x".repeat(size);
        let refused = running.log_in("ada", &password).await.unwrap_err();
        assert_eq!(refused.code(), code, "{description}");
        let body = serde_json::json!({ "account": "ada", "password": password }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = http.ask("POST", "/v1/auth/login", &headers, &body).await;
        assert_eq!(answer.status, status, "{description}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_person_logs_in_and_is_known() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let first = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(!first.new_device, "the first device is not new");
    let mut ada = running.clients(Some(&first.token)).await;
    let known = ada
        .auth
        .who_am_i(WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (known.account.as_str(), known.account_type.as_str()),
        ("ada", "human")
    );
    assert_eq!(
        (known.roles, known.methods),
        (vec!["user".to_owned()], vec!["pwd".to_owned()])
    );
    let mut elsewhere = running.clients_from("127.0.0.2", None).await;
    let second = elsewhere.log_in("ada", PASSWORD, "").await.unwrap();
    assert!(second.new_device && second.token != first.token);
    let again = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(!again.new_device);
}

#[tokio::test]
async fn whoever_is_wrong_is_told_the_same() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut answers = Vec::new();
    for (name, password) in [
        ("ada", "wrong password"),
        ("nobody", "wrong password"),
        ("no name at all", "wrong password"),
    ] {
        let answer = running.log_in(name, password).await.unwrap_err();
        answers.push((answer.code(), answer.message().to_owned()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, Code::Unauthenticated);
    let entries = audit(&mut admin, "/metacircular.mcias.v1.Auth/Login").await;
    let failed: Vec<_> = entries
        .iter()
        .filter(|entry| entry.outcome != "OK")
        .collect();
    assert_eq!(failed.len(), 3, "each is in the log");
    let text = format!("{failed:?}");
    assert!(
        !text.contains("no name at all") && !text.contains("wrong password"),
        "{text}"
    );
}

#[tokio::test]
async fn accounts_that_may_not_do_not() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    for (status, wanted) in [
        (AccountStatus::Disabled, Code::PermissionDenied),
        (AccountStatus::Locked, Code::PermissionDenied),
    ] {
        let name = format!("{status:?}").to_lowercase();
        admin.person(&name, "user").await;
        let request = UpdateAccountRequest {
            name: name.clone(),
            status: status.into(),
            ..UpdateAccountRequest::default()
        };
        admin.accounts.update_account(request).await.unwrap();
        let answer = running.log_in(&name, PASSWORD).await.unwrap_err();
        assert_eq!(answer.code(), wanted, "{name}");
        let wrong = running.log_in(&name, "wrong password").await.unwrap_err();
        assert_eq!(
            wrong.code(),
            Code::Unauthenticated,
            "{name}: who does not know the password is told nothing"
        );
    }
}

#[tokio::test]
async fn the_policy_decides_and_explains() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("gus", "guest").await;
    service(&mut admin, "wiki", &["env:prod"]).await;
    service(&mut admin, "lab", &[]).await;
    let rule = Rule {
        name: "no-prod".to_owned(),
        priority: 10,
        deny: true,
        accounts: vec!["ada".to_owned()],
        service_tags: vec!["env:prod".to_owned()],
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(rule).await.unwrap();
    for (description, account, service, wanted, deciding) in [
        ("as users may", "ada", "lab", Ok(()), "users"),
        (
            "denied by a tag",
            "ada",
            "wiki",
            Err(Code::PermissionDenied),
            "no-prod",
        ),
        (
            "guests by nothing",
            "gus",
            "lab",
            Err(Code::PermissionDenied),
            "",
        ),
        (
            "no such service",
            "ada",
            "nowhere",
            Err(Code::NotFound),
            "-",
        ),
    ] {
        let got = log_in_to(&running, account, service).await.map(drop);
        assert_eq!(got, wanted, "{description}");
        let request = ExplainRequest {
            account: account.to_owned(),
            service: service.to_owned(),
            tags: Vec::new(),
        };
        let explained = admin.admin.explain(request).await;
        if deciding == "-" {
            assert_eq!(
                explained.unwrap_err().code(),
                Code::NotFound,
                "{description}"
            );
            continue;
        }
        let explained = explained.unwrap().into_inner();
        assert_eq!(explained.allowed, wanted.is_ok(), "{description}");
        assert_eq!(explained.rule, deciding, "{description}");
        assert_eq!(explained.why.len(), 2, "{description}: {:?}", explained.why);
    }
}

/// An administrator issues its tokens by hand: neither a rule nor an explanation says otherwise.
#[tokio::test]
async fn the_policy_is_about_people() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let rule = Rule {
        name: "robots".to_owned(),
        account_types: vec!["system".to_owned()],
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    let refused = admin.admin.put_rule(rule).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let request = ExplainRequest {
        account: "robot".to_owned(),
        service: "mcias".to_owned(),
        tags: Vec::new(),
    };
    let refused = admin.admin.explain(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("system account"), "{refused:?}");
}

#[tokio::test]
async fn rules_that_are_none_or_lock_everybody_out_are_refused() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    service(&mut admin, "lab", &[]).await;
    let rule = |name: &str, deny: bool, services: &[&str]| Rule {
        name: name.to_owned(),
        priority: 100,
        deny,
        services: services.iter().map(|s| (*s).to_owned()).collect(),
        ..Rule::default()
    };
    for (description, rule, code) in [
        ("no name", rule("", true, &["lab"]), Code::InvalidArgument),
        (
            "a pattern that is none",
            rule("a", true, &["["]),
            Code::InvalidArgument,
        ),
        (
            "grammar in a name",
            rule("a b\"}", true, &["lab"]),
            Code::InvalidArgument,
        ),
        (
            "all are out",
            rule("a", true, &[]),
            Code::FailedPrecondition,
        ),
        (
            "all are out of this service",
            rule("a", true, &["mcias"]),
            Code::FailedPrecondition,
        ),
    ] {
        let answer = admin
            .admin
            .put_rule(PutRuleRequest {
                rule: Some(rule),
                ..PutRuleRequest::default()
            })
            .await;
        assert_eq!(answer.unwrap_err().code(), code, "{description}");
    }
    let only = DeleteRuleRequest {
        name: "users".to_owned(),
        ..DeleteRuleRequest::default()
    };
    let answer = admin.admin.delete_rule(only).await.unwrap_err();
    assert_eq!(
        answer.code(),
        Code::FailedPrecondition,
        "the last that lets somebody in"
    );
    assert!(running.log_in("admin", &running.password).await.is_ok());
}

#[tokio::test]
async fn the_log_is_whole_and_tells_if_it_is_not() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let verify = VerifyAuditRequest::default();
    let sound = admin
        .admin
        .verify_audit(verify.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(sound.intact && sound.rows >= 3, "{sound:?}");
    let entries = audit(&mut admin, "").await;
    assert_eq!(entries[0].hash, sound.head_hash);
    let created = entries
        .iter()
        .find(|e| e.action.ends_with("CreateAccount"))
        .unwrap();
    assert_eq!(
        (created.account.as_str(), created.resource.as_str()),
        ("admin", "ada")
    );
    assert_eq!(created.source, "127.0.0.1");
    let db = running.database();
    let sql = "UPDATE audit SET resource = 'eve' WHERE seq = ?1";
    db.execute(sql, [created.number.cast_signed()]).unwrap();
    let found = admin.admin.verify_audit(verify).await.unwrap().into_inner();
    assert!(!found.intact, "{found:?}");
    assert!(
        found.problem.contains(&format!("row {}", created.number)),
        "{found:?}"
    );
    assert_eq!(
        (found.rows, found.head_hash.as_str()),
        (0, ""),
        "to be noted"
    );
}

async fn audit(admin: &mut Clients, action: &str) -> Vec<AuditEntry> {
    let request = ListAuditRequest {
        action: action.to_owned(),
        ..ListAuditRequest::default()
    };
    admin
        .admin
        .list_audit(request)
        .await
        .unwrap()
        .into_inner()
        .entries
}
