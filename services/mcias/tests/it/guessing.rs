//! Whoever guesses is slowed, then banned; nobody else is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mc_proto::mcias::v1::{
    AccountStatus, Ban, IssueTokenRequest, LiftBanRequest, ListAuditRequest, ListBansRequest,
    UpdateAccountRequest, WatchBansRequest, ban_event::Event,
};
use mc_testkit::clock::FakeClock;
use tonic::Code;

use crate::{
    offline::{json, succeeds},
    running::{PASSWORD, Running},
};

#[tokio::test]
async fn a_stranger_who_guesses_does_not_keep_the_owner_out() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    assert!(
        running.log_in("ada", PASSWORD).await.is_ok(),
        "the owner, from here"
    );
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    let wrong = stranger.log_in("ada", "a guess", "").await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated);
    let early = stranger.log_in("ada", PASSWORD, "").await.unwrap_err();
    assert_eq!(
        early.code(),
        Code::ResourceExhausted,
        "even the right one is not looked at"
    );
    let wait: u64 = early
        .metadata()
        .get("retry-after")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(wait, 1);
    let mut other = running.clients_from("127.0.0.3", None).await;
    let early = other.log_in("ada", PASSWORD, "").await.unwrap_err();
    assert_eq!(early.code(), Code::ResourceExhausted, "strangers are one");
    assert!(
        running.log_in("ada", PASSWORD).await.is_ok(),
        "the owner still"
    );
    clock.advance(Duration::from_secs(1));
    assert!(other.log_in("ada", PASSWORD, "").await.is_ok(), "later");
}

#[tokio::test]
async fn waits_survive_a_restart() {
    let clock = FakeClock::new();
    let mut running = Running::start_at(&clock).await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    for wait in [0, 1, 3] {
        clock.advance(Duration::from_secs(wait));
        let answer = stranger.log_in("admin", "a guess", "").await.unwrap_err();
        assert_eq!(answer.code(), Code::Unauthenticated, "after {wait} s");
    }
    clock.advance(Duration::from_secs(4));
    running.restart().await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    let early = stranger.log_in("admin", "a guess", "").await.unwrap_err();
    assert_eq!(early.code(), Code::ResourceExhausted);
}

/// A hundred failures of one source at accounts that there are not.
#[tokio::test]
async fn a_source_that_goes_on_is_banned_and_services_hear_of_it() {
    let running = Running::start_at(&FakeClock::new()).await;
    let mut admin = running.admin().await;
    admin.system("proxy").await;
    let request = IssueTokenRequest {
        name: "proxy".to_owned(),
        ..IssueTokenRequest::default()
    };
    let token = admin
        .accounts
        .issue_token(request)
        .await
        .unwrap()
        .into_inner()
        .token;
    let mut proxy = running.clients(Some(&token)).await;
    let mut bans = proxy
        .auth
        .watch_bans(WatchBansRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut guesser = running.clients_from("127.0.0.9", None).await;
    for n in 0..100 {
        let answer = guesser
            .log_in(&format!("name-{n}"), "a guess", "")
            .await
            .unwrap_err();
        assert!(
            matches!(
                answer.code(),
                Code::Unauthenticated | Code::ResourceExhausted
            ),
            "{answer:?}"
        );
    }
    let ban = loop {
        let event = bans.message().await.unwrap().unwrap().event.unwrap();
        if let Event::Ban(ban) = event {
            break ban;
        }
    };
    assert_eq!(ban.source, "127.0.0.9/32");
    let refused = guesser
        .log_in("admin", &running.password, "")
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::ResourceExhausted,
        "a ban holds here too"
    );
    assert!(
        running.log_in("admin", &running.password).await.is_ok(),
        "from elsewhere"
    );
    // Who watches later hears of it as well.
    let mut later = proxy
        .auth
        .watch_bans(WatchBansRequest {})
        .await
        .unwrap()
        .into_inner();
    let event = later.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(event, Event::Ban(again) if again == ban));
}

