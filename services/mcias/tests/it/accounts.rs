//! What administrators do, and what nobody can.

use mc_proto::mcias::v1::{
    AccountStatus, AccountType, ChangePasswordRequest, CreateAccountRequest, DeleteAccountRequest,
    DeleteServiceRequest, GetAccountRequest, ListAccountsRequest, ListAuditRequest,
    ListServicesRequest, Names, PutRuleRequest, PutServiceRequest, ResetPasswordRequest, Rule,
    Service, UpdateAccountRequest, WhoAmIRequest,
};
use tonic::Code;

use crate::running::{Clients, PASSWORD, Running};

fn names(names: &[&str]) -> Option<Names> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Some(Names { names })
}

#[tokio::test]
async fn an_account_lives_and_ends() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let request = CreateAccountRequest {
        name: "ada".to_owned(),
        account_type: AccountType::Human.into(),
        roles: vec!["user".to_owned()],
        tags: vec!["team:infra".to_owned()],
        ..CreateAccountRequest::default()
    };
    let made = admin
        .accounts
        .create_account(request.clone())
        .await
        .unwrap()
        .into_inner();
    let twice = admin.accounts.create_account(request).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let login = running.log_in("ada", &made.password).await.unwrap();
    assert!(login.password_expired, "it was given by somebody else");
    let mut ada = running.clients(Some(&login.token)).await;
    let known = ada
        .auth
        .who_am_i(WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        known.roles.is_empty() && known.tags.is_empty(),
        "nothing before it is changed: {known:?}"
    );
    let change = |new: &str| ChangePasswordRequest {
        old_password: made.password.clone(),
        new_password: new.to_owned(),
    };
    let weak = ada
        .profile
        .change_password(change("password1"))
        .await
        .unwrap_err();
    assert_eq!(weak.code(), Code::InvalidArgument, "{weak:?}");
    ada.profile.change_password(change(PASSWORD)).await.unwrap();
    let login = running.log_in("ada", PASSWORD).await.unwrap();
    assert!(!login.password_expired);
    let reset = ResetPasswordRequest {
        name: "ada".to_owned(),
    };
    admin.accounts.reset_password(reset).await.unwrap();
    let mut ada = running.clients(Some(&login.token)).await;
    let over = ada.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(
        over.code(),
        Code::Unauthenticated,
        "a new password ends all logins"
    );
    let delete = DeleteAccountRequest {
        name: "ada".to_owned(),
    };
    admin.accounts.delete_account(delete).await.unwrap();
    let get = GetAccountRequest {
        name: "ada".to_owned(),
    };
    assert_eq!(
        admin.accounts.get_account(get).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let update = |status: AccountStatus, roles| UpdateAccountRequest {
        name: "admin".to_owned(),
        status: status.into(),
        roles,
        ..UpdateAccountRequest::default()
    };
    for (description, request) in [
        ("disabled", update(AccountStatus::Disabled, None)),
        ("locked", update(AccountStatus::Locked, None)),
        (
            "without the role",
            update(AccountStatus::Unspecified, names(&["user"])),
        ),
        (
            "without any",
            update(AccountStatus::Unspecified, names(&[])),
        ),
    ] {
        let refused = admin.accounts.update_account(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{description}");
    }
    let delete = DeleteAccountRequest {
        name: "admin".to_owned(),
    };
    let refused = admin
        .accounts
        .delete_account(delete.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "deleted");
    // A system account is nobody who could log in and mend things.
    let request = CreateAccountRequest {
        name: "robot".to_owned(),
        account_type: AccountType::System.into(),
        roles: vec!["admin".to_owned()],
        ..CreateAccountRequest::default()
    };
    admin.accounts.create_account(request).await.unwrap();
    let refused = admin
        .accounts
        .delete_account(delete.clone())
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::FailedPrecondition,
        "beside a system account"
    );
    admin.person("ada", "admin").await;
    admin.accounts.delete_account(delete).await.unwrap();
    let over = admin.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "with its tokens");
}

