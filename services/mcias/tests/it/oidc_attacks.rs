//! What others try with OpenID Connect: another's code, a code twice, an address that is nearly right.

use mc_proto::mcias::v1::{PutServiceRequest, Service};

use crate::{
    oidc::claims,
    oidc_client::{
        AFTERWARDS, CHALLENGE, PLAIN, REDIRECT, VERIFIER, begun, error, register, request, text,
    },
    web::{Browser, encoded},
};

#[tokio::test]
async fn a_code_is_good_once_for_a_minute_for_its_client_and_verifier() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let lab = register(&running, &mut admin, "lab", false).await;
    let app = register(&running, &mut admin, "app", true).await;
    let other = "https://wiki.example:8443/Callback";
    let long = "a".repeat(129);
    for (description, change) in [
        ("another verifier", ("code_verifier", long[..43].to_owned())),
        (
            "the challenge itself",
            ("code_verifier", CHALLENGE.to_owned()),
        ),
        (
            "a short verifier",
            ("code_verifier", VERIFIER[..42].to_owned()),
        ),
        ("a long verifier", ("code_verifier", long.clone())),
        ("another address", ("redirect_uri", other.to_owned())),
    ] {
        let code = wiki.code(&mut browser).await;
        let change = [(change.0, change.1.as_str())];
        let refused = wiki.exchange(&code, &change).await;
        assert_eq!(error(&refused), "invalid_grant", "{description}");
        let after = wiki.exchange(&code, &[]).await;
        assert_eq!(
            error(&after),
            "invalid_grant",
            "{description}: it had its try"
        );
    }
    for missing in ["code_verifier", "redirect_uri", "code", "grant_type"] {
        let code = wiki.code(&mut browser).await;
        let refused = wiki.exchange(&code, &[(missing, "")]).await;
        assert_eq!(error(&refused), "invalid_request", "{missing}");
    }
    let code = wiki.code(&mut browser).await;
    for thief in [&lab, &app] {
        assert_eq!(error(&thief.exchange(&code, &[]).await), "invalid_grant");
    }
    let tokens = wiki.exchange(&code, &[]).await;
    assert_eq!(tokens.status, 200, "another's try has not cost it anything");
    let access = text(&tokens.json(), "access_token").to_owned();
    assert!(wiki.knows(&access).await);
    assert_eq!(error(&lab.exchange(&code, &[]).await), "invalid_grant");
    assert!(wiki.knows(&access).await, "another client ends nothing");
    assert_eq!(
        error(&wiki.exchange(&code, &[]).await),
        "invalid_grant",
        "twice"
    );
    assert!(
        !wiki.knows(&access).await,
        "what a code gave that came twice is gone"
    );
    let refresh = text(&tokens.json(), "refresh_token").to_owned();
    assert_eq!(error(&wiki.refresh(&refresh).await), "invalid_grant");
    let code = wiki.code(&mut browser).await;
    let aged = "UPDATE oidc_code SET expires_s = expires_s - 60";
    running.database().execute(aged, []).unwrap();
    assert_eq!(
        error(&wiki.exchange(&code, &[]).await),
        "invalid_grant",
        "late"
    );
    assert_eq!(error(&wiki.exchange("x", &[]).await), "invalid_grant");
}

