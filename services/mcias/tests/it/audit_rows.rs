//! What a row of the audit log says: what was changed into what, and on what somebody was refused.

use mc_proto::mcias::v1::{
    AuditEntry, CreateAccountRequest, DeleteAccountRequest, DeleteRuleRequest, EndSessionRequest,
    IssueTokenRequest, LiftBanRequest, ListAuditRequest, ListRulesRequest, ListSessionsRequest,
    PutRuleRequest, PutServiceRequest, Rule, Service,
};
use mc_testkit::clock::FakeClock;
use serde_json::{Value, json};
use std::time::Duration;

use crate::running::{Clients, PASSWORD, Running};

/// The newest rows first.
async fn rows(admin: &mut Clients, limit: u32) -> Vec<AuditEntry> {
    let asked = ListAuditRequest {
        limit,
        ..ListAuditRequest::default()
    };
    let listed = admin.admin.list_audit(asked).await.unwrap();
    listed.into_inner().entries
}

async fn last_detail(admin: &mut Clients) -> Value {
    let rows = rows(admin, 1).await;
    serde_json::from_str(&rows[0].detail).unwrap()
}

fn rule(name: &str, priority: i32, deny: bool) -> Rule {
    Rule {
        name: name.to_owned(),
        priority,
        deny,
        accounts: vec!["nobody".to_owned()],
        ..Rule::default()
    }
}

fn put(rule: Rule) -> PutRuleRequest {
    PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    }
}

#[tokio::test]
async fn a_changed_rule_is_there_before_and_after() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("nobody").await;
    let lab = Service {
        name: "lab".to_owned(),
        ..Service::default()
    };
    let lab = PutServiceRequest {
        service: Some(lab),
        new_secret: false,
    };
    admin.admin.put_service(lab).await.unwrap();
    admin
        .admin
        .put_rule(put(rule("lab", 1, true)))
        .await
        .unwrap();
    let denies = json!(["deny", "priority: 1", "accounts: nobody", "services: **"]);
    let detail = last_detail(&mut admin).await;
    assert_eq!(detail, json!({ "after": denies }));
    let other = Rule {
        second_factor: true,
        services: vec!["lab".to_owned()],
        comment: "why".to_owned(),
        ..rule("lab", 2, false)
    };
    admin.admin.put_rule(put(other)).await.unwrap();
    let detail = last_detail(&mut admin).await;
    let differ = json!({
        "before": ["deny", "priority: 1", "comment: "],
        "after": ["allow with a second factor", "priority: 2", "comment: why"],
        "services_added": ["lab"],
        "services_removed": ["**"],
    });
    assert_eq!(detail, differ);
    let allows = json!([
        "allow with a second factor",
        "priority: 2",
        "accounts: nobody",
        "services: lab",
        "comment: why"
    ]);
    let delete = DeleteRuleRequest {
        name: "lab".to_owned(),
        ..DeleteRuleRequest::default()
    };
    admin.admin.delete_rule(delete).await.unwrap();
    assert_eq!(last_detail(&mut admin).await, json!({ "before": allows }));
}

/// What would be cut off of a whole rule is there.
#[tokio::test]
async fn what_differs_far_behind_is_told() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let names = |last: &str| {
        let many = (0..40).map(|n| format!("account-with-a-long-name-{n}"));
        many.chain([last.to_owned()]).collect::<Vec<_>>()
    };
    for name in names("ada").iter().chain([&"ben".to_owned()]) {
        admin.system(name).await;
    }
    let with = |last: &str, comment: &str| Rule {
        accounts: names(last),
        comment: comment.to_owned(),
        ..rule("lab", 1, true)
    };
    let long = "ü".repeat(400);
    let (one, other) = (format!("{long}one"), format!("{long}other"));
    for (description, replacing, wanted) in [
        (
            "a name",
            with("ben", &one),
            json!({ "accounts_added": ["ben"], "accounts_removed": ["ada"] }),
        ),
        (
            "a comment",
            with("ben", &other),
            json!({ "before": ["comment: …ne"], "after": ["comment: …ther"] }),
        ),
        ("nothing", with("ben", &other), json!({})),
    ] {
        if description == "a name" {
            let put = put(with("ada", &one));
            admin.admin.put_rule(put).await.unwrap();
        }
        admin.admin.put_rule(put(replacing)).await.unwrap();
        assert_eq!(last_detail(&mut admin).await, wanted, "{description}");
    }
}

