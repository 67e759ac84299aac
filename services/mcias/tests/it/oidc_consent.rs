//! Logging in to a program on one's own machine: any other there may pretend to be it, so that each login is asked for.

use std::time::Duration;

use mc_proto::mcias::v1::{PutServiceRequest, Service};
use mc_testkit::clock::FakeClock;

use crate::{
    oidc_client::{Party, REDIRECT, begun, request, text},
    running::{Clients, PASSWORD, Running},
    web::{Answer, Browser, Http},
};

/// Where a program of the test listens.
const HERE: &str = "http://127.0.0.1:51004/cb";
const HERE_6: &str = "http://[::1]:51004/cb";

/// A client on its user's machine.
async fn register(running: &Running, admin: &mut Clients, name: &str, public: bool) -> Party {
    let uris = ["http://127.0.0.1/cb", "http://[::1]/cb", HERE, REDIRECT];
    let service = Service {
        name: name.to_owned(),
        redirect_uris: uris.map(str::to_owned).to_vec(),
        public_client: public,
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    let made = admin.admin.put_service(put).await.unwrap().into_inner();
    Party {
        http: Http::new(running),
        id: name.to_owned(),
        secret: (!public).then_some(made.client_secret),
    }
}

fn at(client: &str, uri: &str, more: &[(&str, &str)]) -> String {
    request(client, &[&[("redirect_uri", uri)], more].concat())
}

/// Where the question's form leads.
fn action(question: &Answer) -> String {
    let rest = question.body.split(r#"action="/oauth/authorize/"#).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{}: {}", question.status, question.body));
    let path = rest.split('"').next().unwrap().replace("&#38;", "&");
    format!("/oauth/authorize/{path}")
}

/// What comes of a question that is answered.
async fn answered(browser: &mut Browser, path: &str, more: &[(&str, &str)]) -> Answer {
    let question = browser.get(path).await;
    let (token, shown) = (question.field("csrf_token"), question.field("shown"));
    let fields = [&[("csrf_token", &*token), ("shown", &*shown)], more].concat();
    browser.post(&action(&question), &fields).await
}

#[tokio::test]
async fn a_program_on_a_machine_is_logged_in_by_a_click_alone() {
    let (running, mut admin, _, mut browser) = begun().await;
    let app = register(&running, &mut admin, "app", true).await;
    register(&running, &mut admin, "server", false).await;
    for (description, client, uri, asks) in [
        ("a program", "app", HERE, true),
        ("the same once more", "app", HERE, true),
        ("by IPv6", "app", HERE_6, true),
        ("elsewhere", "app", REDIRECT, false),
        ("with a secret", "server", HERE, false),
    ] {
        let silent = browser.get(&at(client, uri, &[("prompt", "none")])).await;
        let told = silent.parameter("error");
        let wanted = asks.then_some("interaction_required");
        assert_eq!(told.as_deref(), wanted, "{description}");
        assert_eq!(silent.parameter("code").is_none(), asks, "{description}");
        let answer = browser.get(&at(client, uri, &[])).await;
        assert_eq!(answer.status == 200, asks, "{description}");
        if !asks {
            assert!(answer.parameter("code").is_some(), "{description}");
            continue;
        }
        for name in ["<strong>app</strong>", "<strong>ada</strong>"] {
            assert!(answer.body.contains(name), "{description}: {}", answer.body);
        }
        let policy = answer.header("content-security-policy");
        let leads = if uri == HERE_6 {
            "http:"
        } else {
            "http://127.0.0.1:51004"
        };
        let leads = format!("form-action 'self' {leads}");
        assert!(policy.ends_with(&leads), "{description}: {policy}");
        let refused = answered(&mut browser, &at(client, uri, &[]), &[("refuse", "yes")]).await;
        assert!(refused.location().starts_with(uri), "{description}");
        assert_eq!(refused.parameter("error").unwrap(), "access_denied");
        assert_eq!(refused.parameter("state").unwrap(), "a state");
        let given = answered(&mut browser, &at(client, uri, &[]), &[]).await;
        assert!(given.location().starts_with(uri), "{description}");
        let code = given.parameter("code").unwrap();
        let tokens = app.exchange(&code, &[("redirect_uri", uri)]).await;
        assert_eq!(tokens.status, 200, "{description}: {}", tokens.body);
        assert!(!text(&tokens.json(), "id_token").is_empty());
    }
    let sql = "SELECT count(*) FROM audit WHERE outcome = 'PERMISSION_DENIED' AND detail LIKE '%the person refused%'";
    let rows: i64 = running.database().query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 3, "each refusal is in the log");
}

#[tokio::test]
async fn nobody_else_clicks() {
    let (running, mut admin, _, mut browser) = begun().await;
    register(&running, &mut admin, "app", true).await;
    admin.person("bob", "user").await;
    let mut other = Browser::new(&running);
    other.log_in("bob", PASSWORD).await;
    let question = browser.get(&at("app", HERE, &[])).await;
    let path = action(&question);
    let (own, bobs) = (
        question.field("csrf_token"),
        other.get(&at("app", HERE, &[])).await.field("csrf_token"),
    );
    for (description, fields, site) in [
        ("no token", &[][..], "same-origin"),
        ("somebody else's", &[("csrf_token", &*bobs)], "same-origin"),
        ("from another site", &[("csrf_token", &*own)], "cross-site"),
    ] {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", site),
        ];
        let body = crate::web::encoded(fields);
        let answer = browser.send("POST", &path, &headers, &body).await;
        assert_eq!(answer.status, 403, "{description}: {}", answer.body);
    }
    assert_eq!(browser.get(&path).await.status, 405, "a link");
    // What the form says is looked at as the request was.
    let elsewhere = path.replace("51004", "51004%40evil.example%3A1");
    let fields = [("csrf_token", &*own)];
    assert_eq!(browser.post(&elsewhere, &fields).await.status, 400);
    let sql = "SELECT count(*) FROM oidc_code";
    let codes: i64 = running.database().query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(codes, 0);
    // Who is not logged in logs in first; that leads to the question, and nowhere else.
    let mut new = Browser::new(&running);
    let login = new.get(&at("app", HERE, &[])).await.location().to_owned();
    let page = new.get(&login).await;
    let policy = page.header("content-security-policy");
    // It may be sent back at once, if only to be told that the person may not.
    let leads = "form-action 'self' http://127.0.0.1:51004";
    assert!(policy.ends_with(leads), "{policy}");
    let fields = [("account", "ada"), ("password", PASSWORD)];
    let next = new.submit(&login, &login, &fields).await;
    let given = answered(&mut new, next.location(), &[]).await;
    assert!(given.parameter("code").is_some());
    // Whose login has ended meanwhile does not go on by a click.
    browser.submit("/", "/logout", &[]).await;
    assert_eq!(
        browser.post(&path, &[("csrf_token", &*own)]).await.status,
        403
    );
}

