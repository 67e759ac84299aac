//! Tokens: renewed, revoked and watched.

use std::time::Duration;

use mc_proto::mcias::v1::{
    AccountStatus, CheckAccountRequest, CheckTokenRequest, DeleteServiceRequest, EndSessionRequest,
    IssueTokenRequest, ListSessionsRequest, ListTokensRequest, LogoutRequest, PutServiceRequest,
    RenewRequest, RotateTokenRequest, Service, UpdateAccountRequest, WatchRevocationsRequest,
    revocation::What, revocation_event::Event, revoke_request::What as Revoked,
};
use mc_testkit::{clock::FakeClock, wait_for_async};
use mcdsl::auth::{
    Authenticator as _,
    client::{Client, Config},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    issuing::{is_known, issue, revoke},
    running::{Clients, PASSWORD, Running},
};

async fn renew(clients: &mut Clients) -> Result<String, Status> {
    let renewed = clients.auth.renew(RenewRequest {}).await?;
    Ok(renewed.into_inner().token)
}

#[tokio::test]
async fn a_renewed_token_replaces_the_one_before() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let old = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&old)).await;
    // Tokens count seconds.
    clock.advance(Duration::from_secs(1));
    let new = renew(&mut ada).await.unwrap();
    assert!(!is_known(&running, &old).await, "the old one");
    assert!(is_known(&running, &new).await, "the new one");
    let again = renew(&mut ada).await.unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated);
    let mut ada = running.clients(Some(&new)).await;
    let sessions = ada
        .profile
        .list_sessions(ListSessionsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(sessions.sessions.len(), 1, "one login");
    assert!(sessions.sessions[0].current);
}

#[tokio::test]
async fn of_many_who_renew_one_token_one_does() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    // Tokens count seconds.
    clock.advance(Duration::from_secs(2));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let mut clients = running.clients(Some(&token)).await;
        tasks.push(tokio::spawn(async move {
            clients.auth.renew(RenewRequest {}).await
        }));
    }
    let mut renewed = 0;
    for task in tasks {
        renewed += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(renewed, 1);
}

