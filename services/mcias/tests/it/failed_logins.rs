//! What an account's failed logins close it to, told to administrators, who may open it.

use std::time::Duration;

use mc_proto::mcias::v1::{
    Account, ClearFailedLoginsRequest, FailedLogins, GetAccountRequest, ListAuditRequest,
};
use mc_testkit::clock::FakeClock;
use tonic::Code;

use crate::{
    admin_pages::chief,
    mciasctl::Home,
    running::{Clients, PASSWORD, Running},
};

const CLEAR: &str = "/admin/account/clear-failures";

async fn get(admin: &mut Clients, name: &str) -> Account {
    let request = GetAccountRequest {
        name: name.to_owned(),
    };
    let got = admin.accounts.get_account(request).await;
    got.unwrap().into_inner()
}

async fn clear(admin: &mut Clients, name: &str) -> Result<u32, Code> {
    let request = ClearFailedLoginsRequest {
        name: name.to_owned(),
    };
    let cleared = admin.accounts.clear_failed_logins(request).await;
    let cleared = cleared.map(|answer| answer.into_inner().failures);
    cleared.map_err(|status| status.code())
}

#[tokio::test]
async fn an_administrator_sees_who_has_to_wait_and_ends_it() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.system("robot").await;
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    for wait in [0, 1] {
        clock.advance(Duration::from_secs(wait));
        stranger.log_in("ada", "a guess", "").await.unwrap_err();
    }
    running.log_in("ada", "a slip").await.unwrap_err();
    let failed = get(&mut admin, "ada").await.failed_logins;
    let seconds = |failed: &FailedLogins| {
        let at = |at: &Option<prost_types::Timestamp>| at.as_ref().map_or(0, |at| at.seconds);
        at(&failed.closed_until) - at(&failed.last)
    };
    let mut told: Vec<_> = failed
        .iter()
        .map(|failed| (failed.network.as_str(), failed.failures, seconds(failed)))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("", 2, 3), ("127.0.0.1/32", 1, 1)]);
    let early = stranger.log_in("ada", PASSWORD, "").await.unwrap_err();
    assert_eq!(early.code(), Code::ResourceExhausted);

    assert_eq!(clear(&mut admin, "ada").await, Ok(3));
    assert!(stranger.log_in("ada", PASSWORD, "").await.is_ok());
    assert!(get(&mut admin, "ada").await.failed_logins.is_empty());
    for (description, name, wanted) in [
        ("again", "ada", Ok(0)),
        ("nobody", "eve", Err(Code::NotFound)),
        ("a program", "robot", Err(Code::FailedPrecondition)),
    ] {
        assert_eq!(clear(&mut admin, name).await, wanted, "{description}");
    }
    let request = ListAuditRequest {
        action: "ClearFailedLogins".to_owned(),
        ..ListAuditRequest::default()
    };
    let rows = admin.admin.list_audit(request).await.unwrap().into_inner();
    let first = rows.entries.last().unwrap();
    let wanted = ("ada", "admin", "OK", r#"{"failures":3}"#);
    let told = (
        &*first.resource,
        &*first.account,
        &*first.outcome,
        &*first.detail,
    );
    assert_eq!((told, rows.entries.len()), (wanted, 4));
}

#[tokio::test]
async fn what_is_over_is_not_told() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    stranger.log_in("ada", "a guess", "").await.unwrap_err();
    clock.advance(Duration::from_secs(1));
    let failed = get(&mut admin, "ada").await.failed_logins;
    let closed: Vec<_> = failed.iter().map(|failed| failed.closed_until).collect();
    assert_eq!(closed, [None], "open again, and told");
    assert!(stranger.log_in("ada", PASSWORD, "").await.is_ok());
    assert!(get(&mut admin, "ada").await.failed_logins.is_empty());
}

#[tokio::test]
async fn the_tool_and_the_page_do_it_too() {
    let running = Running::start().await;
    let mut api = running.admin().await;
    api.person("ada", "user").await;
    let mut stranger = running.clients_from("127.0.0.2", None).await;
    let mut wrong = async || {
        stranger.log_in("ada", "a guess", "").await.unwrap_err();
    };
    let home = Home::of(&running);
    home.log_in("admin", &running.password).await;
    wrong().await;
    let shown = home.run("account show ada", "").await;
    let line = "failed logins   1 from networks that it is not used from";
    assert!(shown.out.contains(line), "{shown:?}");
    let unlocked = home.run("account unlock ada --yes", "").await;
    assert!(
        unlocked.out.contains("1 failed login of ada"),
        "{unlocked:?}"
    );
    let shown = home.run("account show ada", "").await;
    assert!(!shown.out.contains("failed logins"), "{shown:?}");
    let locked = home.run("account update ada --status locked", "").await;
    assert_eq!(locked.code, 0, "{locked:?}");
    let unlocked = home.run("account clear-failures ada --yes", "").await;
    assert!(unlocked.out.contains("reset-password"), "{unlocked:?}");
    let active = home.run("account update ada --status active", "").await;
    assert_eq!(active.code, 0, "{active:?}");

    wrong().await;
    let mut admin = chief(&running).await;
    let page = "/admin/account?name=ada";
    let shown = admin.get(page).await.body;
    assert!(shown.contains("1 from networks that"), "{shown}");
    let done = admin.submit(page, CLEAR, &[("name", "ada")]).await;
    assert_eq!(done.location(), page);
    let shown = admin.get(page).await.body;
    assert!(!shown.contains("1 from networks that"), "{shown}");
    assert!(shown.contains("are forgotten."), "{shown}");
}
