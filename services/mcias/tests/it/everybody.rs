//! A change by which everybody may log in everywhere is asked about, however it is written.

use mc_proto::mcias::v1::{
    DeleteRuleRequest, ListRulesRequest, PutRuleRequest, PutServiceRequest, Rule, Service,
};
use tonic::{Code, Status};

use crate::running::{Clients, Running};

const ALL: &str = "everybody, guests included,";
const GUESTS: &str = "every guest";
const NO_ROLE: &str = "everybody without a role";

/// What is changed.
#[derive(Clone)]
enum Change {
    Put(Box<Rule>),
    Delete(&'static str),
}

async fn make(admin: &mut Clients, change: Change, meant: bool) -> Result<(), Status> {
    match change {
        Change::Put(rule) => {
            let put = PutRuleRequest {
                rule: Some(*rule),
                allow_everybody: meant,
            };
            admin.admin.put_rule(put).await.map(drop)
        }
        Change::Delete(name) => {
            let delete = DeleteRuleRequest {
                name: name.to_owned(),
                allow_everybody: meant,
            };
            admin.admin.delete_rule(delete).await.map(drop)
        }
    }
}

fn put(rule: Rule) -> Change {
    Change::Put(Box::new(rule))
}

async fn rules(admin: &mut Clients) -> Vec<Rule> {
    let listed = admin.admin.list_rules(ListRulesRequest {}).await.unwrap();
    listed.into_inner().rules
}

fn rule(name: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        ..Rule::default()
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Denies guests everything.
fn no_guests() -> Rule {
    Rule {
        priority: 5,
        deny: true,
        roles: strings(&["guest"]),
        ..rule("keep")
    }
}

#[tokio::test]
async fn whatever_lets_everybody_in_everywhere_has_to_be_meant() {
    use Change::Delete;
    let running = Running::start().await;
    let mut admin = running.admin().await;
    let service = Service {
        name: "wiki".to_owned(),
        tags: strings(&["prod"]),
        ..Service::default()
    };
    let wiki = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(wiki).await.unwrap();
    let with = |change: fn(&mut Rule)| {
        let mut rule = rule("x");
        change(&mut rule);
        put(rule)
    };
    // (description, rules before, the change, who may log in everywhere then and could not before)
    for (description, before, change, who) in [
        ("nothing said", vec![], with(|_| {}), Some(ALL)),
        (
            "each segment",
            vec![],
            with(|rule| rule.services = strings(&["*"])),
            Some(ALL),
        ),
        (
            "any number of them",
            vec![],
            with(|rule| rule.services = strings(&["wiki", "**"])),
            Some(ALL),
        ),
        (
            "all roles",
            vec![],
            with(|rule| rule.roles = strings(&["admin", "user", "guest"])),
            Some(GUESTS),
        ),
        (
            "guests",
            vec![],
            with(|rule| rule.roles = strings(&["guest"])),
            Some(GUESTS),
        ),
        (
            "all people",
            vec![],
            with(|rule| rule.account_types = strings(&["human"])),
            Some(ALL),
        ),
        (
            "with a second factor",
            vec![],
            with(|rule| {
                rule.second_factor = true;
                rule.roles = strings(&["guest"]);
            }),
            Some(GUESTS),
        ),
        (
            "behind a rule that denies guests",
            vec![no_guests()],
            with(|_| {}),
            Some(NO_ROLE),
        ),
        (
            "beside it",
            vec![no_guests()],
            with(|rule| rule.priority = 5),
            Some(NO_ROLE),
        ),
        (
            "before it",
            vec![no_guests()],
            with(|rule| rule.priority = 6),
            Some(ALL),
        ),
        (
            "the rule that denied is gone",
            vec![no_guests(), rule("open")],
            Delete("keep"),
            Some(GUESTS),
        ),
        (
            "it is about others now",
            vec![no_guests(), rule("open")],
            put(Rule {
                roles: strings(&["user"]),
                priority: -1,
                ..no_guests()
            }),
            Some(GUESTS),
        ),
        (
            "it is about one service now",
            vec![no_guests(), rule("open")],
            put(Rule {
                services: strings(&["wiki"]),
                ..no_guests()
            }),
            None,
        ),
        (
            "it lets in",
            vec![no_guests()],
            put(Rule {
                deny: false,
                ..no_guests()
            }),
            Some(GUESTS),
        ),
        ("they could before", vec![rule("open")], with(|_| {}), None),
        (
            "users",
            vec![],
            with(|rule| rule.roles = strings(&["user"])),
            None,
        ),
        (
            "who has a tag",
            vec![],
            with(|rule| rule.tags = strings(&["staff"])),
            None,
        ),
        (
            "one account",
            vec![],
            with(|rule| rule.accounts = strings(&["admin"])),
            None,
        ),
        (
            "all services that there are",
            vec![],
            with(|rule| rule.services = strings(&["mcias", "wiki"])),
            None,
        ),
        (
            "services that begin so",
            vec![],
            with(|rule| rule.services = strings(&["mcias", "w*"])),
            None,
        ),
        (
            "services with a tag",
            vec![],
            with(|rule| rule.service_tags = strings(&["prod"])),
            None,
        ),
        ("a rule that denies", vec![], put(no_guests()), None),
        (
            "a rule that let in is gone",
            vec![rule("open")],
            Delete("open"),
            None,
        ),
    ] {
        for before in before {
            make(&mut admin, put(before), true).await.unwrap();
        }
        let were = rules(&mut admin).await;
        let made = make(&mut admin, change.clone(), false).await;
        match (who, made) {
            (None, made) => made.unwrap_or_else(|status| panic!("{description}: {status}")),
            (Some(who), Err(status)) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{description}");
                let reason = status.metadata().get("reason");
                assert_eq!(reason.unwrap(), "allow_everybody", "{description}");
                let text = format!("{who} may log in to every service then");
                assert!(
                    status.message().starts_with(&text),
                    "{description}: {status}"
                );
                assert_eq!(
                    rules(&mut admin).await,
                    were,
                    "{description}: nothing is done"
                );
                make(&mut admin, change, true).await.unwrap();
            }
            (Some(_), Ok(())) => panic!("{description}: it was not asked about"),
        }
        assert_ne!(rules(&mut admin).await, were, "{description}");
        for rule in rules(&mut admin).await {
            let name = ["x", "keep", "open"]
                .into_iter()
                .find(|name| rule.name == *name);
            if let Some(name) = name {
                make(&mut admin, Delete(name), true).await.unwrap();
            }
        }
    }
}

/// What a program reads that speaks REST.
#[tokio::test]
async fn the_reason_is_in_the_answer_of_rest() {
    let running = Running::start().await;
    let token = running
        .log_in("admin", &running.password)
        .await
        .unwrap()
        .token;
    let header = format!("Authorization: Bearer {token}");
    let put =
        |meant: bool| serde_json::json!({ "rule": { "name": "x" }, "allow_everybody": meant });
    for (meant, status, reason) in [(false, 400, "allow_everybody"), (true, 200, "")] {
        let body = put(meant).to_string();
        let json = "Content-Type: application/json";
        let more = ["-X", "PUT", "-H", &header, "-H", json, "-d", &body];
        let (got, answer) = running.curl(&more, "/v1/policy/rules").await;
        assert_eq!(got, status, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["reason"].as_str().unwrap_or_default(),
            reason,
            "{answer}"
        );
    }
}
