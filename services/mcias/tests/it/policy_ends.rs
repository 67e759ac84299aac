//! Logins that the policy lets in no more end with the change, and rules end before what they name.

use mc_proto::mcias::v1::{
    CheckTokenRequest, DeleteAccountRequest, DeleteRuleRequest, DeleteServiceRequest, LoginRequest,
    Names, PutRuleRequest, PutServiceRequest, RevocationEvent, Rule, Service, UpdateAccountRequest,
    WatchRevocationsRequest, revocation::What, revocation_event::Event,
};
use tonic::Code;

use crate::{
    issuing::issue,
    oidc_client::{begun, error, text},
    running::{Clients, PASSWORD, Running},
};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn service(admin: &mut Clients, name: &str, tags: &[&str]) -> u64 {
    let service = Service {
        name: name.to_owned(),
        tags: strings(tags),
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    let put = admin.admin.put_service(put).await.unwrap();
    put.into_inner().ended_logins
}

async fn put(admin: &mut Clients, rule: Rule) -> u64 {
    let put = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin
        .admin
        .put_rule(put)
        .await
        .unwrap()
        .into_inner()
        .ended_logins
}

async fn delete(admin: &mut Clients, name: &str) -> u64 {
    let delete = DeleteRuleRequest {
        name: name.to_owned(),
        ..DeleteRuleRequest::default()
    };
    let deleted = admin.admin.delete_rule(delete).await.unwrap();
    deleted.into_inner().ended_logins
}

async fn log_in(running: &Running, account: &str, service: &str) -> String {
    let request = LoginRequest {
        account: account.to_owned(),
        password: PASSWORD.to_owned(),
        service: service.to_owned(),
        ..LoginRequest::default()
    };
    let answer = running.clients(None).await.auth.login(request).await;
    answer.unwrap().into_inner().token
}

/// A service's own account, which asks of tokens and watches.
async fn checker(running: &Running, admin: &mut Clients) -> Clients {
    admin.system("checker").await;
    let (token, _) = issue(admin, "checker", &[]).await;
    running.clients(Some(&token)).await
}

/// What the last row of the log says of logins that ended.
fn logged(running: &Running) -> Option<u64> {
    let sql = "SELECT detail ->> 'ended_logins' FROM audit ORDER BY seq DESC LIMIT 1";
    let ended: Option<i64> = running
        .database()
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    ended.map(i64::cast_unsigned)
}

async fn is_valid(checker: &mut Clients, token: &str) -> bool {
    let token = token.to_owned();
    let answer = checker.auth.check_token(CheckTokenRequest { token }).await;
    answer.unwrap().into_inner().valid
}

#[tokio::test]
async fn who_may_not_any_more_is_not_logged_in_any_more() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let mut checker = checker(&running, &mut admin).await;
    for (name, role) in [("ada", "user"), ("gus", "guest")] {
        admin.person(name, role).await;
    }
    service(&mut admin, "wiki", &[]).await;
    service(&mut admin, "lab", &[]).await;
    let guests = Rule {
        name: "guests".to_owned(),
        roles: strings(&["guest"]),
        services: strings(&["wiki", "mcias"]),
        ..Rule::default()
    };
    assert_eq!(put(&mut admin, guests.clone()).await, 0);
    let at_wiki = |deny| Rule {
        name: "wiki".to_owned(),
        priority: 10,
        deny,
        accounts: strings(&["ada"]),
        services: strings(&["wiki"]),
        ..Rule::default()
    };
    let factor = |comment: &str| Rule {
        second_factor: true,
        comment: comment.to_owned(),
        ..at_wiki(false)
    };
    let tagged = Rule {
        name: "prod".to_owned(),
        priority: 10,
        deny: true,
        roles: strings(&["user"]),
        service_tags: strings(&["prod"]),
        ..Rule::default()
    };
    // A rule that keeps one account out of one service.
    let logins = |running: &Running| {
        let sql = "SELECT count(*) FROM session JOIN account ON account.id = account WHERE name <> 'admin'";
        let count: i64 = running
            .database()
            .query_row(sql, [], |row| row.get(0))
            .unwrap();
        count
    };
    let (wiki, lab) = (
        log_in(&running, "ada", "wiki").await,
        log_in(&running, "ada", "lab").await,
    );
    let gus = log_in(&running, "gus", "wiki").await;
    assert_eq!(
        put(&mut admin, at_wiki(true)).await,
        1,
        "a rule that denies"
    );
    assert_eq!(logged(&running), Some(1));
    assert!(!is_valid(&mut checker, &wiki).await);
    assert!(is_valid(&mut checker, &lab).await && is_valid(&mut checker, &gus).await);
    assert_eq!(put(&mut admin, at_wiki(true)).await, 0, "the same again");
    assert_eq!(logged(&running), None);
    assert_eq!(delete(&mut admin, "wiki").await, 0);
    // The rule that let somebody in.
    assert_eq!(
        delete(&mut admin, "guests").await,
        1,
        "the rule that let in"
    );
    assert!(!is_valid(&mut checker, &gus).await);
    assert_eq!(put(&mut admin, guests).await, 0);
    // A second factor, which no login here has shown.
    let wiki = log_in(&running, "ada", "wiki").await;
    assert_eq!(put(&mut admin, factor("")).await, 1, "a second factor");
    assert!(!is_valid(&mut checker, &wiki).await && is_valid(&mut checker, &lab).await);
    assert_eq!(delete(&mut admin, "wiki").await, 0);
    // One that has a factor to enrol goes on to that.
    let home = |comment: &str| Rule {
        services: strings(&["mcias"]),
        ..factor(comment)
    };
    let before = log_in(&running, "ada", "mcias").await;
    assert_eq!(put(&mut admin, home("")).await, 1, "at this service");
    assert!(!is_valid(&mut checker, &before).await);
    let enrolling = log_in(&running, "ada", "mcias").await;
    assert_eq!(put(&mut admin, home("another comment")).await, 0);
    assert!(is_valid(&mut checker, &enrolling).await);
    assert_eq!(delete(&mut admin, "wiki").await, 0);
    // Tags of a service.
    assert_eq!(put(&mut admin, tagged).await, 0);
    assert_eq!(
        service(&mut admin, "lab", &["prod"]).await,
        1,
        "a service's tag"
    );
    assert_eq!(logged(&running), Some(1));
    assert!(!is_valid(&mut checker, &lab).await);
    assert_eq!(service(&mut admin, "lab", &[]).await, 0);
    // A role more.
    let no_guests = Rule {
        name: "no-guests".to_owned(),
        priority: 20,
        deny: true,
        roles: strings(&["guest"]),
        services: strings(&["lab"]),
        ..Rule::default()
    };
    assert_eq!(put(&mut admin, no_guests).await, 0);
    let (lab, wiki) = (
        log_in(&running, "ada", "lab").await,
        log_in(&running, "ada", "wiki").await,
    );
    for (description, roles, ended) in [
        ("a role more", &["user", "guest"][..], 1),
        ("the same", &["user", "guest"], 0),
        ("one less, which ends all", &["user"], 2),
    ] {
        let update = UpdateAccountRequest {
            name: "ada".to_owned(),
            roles: Some(Names {
                names: strings(roles),
            }),
            ..UpdateAccountRequest::default()
        };
        let answer = admin.accounts.update_account(update).await.unwrap();
        assert_eq!(answer.into_inner().ended_logins, ended, "{description}");
        assert!(!is_valid(&mut checker, &lab).await, "{description}");
        assert_eq!(
            is_valid(&mut checker, &wiki).await,
            ended < 2,
            "{description}"
        );
    }
    assert_eq!(logins(&running), 0);
}