/// Whoever changes the address in his browser, before the login or during it, is given a code of the login that he has.
#[tokio::test]
async fn a_request_for_another_login_that_was_changed_says_how_old_the_login_is() {
    let (running, _admin, wiki, mut browser) = begun().await;
    let aged = "UPDATE session SET created_s = created_s - 600 WHERE service = 'mcias'";
    running.database().execute(aged, []).unwrap();
    let sql = "SELECT session.created_s FROM session JOIN account ON account.id = session.account
        WHERE service = 'mcias' AND name = 'ada'";
    let db = running.database();
    let old: i64 = db.query_row(sql, [], |row| row.get(0)).unwrap();
    for (description, asked) in [
        ("a login", ("prompt", "login")),
        ("no age", ("max_age", "0")),
        ("an age", ("max_age", "60")),
    ] {
        let led = browser.get(&request("wiki", &[asked])).await;
        assert!(led.location().ends_with("&again=1"), "{description}");
        // Where the login page goes on to, without the login; and a request that never said it.
        let on = led.parameter("next").unwrap();
        let name = format!("{}=", asked.0);
        let kept: Vec<&str> = on.split('&').filter(|p| !p.starts_with(&name)).collect();
        for (what, path) in [("on", kept.join("&")), ("never said", request("wiki", &[]))] {
            let code = browser.get(&path).await.parameter("code").unwrap();
            let tokens = wiki.exchange(&code, &[]).await.json();
            let said = claims(text(&tokens, "id_token"))["auth_time"].as_i64();
            assert_eq!(said, Some(old), "{description}, {what}");
        }
    }
    // One that is left as it is: an age is asked for when the code is given, whatever login there is.
    let path = request("wiki", &[("max_age", "60")]);
    let on = browser.get(&path).await.parameter("next").unwrap();
    let again = browser.get(&on).await;
    assert!(
        again.location().starts_with("/login?"),
        "{}",
        again.location()
    );
}

#[tokio::test]
async fn a_code_goes_with_the_address_that_it_was_sent_to() {
    let (_running, mut admin, wiki, mut browser) = begun().await;
    let code = wiki.code(&mut browser).await;
    let service = Service {
        name: "wiki".to_owned(),
        redirect_uris: vec![PLAIN.to_owned()],
        ..Service::default()
    };
    let put = PutServiceRequest {
        service: Some(service),
        new_secret: false,
    };
    admin.admin.put_service(put).await.unwrap();
    let refused = wiki.exchange(&code, &[]).await;
    assert_eq!(error(&refused), "invalid_grant");
    assert!(refused.body.contains("not registered any more"));
}

#[tokio::test]
async fn nobody_is_sent_to_where_the_client_is_not() {
    let (running, _admin, _wiki, mut browser) = begun().await;
    let nobody = Browser::new(&running);
    for (description, uri) in [
        (
            "longer",
            "https://wiki.example:8443/Callback?from=mcias&x=1",
        ),
        (
            "with a path more",
            "https://wiki.example:8443/Callback/?from=mcias",
        ),
        ("shorter", "https://wiki.example:8443/Callback"),
        (
            "a path above",
            "https://wiki.example:8443/Callback/../Callback?from=mcias",
        ),
        (
            "in small letters",
            "https://wiki.example:8443/callback?from=mcias",
        ),
        (
            "in capitals",
            "HTTPS://WIKI.EXAMPLE:8443/Callback?from=mcias",
        ),
        (
            "another port",
            "https://wiki.example:8444/Callback?from=mcias",
        ),
        ("no port", "https://wiki.example/Callback?from=mcias"),
        ("no TLS", "http://wiki.example:8443/Callback?from=mcias"),
        (
            "another host",
            "https://wiki.example.evil.example:8443/Callback?from=mcias",
        ),
        (
            "a user",
            "https://wiki.example:8443@evil.example/Callback?from=mcias",
        ),
        (
            "a part encoded",
            "https://wiki.example:8443/%43allback?from=mcias",
        ),
        (
            "all encoded",
            "https%3A%2F%2Fwiki.example%3A8443%2FCallback%3Ffrom%3Dmcias",
        ),
        (
            "a fragment",
            "https://wiki.example:8443/Callback?from=mcias#x",
        ),
        (
            "a space more",
            "https://wiki.example:8443/Callback?from=mcias ",
        ),
        (
            "a line more",
            "https://wiki.example:8443/Callback?from=mcias\n",
        ),
        (
            "a backslash",
            "https://wiki.example:8443\\Callback?from=mcias",
        ),
        ("one for logouts", AFTERWARDS),
        ("none", ""),
    ] {
        for browser in [&mut browser, &mut nobody.clone()] {
            let path = request("wiki", &[("redirect_uri", uri)]);
            let answer = browser.get(&path).await;
            assert_eq!(answer.status, 400, "{description}");
            assert_eq!(answer.header("location"), "", "{description}");
            assert!(answer.body.contains("<!doctype html>"), "{description}");
        }
    }
    for (description, client) in [("none", ""), ("unknown", "nowhere"), ("no client", "mcias")] {
        let answer = browser.get(&request(client, &[])).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (400, ""),
            "{description}"
        );
    }
    let twice = format!(
        "{}&{}",
        request("wiki", &[]),
        encoded(&[("redirect_uri", REDIRECT)])
    );
    assert_eq!(browser.get(&twice).await.status, 400);
    let long = request("wiki", &[("state", &"x".repeat(2000))]);
    assert_eq!(browser.get(&long).await.status, 400);
    // What would be too long within the login page's address is refused before, or the way back would be lost there.
    for (description, character) in [("as it came", "%"), ("written anew", "!")] {
        let state = character.repeat(350);
        let encoded = encoded(&[("state", &state)]).replace("%21", "!");
        let long = format!("{}&{encoded}", request("wiki", &[("state", "")]));
        for who in [&mut browser, &mut nobody.clone()] {
            let refused = who.get(&long).await;
            assert!(refused.location().starts_with(REDIRECT), "{description}");
            assert_eq!(refused.parameter("error").unwrap(), "invalid_request");
            assert_eq!(refused.parameter("state").unwrap(), state, "{description}");
        }
    }
    // The login page takes no address for good that the client has not.
    let evil = request("wiki", &[("redirect_uri", "https://evil.example/")]);
    let login = format!("/login?{}", encoded(&[("next", &evil)]));
    let page = nobody.clone().get(&login).await;
    assert!(
        page.header("content-security-policy")
            .ends_with("form-action 'self'")
    );
    for (description, uri, client) in [
        ("longer", "https://wiki.example/bye?x", "wiki"),
        ("another host", "https://evil.example/bye", "wiki"),
        ("one for codes", REDIRECT, "wiki"),
        ("nobody's", AFTERWARDS, ""),
        ("another's", AFTERWARDS, "mcias"),
    ] {
        let fields = [("post_logout_redirect_uri", uri), ("client_id", client)];
        let answer = browser
            .get(&format!("/oauth/logout?{}", encoded(&fields)))
            .await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (400, ""),
            "{description}"
        );
    }
    assert_eq!(
        browser.get("/").await.status,
        200,
        "and nobody was logged out"
    );
}