#[tokio::test]
async fn a_public_client_on_this_machine_is_answered_at_any_port() {
    let (running, mut admin, _, mut browser) = begun().await;
    let app = register(&running, &mut admin, "app", true).await;
    register(&running, &mut admin, "server", false).await;
    let other = "http://127.0.0.1:51009/cb";
    for (description, exchanged, fine) in [
        ("another port than before", HERE, false),
        ("where the code went", other, true),
    ] {
        let answer = answered(&mut browser, &at("app", other, &[]), &[]).await;
        assert!(answer.location().starts_with(other), "{description}");
        let code = answer.parameter("code").unwrap();
        let tokens = app.exchange(&code, &[("redirect_uri", exchanged)]).await;
        assert_eq!(tokens.status == 200, fine, "{description}: {}", tokens.body);
    }
    for (client, uri) in [
        ("app", "http://localhost:51004/cb"),
        ("app", "http://127.0.0.1:51004/other"),
        ("app", "http://127.0.0.1:51004@evil.example/cb"),
        ("app", "http://127.0.0.1:0/cb"),
        ("app", "http://127.0.0.1:99999/cb"),
        ("server", other),
    ] {
        let answer = browser.get(&at(client, uri, &[])).await;
        assert_eq!(answer.status, 400, "{client}: {uri}");
    }
}