/// Whoever watches is told, as of any revocation.
#[tokio::test]
async fn what_ends_is_told() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let mut watcher = checker(&running, &mut admin).await;
    let request = WatchRevocationsRequest {};
    let mut events = watcher
        .auth
        .watch_revocations(request)
        .await
        .unwrap()
        .into_inner();
    let access = text(&tokens, "access_token");
    assert!(wiki.knows(access).await);
    let deny = Rule {
        name: "not-ada".to_owned(),
        priority: 10,
        deny: true,
        accounts: strings(&["ada"]),
        services: strings(&["wiki"]),
        ..Rule::default()
    };
    assert_eq!(put(&mut admin, deny).await, 1);
    assert!(!wiki.knows(access).await);
    let refreshed = wiki.refresh(text(&tokens, "refresh_token")).await;
    assert_eq!(error(&refreshed), "invalid_grant");
    assert_eq!(browser.get("/").await.status, 200, "the login here goes on");
    let id = crate::oidc::claims(access)["sid"]
        .as_str()
        .unwrap()
        .to_owned();
    loop {
        let RevocationEvent { event } = events.message().await.unwrap().unwrap();
        if let Some(Event::Revoked(revoked)) = event
            && revoked.what == Some(What::Session(id.clone()))
        {
            break;
        }
    }
}

