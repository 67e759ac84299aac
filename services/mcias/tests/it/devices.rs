//! Logins from new devices, and what their owner says of them.

use mc_proto::mcias::v1::{ListAuditRequest, ListSessionsRequest, LoginRequest, WhoAmIRequest};
use tonic::Code;

use crate::{
    running::{PASSWORD, Running},
    web::{Answer, Browser},
};

/// For who is logged in already, too.
const PATH: &str = "/login?next=%2Fsessions&again=1";

async fn log_in(browser: &mut Browser) -> Answer {
    let fields = [("account", "ada"), ("password", PASSWORD)];
    browser.submit(PATH, PATH, &fields).await
}

/// The network of all that is local.
const NETWORK: &str = "127.0.0.1/32";

async fn say(browser: &mut Browser, device: &str, answer: &str) -> Answer {
    let path = "/devices?next=%2Fsessions";
    let fields = [("network", NETWORK), ("device", device), ("answer", answer)];
    browser.submit(path, path, &fields).await
}

/// Ada, who has a browser that is known, and a thief, who knows her password.
async fn ada_and_a_thief() -> (Running, Browser, Browser) {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let mut ada = Browser::new(&running);
    assert_eq!(log_in(&mut ada).await.location(), "/sessions");
    let home = ada.get("/").await.body;
    assert!(!home.contains("new device"), "the first is not new: {home}");
    let mut thief = Browser::new(&running);
    thief.agent = "Thief/<1>";
    assert_eq!(log_in(&mut thief).await.location(), "/sessions");
    (running, ada, thief)
}

#[tokio::test]
async fn the_owner_hears_of_a_thief_who_cannot_say_that_it_was_him() {
    let (running, mut ada, mut thief) = ada_and_a_thief().await;
    // Not by logging in once more, either.
    log_in(&mut thief).await;
    let home = thief.get("/").await.body;
    assert!(home.contains("Thief/&#60;1&#62;") && home.contains("this one"));
    assert!(!home.contains("It was me") && !home.contains("It was not me"));
    assert!(home.contains("not used from here before") && !home.contains("Was this you?"));
    let accepted = say(&mut thief, "Thief/<1>", "mine").await;
    assert_eq!(accepted.status, 403);
    assert!(accepted.body.contains("from a new device itself"));
    let rejected = say(&mut thief, "Thief/<1>", "not-mine").await;
    assert_eq!(rejected.status, 409, "that would be a way out of the list");
    for (description, answer, status) in [
        (
            "the owner's own device",
            say(&mut thief, "Browser/1", "not-mine").await,
            409,
        ),
        (
            "no answer",
            say(&mut thief, "Thief/<1>", "perhaps").await,
            422,
        ),
        (
            "without a token",
            thief.post("/devices", &[("answer", "mine")]).await,
            403,
        ),
    ] {
        assert_eq!(answer.status, status, "{description}: {}", answer.body);
    }
    assert_eq!(
        ada.get("/sessions").await.status,
        200,
        "nothing of hers ended"
    );

    let home = ada.get("/").await.body;
    assert!(home.contains("Thief/&#60;1&#62;") && home.contains("by password, to mcias"));
    let listed = ada.get("/sessions").await.body;
    assert_eq!(listed.matches("new device").count(), 1, "{listed}");
    assert_eq!(
        log_in(&mut ada).await.location(),
        "/devices?next=%2Fsessions"
    );
    let told = ada.get("/devices?next=%2Fsessions").await.body;
    assert!(told.contains(r#"href="/sessions">Go on"#), "{told}");
    assert!(told.contains("Was this you?"), "{told}");
    let ended = say(&mut ada, "Thief/<1>", "not-mine").await;
    assert_eq!(ended.location(), "/password?next=%2Fsessions");
    assert!(
        ada.get("/password")
            .await
            .body
            .contains("choose a new one now")
    );
    assert_eq!(thief.get("/").await.location(), "/login?next=%2F");
    assert!(!ada.get("/").await.body.contains("Thief"));
    let twice = say(&mut ada, "Thief/<1>", "not-mine").await;
    assert_eq!(twice.status, 409);

    // All of it is in the log, with what was refused.
    let mut admin = running.admin().await;
    let log = admin.admin.list_audit(ListAuditRequest::default()).await;
    let log = log.unwrap().into_inner().entries;
    let rows = log.iter().filter(|row| row.action == "/devices");
    let mut outcomes: Vec<_> = rows.map(|row| row.outcome.as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
}

#[tokio::test]
async fn a_device_that_is_its_owners_is_told_no_more() {
    let (_running, mut ada, mut phone) = ada_and_a_thief().await;
    let said = say(&mut ada, "Thief/<1>", "mine").await;
    assert_eq!(said.location(), "/sessions");
    assert!(!ada.get("/").await.body.contains("Thief"));
    assert_eq!(phone.get("/sessions").await.status, 200, "it goes on");
    assert_eq!(log_in(&mut phone).await.location(), "/sessions");
    let listed = phone.get("/sessions").await.body;
    assert!(!listed.contains("new device"), "{listed}");
}

/// What a program's login is called, and that its token ends too.
#[tokio::test]
async fn a_programs_login_is_told_as_well() {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let mut ada = Browser::new(&running);
    log_in(&mut ada).await;
    let mut program = running.clients(None).await;
    let request = LoginRequest {
        account: "ada".to_owned(),
        password: PASSWORD.to_owned(),
        device: "mciasctl".to_owned(),
        ..LoginRequest::default()
    };
    let login = program.auth.login(request).await.unwrap().into_inner();
    assert!(login.new_device);
    let mut program = running.clients(Some(&login.token)).await;
    let sessions = program.profile.list_sessions(ListSessionsRequest {}).await;
    let sessions = sessions.unwrap().into_inner().sessions;
    let new: Vec<bool> = sessions.iter().map(|session| session.new_device).collect();
    let current: Vec<bool> = sessions.iter().map(|session| session.current).collect();
    assert_eq!(new, current, "{sessions:?}");
    say(&mut ada, "mciasctl", "not-mine").await;
    let over = program.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
}