#[tokio::test]
async fn logins_are_seen_and_ended() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("bob", "user").await;
    let here = running.log_in("ada", PASSWORD).await.unwrap().token;
    let there = running.log_in("ada", PASSWORD).await.unwrap().token;
    let bobs = running.log_in("bob", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&here)).await;
    let sessions = ada
        .profile
        .list_sessions(ListSessionsRequest {})
        .await
        .unwrap()
        .into_inner()
        .sessions;
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0].source, "127.0.0.1/32");
    let other = sessions.iter().find(|session| !session.current).unwrap();
    let end = EndSessionRequest {
        id: other.id.clone(),
    };
    let mut bob = running.clients(Some(&bobs)).await;
    let refused = bob.profile.end_session(end.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "another's login");
    ada.profile.end_session(end).await.unwrap();
    assert!(!is_known(&running, &there).await);
    ada.auth.logout(LogoutRequest {}).await.unwrap();
    assert!(!is_known(&running, &here).await);
    assert!(is_known(&running, &bobs).await);
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_another_service_at_once() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let service = Service {
        name: "wiki".to_owned(),
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(put).await.unwrap();
    admin.system("wiki").await;
    admin.system("robot").await;
    let (own, _) = issue(&mut admin, "wiki", &[]).await;
    let (token, id) = issue(&mut admin, "robot", &["wiki"]).await;
    let token_file = running.root.path().join("wiki.token");
    let file = mcdsl::cli::PrivateFile::create(&token_file).unwrap();
    file.write(own.as_bytes()).unwrap();
    let config = Config {
        server_url: format!("https://localhost:{}", running.handle.grpc().port()),
        ca_cert: running.root.path().join("ca.pem"),
        service_name: "wiki".to_owned(),
        token_file,
    };
    let client = Client::new(&config, mcdsl::clock::Clock::default()).unwrap();
    let cancel = CancellationToken::new();
    let watching = tokio::spawn(std::sync::Arc::clone(&client).watch(cancel.clone()));
    wait_for_async("the stream", async || client.is_live().then_some(()))
        .await
        .unwrap();
    let identity = client.authenticate(&token).await.unwrap();
    assert_eq!(identity.name, "robot");
    assert!(
        client.authenticate(&own).await.is_err(),
        "for another service"
    );
    revoke(&mut admin, Revoked::Token(id)).await;
    wait_for_async("the revocation", async || {
        client.authenticate(&token).await.is_err().then_some(())
    })
    .await
    .unwrap();
    assert!(client.is_live(), "by the stream, not by a question");
    cancel.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn watchers_hear_what_is_in_force_and_what_happens() {
    let mut running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    admin.system("watcher").await;
    let (first, first_id) = issue(&mut admin, "robot", &[]).await;
    let (second, second_id) = issue(&mut admin, "robot", &[]).await;
    let (watcher, _) = issue(&mut admin, "watcher", &[]).await;
    revoke(&mut admin, Revoked::Token(first_id.clone())).await;
    // Revocations outlive the process.
    running.restart().await;
    let mut admin = running.admin().await;
    let mut clients = running.clients(Some(&watcher)).await;
    let mut stream = clients
        .auth
        .watch_revocations(WatchRevocationsRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut next = async || stream.message().await.unwrap().unwrap().event.unwrap();
    let Event::Revoked(before) = next().await else {
        panic!("what is in force comes first")
    };
    assert_eq!(before.what, Some(What::Token(first_id)));
    assert_eq!(next().await, Event::Synced(true));
    revoke(&mut admin, Revoked::Token(second_id.clone())).await;
    loop {
        match next().await {
            Event::Heartbeat(_) => {}
            Event::Revoked(revocation) => {
                assert_eq!(revocation.what, Some(What::Token(second_id)));
                break;
            }
            Event::Synced(_) => panic!("once"),
        }
    }
    let mut check = async |token: &str| {
        let request = CheckTokenRequest {
            token: token.to_owned(),
        };
        clients
            .auth
            .check_token(request)
            .await
            .unwrap()
            .into_inner()
            .valid
    };
    assert!(!check(&first).await && !check(&second).await && check(&watcher).await);
    assert!(!check("nothing").await);
}

#[tokio::test]
async fn services_are_told_whether_an_account_may_be_used() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.system("robot").await;
    let (token, _) = issue(&mut admin, "robot", &[]).await;
    let mut robot = running.clients(Some(&token)).await;
    let id = |name: &str| -> String {
        let sql = "SELECT id FROM account WHERE name = ?1";
        let db = running.database();
        db.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    let ada = id("ada");
    let mut is_active = async |id: &str| {
        let asked = CheckAccountRequest {
            account_id: id.to_owned(),
            ..CheckAccountRequest::default()
        };
        let told = robot.auth.check_account(asked).await;
        told.unwrap().into_inner().active
    };
    assert!(is_active(&ada).await && is_active(&id("robot")).await);
    for (status, active) in [("disabled", false), ("locked", false), ("active", true)] {
        let sql = "UPDATE account SET status = ?1 WHERE id = ?2";
        running.database().execute(sql, [status, &ada]).unwrap();
        assert_eq!(is_active(&ada).await, active, "{status}");
    }
    for none in ["", "ada", "none"] {
        assert!(!is_active(none).await, "{none:?}");
    }
    for (name, wanted) in [("ada", &*ada), ("none", ""), (&*ada, "")] {
        let asked = CheckAccountRequest {
            name: name.to_owned(),
            ..CheckAccountRequest::default()
        };
        let told = robot.auth.check_account(asked).await.unwrap();
        assert_eq!(told.into_inner().account_id, wanted, "{name}");
    }
    let both = CheckAccountRequest {
        account_id: ada.clone(),
        name: "ada".to_owned(),
    };
    let refused = robot.auth.check_account(both).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn tokens_of_system_accounts_are_rotated() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    admin.person("ada", "user").await;
    let (old, id) = issue(&mut admin, "robot", &["mcias"]).await;
    let rotate = RotateTokenRequest {
        name: "robot".to_owned(),
        id,
    };
    let new = admin
        .accounts
        .rotate_token(rotate.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(!is_known(&running, &old).await && is_known(&running, &new.token).await);
    let twice = admin.accounts.rotate_token(rotate).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
    let list = ListTokensRequest {
        name: "robot".to_owned(),
    };
    let tokens = admin
        .accounts
        .list_tokens(list)
        .await
        .unwrap()
        .into_inner()
        .tokens;
    let valid: Vec<_> = tokens.iter().filter(|token| !token.revoked).collect();
    assert_eq!(
        (tokens.len(), valid.len(), valid[0].id.as_str()),
        (2, 1, new.id.as_str())
    );
    for (description, name, services, code) in [
        ("a person's", "ada", vec![], Code::FailedPrecondition),
        ("of nobody", "none", vec![], Code::NotFound),
        (
            "for no service",
            "robot",
            vec!["nowhere".to_owned()],
            Code::NotFound,
        ),
    ] {
        let request = IssueTokenRequest {
            name: name.to_owned(),
            services,
            ..IssueTokenRequest::default()
        };
        let refused = admin.accounts.issue_token(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{description}");
    }
}

/// A renewed token may be issued a few seconds ahead of the clock; what revokes the account covers it.
#[tokio::test]
async fn no_renewal_outruns_a_revocation() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut token = running.log_in("ada", PASSWORD).await.unwrap().token;
    // All in one second, as often as that goes.
    let mut renewed = 0;
    loop {
        let mut ada = running.clients(Some(&token)).await;
        match renew(&mut ada).await {
            Ok(new) => token = new,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                break;
            }
        }
        renewed += 1;
    }
    assert_eq!(renewed, 3);
    assert!(is_known(&running, &token).await);
    revoke(&mut admin, Revoked::Account("ada".to_owned())).await;
    assert!(!is_known(&running, &token).await);
    clock.advance(Duration::from_secs(10));
    assert!(!is_known(&running, &token).await, "nor later");
}

#[tokio::test]
async fn what_is_disabled_gets_no_tokens() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let (token, id) = issue(&mut admin, "robot", &[]).await;
    let disable = UpdateAccountRequest {
        name: "robot".to_owned(),
        status: AccountStatus::Disabled.into(),
        ..UpdateAccountRequest::default()
    };
    admin.accounts.update_account(disable).await.unwrap();
    assert!(!is_known(&running, &token).await);
    let name = || "robot".to_owned();
    let request = IssueTokenRequest {
        name: name(),
        ..IssueTokenRequest::default()
    };
    let refused = admin.accounts.issue_token(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "a new one");
    let request = RotateTokenRequest { name: name(), id };
    let refused = admin.accounts.rotate_token(request).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::FailedPrecondition,
        "in the place of an old one"
    );
}

#[tokio::test]
async fn a_service_goes_with_its_logins_and_after_its_tokens() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let service = Service {
        name: "wiki".to_owned(),
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(put).await.unwrap();
    admin.system("robot").await;
    let (_, id) = issue(&mut admin, "robot", &["wiki"]).await;
    let delete = DeleteServiceRequest {
        name: "wiki".to_owned(),
    };
    let refused = admin
        .admin
        .delete_service(delete.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    revoke(&mut admin, Revoked::Token(id)).await;
    admin.admin.delete_service(delete).await.unwrap();
}