#[tokio::test]
async fn requests_that_are_less_safe_are_refused_where_the_client_hears_it() {
    let (_running, _admin, _wiki, mut browser) = begun().await;
    for (description, change, wanted) in [
        (
            "plain",
            [("code_challenge_method", "plain")],
            "invalid_request",
        ),
        (
            "plain by silence",
            [("code_challenge_method", "")],
            "invalid_request",
        ),
        ("no challenge", [("code_challenge", "")], "invalid_request"),
        (
            "implicit",
            [("response_type", "token")],
            "unsupported_response_type",
        ),
        ("no openid", [("scope", "profile")], "invalid_scope"),
        ("an object", [("request", "x.y.z")], "request_not_supported"),
    ] {
        let answer = browser.get(&request("wiki", &change)).await;
        assert!(answer.location().starts_with(REDIRECT), "{description}");
        assert_eq!(
            answer.parameter("error").as_deref(),
            Some(wanted),
            "{description}"
        );
        assert_eq!(
            answer.parameter("state").as_deref(),
            Some("a state"),
            "{description}"
        );
        assert_eq!(answer.parameter("code"), None, "{description}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_odd_is_refused() {
    let (_running, _admin, wiki, _browser) = begun().await;
    let big = "x".repeat(20 * 1024);
    let refused = wiki.exchange(&big, &[]).await;
    assert_eq!(
        (refused.status, &*error(&refused)),
        (413, "invalid_request")
    );
    let json = [("content-type", "application/json")];
    let refused = wiki.http.ask("POST", "/oauth/token", &json, "{}").await;
    assert_eq!(error(&refused), "invalid_request");
    let answer = wiki.http.ask("GET", "/oauth/token", &[], "").await;
    assert_eq!(answer.status, 405);
    let refused = wiki
        .ask("/oauth/token", &[("grant_type", "password")])
        .await;
    assert_eq!(error(&refused), "unsupported_grant_type");
    let refused = wiki.http.post("/oauth/token", &[], &[]).await;
    assert_eq!(error(&refused), "invalid_client");
}
