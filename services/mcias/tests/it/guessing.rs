//! Whoever guesses is slowed, then banned; nobody else is.

use std::time::Duration;

use mc_proto::mcias::v1::{IssueTokenRequest, WatchBansRequest, ban_event::Event};
use mc_testkit::wait_for_async;
use tonic::Code;

use crate::running::{PASSWORD, Running};

#[tokio::test]
async fn a_stranger_who_guesses_does_not_keep_the_owner_out() {
    let running = Running::start().await;
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
    let later = wait_for_async("the wait to be over", async || {
        other.log_in("ada", PASSWORD, "").await.ok()
    });
    assert!(later.await.is_ok());
}

#[tokio::test]
async fn waits_survive_a_restart() {
    let mut running = Running::start().await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    for _ in 0..3 {
        wait_for_async("the wait to be over", async || {
            let answer = stranger.log_in("admin", "a guess", "").await.unwrap_err();
            (answer.code() == Code::Unauthenticated).then_some(())
        })
        .await
        .unwrap();
    }
    running.restart().await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    let early = stranger.log_in("admin", "a guess", "").await.unwrap_err();
    assert_eq!(early.code(), Code::ResourceExhausted);
}

/// A hundred failures of one source at accounts that there are not.
#[tokio::test]
async fn a_source_that_goes_on_is_banned_and_services_hear_of_it() {
    let running = Running::start().await;
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

/// Names that exist and names that do not take alike: medians of interleaved attempts, within a fifth.
#[tokio::test]
async fn time_does_not_tell_who_exists() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    const ROUNDS: usize = 15;
    for n in 0..ROUNDS {
        admin.person(&format!("real-{n:02}"), "user").await;
    }
    let (mut real, mut none) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        for (prefix, times) in [("real", &mut real), ("none", &mut none)] {
            // Each from an address of its own, which nothing slows.
            let mut clients = running
                .clients_from(&format!("127.0.1.{}", n + 1), None)
                .await;
            let begun = std::time::Instant::now();
            let answer = clients
                .log_in(&format!("{prefix}-{n:02}"), "a guess", "")
                .await;
            assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
            times.push(begun.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let (real, none) = (median(&mut real), median(&mut none));
    // A lookup without a hash would be a hundredth.
    assert!((0.3..3.0).contains(&(real / none)), "{real} s and {none} s");
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