/// An administrator whom the policy does not let in is none.
#[tokio::test]
async fn the_last_whom_the_policy_lets_in_stays() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "admin").await;
    let rule = Rule {
        name: "not-ada".to_owned(),
        priority: 10,
        deny: true,
        accounts: vec!["ada".to_owned()],
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(rule).await.unwrap();
    let delete = DeleteAccountRequest {
        name: "admin".to_owned(),
    };
    let refused = admin.accounts.delete_account(delete).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

/// Two administrators who remove each other at once: one stays.
#[tokio::test]
async fn two_who_remove_each_other_do_not_both() {
    let running = Running::start().await;
    for round in 0..5 {
        let mut admin = running.admin().await;
        let other = format!("other-{round}");
        admin.person(&other, "admin").await;
        let token = running.log_in(&other, PASSWORD).await.unwrap().token;
        let mut second = running.clients(Some(&token)).await;
        let demote = |name: &str| UpdateAccountRequest {
            name: name.to_owned(),
            roles: names(&["user"]),
            ..UpdateAccountRequest::default()
        };
        let (a, b) = tokio::join!(
            admin.accounts.update_account(demote(&other)),
            second.accounts.update_account(demote("admin"))
        );
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
        let sql = "SELECT count(*) FROM account_role WHERE role = 'admin'";
        let left: i64 = running
            .database()
            .query_row(sql, [], |row| row.get(0))
            .unwrap();
        assert!(left >= 1, "round {round}");
        if b.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn what_is_none_is_refused() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let person = |name: &str, password: &str, role: &str, tag: &str| CreateAccountRequest {
        name: name.to_owned(),
        account_type: AccountType::Human.into(),
        roles: vec![role.to_owned()],
        tags: vec![tag.to_owned()],
        password: password.to_owned(),
        ..CreateAccountRequest::default()
    };
    let long = "x".repeat(129);
    for (description, request) in [
        (
            "a name with a capital",
            person("Ada", PASSWORD, "user", "t"),
        ),
        (
            "a name that is a path",
            person("../ada", PASSWORD, "user", "t"),
        ),
        (
            "no type",
            CreateAccountRequest {
                name: "ada".to_owned(),
                ..CreateAccountRequest::default()
            },
        ),
        ("no role of ours", person("ada", PASSWORD, "root", "t")),
        ("a pattern as tag", person("ada", PASSWORD, "user", "*")),
        ("a weak password", person("ada", "ada1990", "user", "t")),
        ("a very long password", person("ada", &long, "user", "t")),
        (
            "a system account's password",
            CreateAccountRequest {
                account_type: AccountType::System.into(),
                ..person("ada", PASSWORD, "user", "t")
            },
        ),
    ] {
        let refused = admin.accounts.create_account(request).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{description}: {}",
            refused.message()
        );
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    for n in 0..5 {
        admin.system(&format!("robot-{n}")).await;
    }
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let request = ListAccountsRequest {
            prefix: "robot-".to_owned(),
            limit: 2,
            after,
            ..ListAccountsRequest::default()
        };
        let page = admin
            .accounts
            .list_accounts(request)
            .await
            .unwrap()
            .into_inner();
        found.extend(page.accounts.into_iter().map(|account| account.name));
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(
        found,
        ["robot-0", "robot-1", "robot-2", "robot-3", "robot-4"]
    );
}

#[tokio::test]
async fn a_service_has_its_secret_once() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let put = |new_secret, public_client, uris: &[&str]| PutServiceRequest {
        service: Some(Service {
            name: "wiki".to_owned(),
            public_client,
            redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            ..Service::default()
        }),
        new_secret,
    };
    let uri = ["https://wiki.example/cb"];
    for (description, request, secret) in [
        ("without SSO", put(false, false, &[]), false),
        ("with it", put(false, false, &uri), true),
        ("changed", put(false, false, &uri), false),
        ("another one", put(true, false, &uri), true),
        ("public", put(true, true, &uri), false),
    ] {
        let answer = admin.admin.put_service(request).await.unwrap().into_inner();
        assert_eq!(!answer.client_secret.is_empty(), secret, "{description}");
    }
    let bad = admin
        .admin
        .put_service(put(false, false, &["http://wiki.example/cb"]))
        .await;
    assert_eq!(bad.unwrap_err().code(), Code::InvalidArgument);
    let services = admin
        .admin
        .list_services(ListServicesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(services.services.len(), 2);
    for (name, code) in [
        ("wiki", None),
        ("wiki", Some(Code::NotFound)),
        ("mcias", Some(Code::FailedPrecondition)),
    ] {
        let delete = DeleteServiceRequest {
            name: name.to_owned(),
        };
        let answer = admin.admin.delete_service(delete).await;
        assert_eq!(answer.err().map(|e| e.code()), code, "{name}");
    }
}

#[tokio::test]
async fn a_service_is_removed_by_its_whole_name() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let name = "a".repeat(64);
    let put = PutServiceRequest {
        service: Some(Service {
            name: name.clone(),
            ..Service::default()
        }),
        ..PutServiceRequest::default()
    };
    admin.admin.put_service(put).await.unwrap();
    for (name, code) in [
        (format!("{name}a"), Code::NotFound),
        ("b".repeat(100_000), Code::NotFound),
        (name, Code::Ok),
    ] {
        let removed = admin.admin.delete_service(DeleteServiceRequest { name });
        let got = removed
            .await
            .map_or_else(|refused| refused.code(), |_| Code::Ok);
        assert_eq!(got, code);
    }
}

/// What an account did that is gone is found by its name, also beside another that has that name now.
#[tokio::test]
async fn the_log_is_found_by_the_name_of_an_account_that_is_gone() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("bob", "user").await;
    running.log_in("bob", PASSWORD).await.unwrap();
    let by = async |admin: &mut Clients, account: &str| {
        let request = ListAuditRequest {
            account: account.to_owned(),
            ..ListAuditRequest::default()
        };
        let log = admin.admin.list_audit(request).await.unwrap().into_inner();
        let numbers: Vec<u64> = log.entries.iter().map(|row| row.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a > b), "each once: {numbers:?}");
        log.entries.into_iter().map(|row| row.account_id)
    };
    let mut first = None;
    for logins in [1, 2] {
        admin.person("ada", "user").await;
        running.log_in("ada", PASSWORD).await.unwrap();
        let ids: Vec<String> = by(&mut admin, "ada").await.collect();
        assert_eq!(ids.len(), logins, "{ids:?}");
        let delete = DeleteAccountRequest {
            name: "ada".to_owned(),
        };
        admin.accounts.delete_account(delete).await.unwrap();
        assert_eq!(by(&mut admin, "ada").await.count(), logins, "it is gone");
        first.get_or_insert_with(|| ids[0].clone());
    }
    let first = first.unwrap();
    let of_first: Vec<String> = by(&mut admin, &first).await.collect();
    assert_eq!(of_first, [first], "by its id");
}