#[tokio::test]
async fn what_is_refused_names_what_was_asked_for() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let none = || "nothing".to_owned();
    let account = CreateAccountRequest {
        name: "No Name".to_owned(),
        account_type: 1,
        ..CreateAccountRequest::default()
    };
    let issue = IssueTokenRequest {
        name: none(),
        ..IssueTokenRequest::default()
    };
    let odd = Rule {
        second_factor: true,
        ..rule("odd", 0, true)
    };
    let service = Service {
        name: "Odd".to_owned(),
        ..Service::default()
    };
    let service = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    let lift = LiftBanRequest {
        source: "10.0.0.1/8".to_owned(),
    };
    let Clients {
        accounts, admin: a, ..
    } = &mut admin;
    let refused = [
        (accounts.create_account(account).await.err(), "No Name"),
        (
            accounts
                .delete_account(DeleteAccountRequest { name: none() })
                .await
                .err(),
            "nothing",
        ),
        (accounts.issue_token(issue).await.err(), "nothing"),
        (a.put_rule(put(odd)).await.err(), "odd"),
        (
            a.delete_rule(DeleteRuleRequest {
                name: none(),
                ..DeleteRuleRequest::default()
            })
            .await
            .err(),
            "nothing",
        ),
        (a.put_service(service).await.err(), "Odd"),
        (a.lift_ban(lift).await.err(), "10.0.0.1/8"),
    ];
    let many = u32::try_from(refused.len()).unwrap();
    let mut rows = rows(&mut admin, many).await;
    rows.reverse();
    for ((status, resource), row) in refused.into_iter().zip(rows) {
        let status = status.unwrap();
        assert_eq!(row.resource, resource, "{row:?}: {status}");
        assert_ne!(row.outcome, "OK", "{row:?}");
        if resource == "10.0.0.1/8" {
            assert!(status.message().contains("10.0.0.0/8"), "{status}");
        }
    }
}

#[tokio::test]
async fn rules_are_listed_as_they_are_asked() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("nobody").await;
    for (name, priority, deny) in [
        ("a-low", -1, true),
        ("b-allow", 5, false),
        ("a-allow", 5, false),
        ("z-deny", 5, true),
        ("high", 9, false),
    ] {
        let put = put(rule(name, priority, deny));
        admin.admin.put_rule(put).await.unwrap();
    }
    let listed = admin.admin.list_rules(ListRulesRequest {}).await.unwrap();
    let names: Vec<_> = listed
        .into_inner()
        .rules
        .into_iter()
        .map(|r| r.name)
        .collect();
    let wanted = ["high", "z-deny", "a-allow", "b-allow", "users", "a-low"];
    assert_eq!(names, wanted);
}

/// Somebody who has a token has no more rows of what is refused than strangers have, and all of what he changes.
#[tokio::test]
async fn what_somebody_is_refused_over_and_over_is_counted() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let of_ada = async |admin: &mut Clients, action: &str| {
        let rows = rows(admin, 500).await;
        let of = rows.into_iter();
        let of = of.filter(|row| row.account == "ada" && row.action.ends_with(action));
        of.collect::<Vec<_>>()
    };
    for n in 0..70 {
        let id = format!("Z{n}");
        ada.profile
            .end_session(EndSessionRequest { id })
            .await
            .unwrap_err();
    }
    assert_eq!(
        of_ada(&mut admin, "/EndSession").await.len(),
        60,
        "a minute's"
    );
    for _ in 0..2 {
        running.log_in("ada", PASSWORD).await.unwrap();
    }
    let own = ada
        .profile
        .list_sessions(ListSessionsRequest {})
        .await
        .unwrap();
    for session in own.into_inner().sessions.iter().filter(|one| !one.current) {
        let id = session.id.clone();
        ada.profile
            .end_session(EndSessionRequest { id })
            .await
            .unwrap();
    }
    assert_eq!(of_ada(&mut admin, "/EndSession").await.len(), 62, "changes");
    clock.advance(Duration::from_secs(60));
    running.log_in("ada", PASSWORD).await.unwrap();
    let told = of_ada(&mut admin, "audit.suppressed").await;
    let told: Vec<_> = told.iter().map(|row| row.detail.as_str()).collect();
    assert_eq!(told, [r#"{"calls":10}"#]);
}