/// Bans are listed page by page; one that is lifted is over here, and for who watches.
#[tokio::test]
async fn an_administrator_lets_a_network_in_again() {
    let mut running = Running::start().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs().cast_signed();
    for (network, left, bans) in [
        ("127.0.0.9/32", 3600, 3),
        ("192.0.2.1/32", 60, 1),
        ("192.0.2.2/32", -60, 1),
        ("2001:db8::/64", 7200, 2),
    ] {
        let sql = "INSERT INTO ban VALUES (?1, ?2, ?3, 'failed logins')";
        let db = running.database();
        db.execute(sql, (network, now + left, bans)).unwrap();
    }
    running.restart().await;
    let mut admin = running.admin().await;
    let mut list = async |after: &str, limit| {
        let request = ListBansRequest {
            after: after.to_owned(),
            limit,
        };
        let page = admin.admin.list_bans(request).await.unwrap().into_inner();
        let bans: Vec<Ban> = page.bans;
        let shown: Vec<(String, u32)> =
            bans.into_iter().map(|ban| (ban.source, ban.bans)).collect();
        (shown, page.next)
    };
    let (first, next) = list("", 2).await;
    let (rest, end) = list(&next, 2).await;
    let all: Vec<_> = first.iter().chain(&rest).map(|(s, n)| (&**s, *n)).collect();
    let wanted = [
        ("127.0.0.9/32", 3),
        ("192.0.2.1/32", 1),
        ("2001:db8::/64", 2),
    ];
    assert_eq!((&all[..], end.as_str()), (&wanted[..], ""));

    let mut admin = running.admin().await;
    admin.system("proxy").await;
    let issue = IssueTokenRequest {
        name: "proxy".to_owned(),
        ..IssueTokenRequest::default()
    };
    let token = admin.accounts.issue_token(issue).await.unwrap();
    let mut proxy = running.clients(Some(&token.into_inner().token)).await;
    let mut watch = async || {
        let watched = proxy.auth.watch_bans(WatchBansRequest {}).await;
        let mut bans = watched.unwrap().into_inner();
        let mut first = Vec::new();
        loop {
            match bans.message().await.unwrap().unwrap().event.unwrap() {
                Event::Ban(ban) => first.push(ban.source),
                Event::Synced(_) => break,
                other => panic!("{other:?}"),
            }
        }
        first.sort();
        (first, bans)
    };
    let (first, mut bans) = watch().await;
    assert_eq!(first, ["127.0.0.9/32", "192.0.2.1/32", "2001:db8::/64"]);
    let mut there = running.clients_from("127.0.0.9", None).await;
    let refused = there.log_in("admin", &running.password, "").await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    for (description, source, code) in [
        ("no network", "everybody", Some(Code::InvalidArgument)),
        ("not banned", "192.0.2.7", Some(Code::NotFound)),
        ("over", "192.0.2.2", Some(Code::NotFound)),
        ("a larger network", "127.0.0.0/8", Some(Code::NotFound)),
        ("an address", "127.0.0.9", None),
        ("once more", "127.0.0.9", Some(Code::NotFound)),
        ("an address in it", "2001:db8::7", None),
    ] {
        let request = LiftBanRequest {
            source: source.to_owned(),
        };
        let lifted = admin.admin.lift_ban(request).await;
        assert_eq!(lifted.err().map(|e| e.code()), code, "{description}");
    }
    let mut heard = Vec::new();
    while heard.len() < 2 {
        match bans.message().await.unwrap().unwrap().event.unwrap() {
            Event::Lifted(lifted) => heard.push(lifted.source),
            Event::Heartbeat(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, ["127.0.0.9/32", "2001:db8::/64"]);
    assert_eq!(watch().await.0, ["192.0.2.1/32"], "who begins to watch now");
    let request = ListAuditRequest {
        action: "/metacircular.mcias.v1.Administration/LiftBan".to_owned(),
        ..ListAuditRequest::default()
    };
    let log = admin.admin.list_audit(request).await.unwrap().into_inner();
    let log: Vec<_> = log
        .entries
        .iter()
        .map(|e| (&*e.resource, &*e.outcome))
        .collect();
    assert!(log.contains(&("127.0.0.9/32", "OK")), "{log:?}");
    assert!(there.log_in("admin", &running.password, "").await.is_ok());
    // And so it stays.
    running.restart().await;
    let mut there = running.clients_from("127.0.0.9", None).await;
    assert!(there.log_in("admin", &running.password, "").await.is_ok());
}

/// Names that exist and names that do not cost the same: one check of a password, which is nearly all of what an attempt costs.
#[tokio::test]
async fn every_name_costs_one_check() {
    let metrics = "127.0.0.1:0".parse().unwrap();
    let running = Running::start_as(|config| config.server.metrics_listen = Some(metrics)).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("gone", "user").await;
    admin.system("robot").await;
    let disable = UpdateAccountRequest {
        name: "gone".to_owned(),
        status: AccountStatus::Disabled.into(),
        ..UpdateAccountRequest::default()
    };
    admin.accounts.update_account(disable).await.unwrap();
    let checks = async || {
        let address = running.handle.metrics().unwrap();
        let output = tokio::process::Command::new("curl")
            .args(["-sSf", &format!("http://{address}/metrics")])
            .output();
        let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("mcias_password_checks_total "));
        line.unwrap_or_else(|| panic!("{text}"))
            .parse::<u64>()
            .unwrap()
    };
    for (n, (description, name)) in [
        ("a person", "ada"),
        ("nobody", "eve"),
        ("one that is disabled", "gone"),
        ("a program, which has none", "robot"),
        ("no name at all", "Not A Name!"),
    ]
    .into_iter()
    .enumerate()
    {
        // Each from an address of its own, which nothing slows.
        let mut clients = running
            .clients_from(&format!("127.0.1.{}", n + 1), None)
            .await;
        let before = checks().await;
        let refused = clients.log_in(name, "a guess", "").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{description}");
        assert_eq!(checks().await, before + 1, "{description}");
    }
}

/// Who looks for an account's entries finds the logins that failed at it, page by page, and nobody else's.
#[tokio::test]
async fn failed_logins_are_listed_with_their_account() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("bob", "user").await;
    let mut somebody = running.clients_from("127.0.0.2", None).await;
    for name in ["ada", "bob", "nobody"] {
        somebody.log_in(name, "a guess", "").await.unwrap_err();
        // It has to wait.
        somebody.log_in(name, "a guess", "").await.unwrap_err();
    }
    clock.advance(Duration::from_secs(1));
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
    let (mut found, mut before) = (Vec::new(), 0);
    loop {
        let request = ListAuditRequest {
            account: "ada".to_owned(),
            before,
            limit: 1,
            ..ListAuditRequest::default()
        };
        let page = admin.admin.list_audit(request).await.unwrap().into_inner();
        let Some(entry) = page.entries.into_iter().next() else {
            break;
        };
        before = entry.number;
        found.push((entry.resource, entry.source, entry.outcome));
    }
    let entry =
        |source: &str, outcome: &str| ("ada".to_owned(), source.to_owned(), outcome.to_owned());
    let wanted = [
        entry("127.0.0.1", "OK"),
        entry("127.0.0.2", "RESOURCE_EXHAUSTED"),
        entry("127.0.0.2", "UNAUTHENTICATED"),
    ];
    assert_eq!(found, wanted);
    // What was typed for a name that nobody has may be a password.
    let request = ListAuditRequest {
        outcome: "limited".to_owned(),
        ..ListAuditRequest::default()
    };
    let limited = admin.admin.list_audit(request).await.unwrap().into_inner();
    let on: Vec<_> = limited.entries.iter().map(|e| &*e.resource).collect();
    assert_eq!(on, ["(unknown)", "bob", "ada"]);
}