/// What the person saw is what the click is good for, and nothing else.
#[tokio::test]
async fn an_answer_is_to_what_was_asked_alone() {
    let clock = FakeClock::new();
    let running = Running::start_at(&clock).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let app = register(&running, &mut admin, "app", true).await;
    register(&running, &mut admin, "other", true).await;
    let (mut browser, mut second) = (Browser::new(&running), Browser::new(&running));
    browser.log_in("ada", PASSWORD).await;
    second.log_in("ada", PASSWORD).await;
    let question = browser.get(&at("app", HERE, &[])).await;
    let (path, shown) = (action(&question), question.field("shown"));
    let own = question.field("csrf_token");
    let seconds = second.get(&at("app", HERE, &[])).await;
    let of_the_second = (seconds.field("csrf_token"), seconds.field("shown"));
    let asked = |change: &[(&str, &str)]| {
        at("app", HERE, change).replacen("/oauth/authorize?", "/oauth/authorize/consent?", 1)
    };
    assert_eq!(asked(&[]), path, "what the form leads to");
    let cut = &shown[..shown.len() - 1];
    for (description, path, shown) in [
        ("another client", asked(&[("client_id", "other")]), &*shown),
        (
            "another address",
            asked(&[("redirect_uri", HERE_6)]),
            &shown,
        ),
        (
            "one that nobody is asked about",
            asked(&[("redirect_uri", REDIRECT)]),
            &shown,
        ),
        (
            "another port",
            asked(&[("redirect_uri", "http://127.0.0.1:51005/cb")]),
            &shown,
        ),
        ("more scopes", asked(&[("scope", "openid email")]), &shown),
        ("another state", asked(&[("state", "another")]), &shown),
        ("another nonce", asked(&[("nonce", "another")]), &shown),
        (
            "another challenge",
            asked(&[("code_challenge", &"a".repeat(43))]),
            &shown,
        ),
        (
            "one parameter more",
            asked(&[("prompt", "consent")]),
            &shown,
        ),
        ("nothing that was shown", asked(&[]), ""),
        ("nonsense", asked(&[]), "!"),
        ("a part", asked(&[]), cut),
        (
            "what another session was shown",
            asked(&[]),
            &of_the_second.1,
        ),
    ] {
        for more in [&[][..], &[("refuse", "yes")]] {
            let fields = [&[("csrf_token", &*own), ("shown", shown)], more].concat();
            let answer = browser.post(&path, &fields).await;
            assert_eq!(answer.status, 400, "{description}: {}", answer.body);
            let text = "Begin the login again in";
            assert!(answer.body.contains(text), "{description}: {}", answer.body);
        }
    }
    let fields = [("csrf_token", &*of_the_second.0), ("shown", &*shown)];
    let answer = second.post(&path, &fields).await;
    assert_eq!(answer.status, 400, "by another session of the same person");
    let count = |sql: &str| -> i64 {
        let database = running.database();
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM oidc_code"), 0);
    let refused =
        "SELECT count(*) FROM audit WHERE outcome = 'PERMISSION_DENIED' AND action LIKE '/oauth/%'";
    assert_eq!(count(refused), 27, "each is in the log");
    // Once more is another code for the same program, which has the one verifier.
    let fields = [("csrf_token", &*own), ("shown", &*shown)];
    let codes = [
        browser
            .post(&path, &fields)
            .await
            .parameter("code")
            .unwrap(),
        browser
            .post(&path, &fields)
            .await
            .parameter("code")
            .unwrap(),
    ];
    assert_ne!(codes[0], codes[1]);
    let change = [("redirect_uri", HERE)];
    let thief = [change[0], ("code_verifier", &*"b".repeat(43))];
    assert_eq!(app.exchange(&codes[1], &thief).await.status, 400);
    assert_eq!(app.exchange(&codes[0], &change).await.status, 200);
    // For a while.
    let question = browser.get(&at("app", HERE, &[])).await;
    let (own, shown) = (question.field("csrf_token"), question.field("shown"));
    let fields = [("csrf_token", &*own), ("shown", &*shown)];
    clock.advance(Duration::from_secs(299));
    assert_eq!(browser.post(&path, &fields).await.status, 303);
    clock.advance(Duration::from_secs(1));
    assert_eq!(browser.post(&path, &fields).await.status, 400, "too late");
}
