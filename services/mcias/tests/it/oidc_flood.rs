//! What anybody makes up at the endpoints of OpenID Connect, over and over: the audit log stays readable, and says how much there was.

use std::time::Duration;

use mc_testkit::clock::FakeClock;

use crate::{
    oidc_client::{error, register, request, text},
    running::{PASSWORD, Running},
    web::Browser,
};

/// Of each kind: all together are far beyond the bound.
const TIMES: usize = 20;

fn rows(running: &Running, what: &str) -> usize {
    let sql = format!("SELECT count(*) FROM audit WHERE action LIKE '/oauth/%' AND {what}");
    let count: i64 = running
        .database()
        .query_row(&sql, [], |row| row.get(0))
        .unwrap();
    count.try_into().unwrap()
}

#[tokio::test]
async fn what_anybody_makes_up_fills_no_log() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let app = register(&running, &mut admin, "app", true).await;
    let mut browser = Browser::new(&running);
    browser.log_in("ada", PASSWORD).await;
    let spent = app.code(&mut browser).await;
    assert_eq!(app.exchange(&spent, &[]).await.status, 200);
    assert_eq!(error(&app.exchange(&spent, &[]).await), "invalid_grant");
    let mut liar = wiki.clone();
    liar.secret = Some("a guess".to_owned());
    let mut nobody = app.clone();
    nobody.id = "nobody".to_owned();
    let family = "a".repeat(43);
    let refresh = format!("{family}.{family}");
    let before = rows(&running, "true");
    for n in 0..TIMES {
        let junk = format!("made-up-{n}");
        for (description, answer, wanted) in [
            ("a code", app.exchange(&junk, &[]).await, "invalid_grant"),
            (
                "a code that a browser brought to a client with a secret",
                wiki.exchange(&junk, &[]).await,
                "invalid_grant",
            ),
            (
                "a code that was used",
                app.exchange(&spent, &[]).await,
                "invalid_grant",
            ),
            ("no code", app.exchange("", &[]).await, "invalid_request"),
            (
                "without a verifier",
                app.exchange(&junk, &[("code_verifier", "")]).await,
                "invalid_request",
            ),
            (
                "a refresh token",
                app.refresh(&refresh).await,
                "invalid_grant",
            ),
            (
                "a secret",
                liar.exchange(&junk, &[]).await,
                "invalid_client",
            ),
            (
                "a client",
                nobody.exchange(&junk, &[]).await,
                "invalid_client",
            ),
        ] {
            assert_eq!(error(&answer), wanted, "{description}");
        }
        let revoked = app.ask("/oauth/revoke", &[("token", &refresh)]).await;
        assert_eq!(revoked.status, 200);
    }
    assert_eq!(rows(&running, "true") - before, 60, "a minute's");

    // What changes something has its row, however much else there is.
    let code = wiki.code(&mut browser).await;
    let tokens = wiki.exchange(&code, &[]).await.json();
    let first = text(&tokens, "refresh_token");
    clock.advance(Duration::from_secs(2));
    assert_eq!(wiki.refresh(first).await.status, 200);
    assert_eq!(error(&wiki.refresh(first).await), "invalid_grant");
    let of_wiki = "action = '/oauth/token' AND detail LIKE '%\"client\":\"wiki\"%'";
    let done = rows(&running, &format!("{of_wiki} AND outcome = 'OK'"));
    assert_eq!(done, 2);
    let stolen = rows(
        &running,
        &format!("{of_wiki} AND detail LIKE '%\"revoked\":true%'"),
    );
    assert_eq!(stolen, 1, "a refresh token that came twice");

    clock.advance(Duration::from_secs(60));
    assert_eq!(error(&app.exchange("one more", &[]).await), "invalid_grant");
    let told: Vec<String> = {
        let db = running.database();
        let sql = "SELECT detail FROM audit WHERE action = 'audit.suppressed'";
        let mut rows = db.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let left_out = TIMES * 9 - 60;
    let wanted = format!(r#"{{"calls":{left_out},"network":"127.0.0.1/32"}}"#);
    assert_eq!(told, [wanted]);
}

/// A client that was registered at another address than it sends: the operator sees why nobody gets there.
#[tokio::test]
async fn who_can_be_sent_nowhere_is_in_the_log() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    register(&running, &mut admin, "wiki", false).await;
    let mut browser = Browser::new(&running);
    for (description, client, uri, row) in [
        (
            "another address",
            "wiki",
            "https://wiki.example/other",
            r#"{"client":"wiki","redirect_uri":"https://wiki.example/other","message":"the redirect URI is not one of the client's"}"#,
        ),
        (
            "another client",
            "nobody",
            "https://wiki.example/",
            r#"{"client":"nobody","redirect_uri":"https://wiki.example/","message":"the client is not known"}"#,
        ),
    ] {
        let path = request(client, &[("redirect_uri", uri)]);
        assert_eq!(browser.get(&path).await.status, 400, "{description}");
        let sql = "SELECT resource, outcome, detail FROM audit WHERE action = '/oauth/authorize' ORDER BY seq DESC LIMIT 1";
        let row = (
            client.to_owned(),
            "INVALID_ARGUMENT".to_owned(),
            row.to_owned(),
        );
        let found: (String, String, String) = running
            .database()
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!(found, row, "{description}");
    }
    for n in 0..70 {
        let uri = format!("https://evil.example/{n}");
        let path = request("wiki", &[("redirect_uri", &uri)]);
        assert_eq!(browser.get(&path).await.status, 400);
    }
    assert_eq!(rows(&running, "true"), 60, "a minute's");
}