#[tokio::test]
async fn what_a_rule_names_is_there_and_stays() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    service(&mut admin, "wiki", &[]).await;
    let rule = |name: &str, accounts: &[&str], services: &[&str]| Rule {
        name: name.to_owned(),
        deny: true,
        accounts: strings(accounts),
        services: strings(services),
        ..Rule::default()
    };
    for (description, rule, told) in [
        (
            "no account",
            rule("x", &["ada", "bob"], &[]),
            "accounts: there is no account \"bob\"",
        ),
        (
            "no service",
            rule("x", &["ada"], &["wiki", "lab"]),
            "services: there is no service \"lab\"",
        ),
        (
            "what can be none",
            rule("x", &["ada"], &["wiki/a"]),
            "services: there is no service \"wiki/a\"",
        ),
    ] {
        let request = PutRuleRequest {
            rule: Some(rule),
            ..PutRuleRequest::default()
        };
        let refused = admin.admin.put_rule(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{description}");
        assert_eq!(refused.message(), told, "{description}");
    }
    put(&mut admin, rule("pattern", &["ada"], &["la*", "**"])).await;
    for n in 0..6 {
        put(&mut admin, rule(&format!("r{n}"), &["ada"], &[])).await;
    }
    put(&mut admin, rule("at-wiki", &[], &["wiki"])).await;
    let account = || DeleteAccountRequest {
        name: "ada".to_owned(),
    };
    let refused = admin.accounts.delete_account(account()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for text in [
        "the rules pattern, r0, r1, r2, r3 and 2 more of the login policy name ada",
        "`mciasctl policy delete RULE`",
    ] {
        assert!(refused.message().contains(text), "{refused}");
    }
    let service = || DeleteServiceRequest {
        name: "wiki".to_owned(),
    };
    let refused = admin.admin.delete_service(service()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for text in [
        "the rule at-wiki of the login policy names wiki",
        "`mciasctl policy show at-wiki`",
    ] {
        assert!(refused.message().contains(text), "{refused}");
    }
    // What an earlier version let go may be kept, and nothing else.
    let gone = "UPDATE rule SET rule = replace(rule, '\"ada\"', '\"eve\"') WHERE name = 'r0'";
    running.database().execute(gone, []).unwrap();
    put(&mut admin, rule("r0", &["eve"], &["wiki"])).await;
    for name in ["pattern", "r0", "r1", "r2", "r3", "r4", "r5", "at-wiki"] {
        delete(&mut admin, name).await;
    }
    admin.accounts.delete_account(account()).await.unwrap();
    admin.admin.delete_service(service()).await.unwrap();
}
