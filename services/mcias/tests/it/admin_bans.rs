//! Banned networks, on a page for administrators.

use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Code;

use crate::{
    admin_pages::chief,
    running::{PASSWORD, Running},
};

const LIST: &str = "/admin/bans";
const LIFT: &str = "/admin/ban/lift";

/// Bans of these networks, for an hour or since an hour.
fn ban(running: &Running, networks: impl IntoIterator<Item = String>, over: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = now.as_secs().cast_signed() + if over { -3600 } else { 3600 };
    let db = running.database();
    for network in networks {
        let sql = "INSERT INTO ban VALUES (?1, ?2, 3, 'failed logins')";
        db.execute(sql, (network, until)).unwrap();
    }
}

#[tokio::test]
async fn an_administrator_lets_a_network_in_by_a_button() {
    let mut running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    ban(&running, ["127.0.0.9/32".to_owned()], false);
    ban(&running, ["192.0.2.1/32".to_owned()], true);
    running.restart().await;
    let mut there = running.clients_from("127.0.0.9", None).await;
    let refused = there.log_in("ada", PASSWORD, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    let mut admin = chief(&running).await;
    let shown = admin.get(LIST).await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    for text in ["127.0.0.9/32", "in 59m", "ban 3 of this network"] {
        assert!(shown.body.contains(text), "{text}: {}", shown.body);
    }
    assert!(!shown.body.contains("192.0.2.1"), "that is over");
    for (description, network, status, text) in [
        ("nothing", "", 422, "write an address or a network"),
        (
            "no network",
            "everybody",
            422,
            "write an address or a network",
        ),
        ("one that is not banned", "192.0.2.7", 404, "no ban of"),
        ("a larger one", "127.0.0.0/8", 404, "no ban of"),
    ] {
        let refused = admin.submit(LIST, LIFT, &[("network", network)]).await;
        assert_eq!(refused.status, status, "{description}");
        assert!(
            refused.body.contains(text),
            "{description}: {}",
            refused.body
        );
        assert!(refused.body.contains("127.0.0.9/32"), "{description}");
    }
    let network = [("network", "127.0.0.9/32")];
    assert_eq!(admin.post(LIFT, &network).await.status, 403, "no token");
    let lifted = admin.submit(LIST, LIFT, &network).await;
    assert_eq!(lifted.location(), LIST);
    let shown = admin.get(LIST).await.body;
    assert!(shown.contains("127.0.0.9/32 is let in again."), "{shown}");
    assert!(shown.contains("No network is banned."), "{shown}");
    assert!(there.log_in("ada", PASSWORD, "").await.is_ok());
    let sql = "SELECT group_concat(outcome, ' ') FROM (SELECT outcome FROM audit
        WHERE action = '/admin/ban/lift' AND name = 'admin' ORDER BY seq)";
    let db = running.database();
    let outcomes: String = db.query_row(sql, [], |row| row.get(0)).unwrap();
    let wanted = "INVALID_ARGUMENT INVALID_ARGUMENT NOT_FOUND NOT_FOUND OK";
    assert_eq!(outcomes, wanted);
}

#[tokio::test]
async fn bans_are_listed_a_page_at_a_time() {
    let running = Running::start().await;
    let networks = || (100..220).map(|n| format!("192.0.2.{n}/32"));
    ban(&running, networks(), false);
    let mut admin = chief(&running).await;
    let (mut seen, mut path) = (Vec::new(), LIST.to_owned());
    loop {
        let list = admin.get(&path).await.body;
        assert_eq!(list.contains("First page"), path != LIST);
        let rows = list.split(r#"name="network" value=""#).skip(1);
        seen.extend(rows.map(|rest| rest.split('"').next().unwrap().to_owned()));
        let Some((before, _)) = list.split_once(r#"" rel="next""#) else {
            break;
        };
        let next = before.rsplit(r#"href=""#).next().unwrap();
        assert_ne!(next, path);
        path = next.replace("&#38;", "&");
    }
    assert_eq!(seen, networks().collect::<Vec<_>>());
}