/// Far more at once than there are cores: those beyond the queue are told to come back, and nothing is lost.
#[tokio::test]
async fn a_storm_is_answered() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut tasks = Vec::new();
    for n in 0..60 {
        let mut clients = running
            .clients_from(&format!("127.0.2.{}", n + 1), None)
            .await;
        let name = format!("name-{n}");
        tasks.push(tokio::spawn(async move {
            clients.log_in(&name, "a guess", "").await
        }));
    }
    let (mut wrong, mut busy) = (0, 0);
    for task in tasks {
        match task.await.unwrap().unwrap_err().code() {
            Code::Unauthenticated => wrong += 1,
            Code::ResourceExhausted => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wrong + busy, 60);
    assert!(
        wrong > 0 && busy > 0,
        "{wrong} were looked at, {busy} were not"
    );
    assert!(running.log_in("ada", PASSWORD).await.is_ok(), "it is over");
}

/// An operator who mistyped the password until his network was banned.
#[tokio::test]
async fn who_is_banned_is_told_and_let_in_again() {
    let mut running = Running::start().await;
    running.stop().await;
    let root = running.root.path().to_owned();
    let sql = "INSERT INTO ban VALUES ('127.0.0.1/32', unixepoch() + 3600, 1, ''), ('192.0.2.1/32', unixepoch() - 1, 1, '')";
    running.database().execute(sql, []).unwrap();
    let told = json(&succeeds(&root, &["recover", "--json"]));
    assert_eq!(told["banned"], serde_json::json!(["127.0.0.1/32"]));
    let text = succeeds(&root, &["recover"]);
    assert!(text.contains("127.0.0.1/32; nobody logs in"), "{text}");
    running.begin().await;
    let password = told["password"].as_str().unwrap();
    let refused = running.log_in("admin", password).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    running.stop().await;
    let lifted = json(&succeeds(&root, &["recover", "--lift-bans", "--json"]));
    assert_eq!(lifted["banned"], serde_json::json!([]));
    running.begin().await;
    let password = lifted["password"].as_str().unwrap();
    running.log_in("admin", password).await.unwrap();
}
