//! What others try with OpenID Connect: another's code, a code twice, an address that is nearly right, a stolen refresh token.

use mcdsl::auth::token::Signer;
use serde_json::json;

use crate::{
    oidc_client::{
        AFTERWARDS, CHALLENGE, Party, REDIRECT, VERIFIER, begun, error, register, request, text,
    },
    running::{ISSUER, PASSWORD},
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
async fn clients_are_who_they_say() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let app = register(&running, &mut admin, "app", true).await;
    let with = |party: &Party, secret: Option<&str>| Party {
        secret: secret.map(str::to_owned),
        ..party.clone()
    };
    let lab = register(&running, &mut admin, "lab", false).await;
    let right = wiki.secret.clone().unwrap();
    for (description, party) in [
        ("a wrong secret", with(&wiki, Some("wrong"))),
        ("none", with(&wiki, None)),
        ("another's", with(&wiki, lab.secret.as_deref())),
        ("in capitals", with(&wiki, Some(&right.to_uppercase()))),
        ("a public client with one", with(&app, Some(&right))),
        (
            "this service",
            Party {
                id: "mcias".to_owned(),
                ..with(&wiki, None)
            },
        ),
        (
            "an unknown one",
            Party {
                id: "no'one".to_owned(),
                ..wiki.clone()
            },
        ),
    ] {
        let code = wiki.code(&mut browser).await;
        let refused = party.exchange(&code, &[]).await;
        assert_eq!(
            (refused.status, &*error(&refused)),
            (401, "invalid_client"),
            "{description}"
        );
        assert!(
            refused.header("www-authenticate").starts_with("Basic"),
            "{description}"
        );
        for path in ["/oauth/introspect", "/oauth/revoke"] {
            let refused = party.ask(path, &[("token", "x")]).await;
            assert_eq!(error(&refused), "invalid_client", "{description}");
        }
        assert_eq!(wiki.exchange(&code, &[]).await.status, 200, "{description}");
    }
    let refused = app.ask("/oauth/introspect", &[("token", "x")]).await;
    assert_eq!(
        error(&refused),
        "invalid_client",
        "a client that anybody can be"
    );
    // Basic, and both at once.
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let basic = format!("Basic {}", STANDARD.encode(format!("wiki:{right}")));
    let headers = [("authorization", basic.as_str())];
    let ask = |more: Vec<(&'static str, String)>| {
        let (http, headers) = (wiki.http.clone(), headers);
        async move {
            let fields: Vec<_> = more.iter().map(|(a, b)| (*a, &**b)).collect();
            http.post("/oauth/introspect", &headers, &fields).await
        }
    };
    let token = ("token", "x".to_owned());
    assert_eq!(ask(vec![token.clone()]).await.status, 200);
    let both = ask(vec![token.clone(), ("client_secret", right.clone())]).await;
    assert_eq!(error(&both), "invalid_request");
    let twice = ask(vec![token.clone(), token]).await;
    assert_eq!(error(&twice), "invalid_request");
}

#[tokio::test]
async fn of_a_race_for_a_refresh_token_one_wins_and_all_lose() {
    let (_running, _admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let refresh = text(&tokens, "refresh_token").to_owned();
    let races = (0..8).map(|_| {
        let (wiki, refresh) = (wiki.clone(), refresh.clone());
        tokio::spawn(async move { wiki.refresh(&refresh).await })
    });
    let mut won = Vec::new();
    for race in races.collect::<Vec<_>>() {
        let answer = race.await.unwrap();
        match answer.status {
            200 => won.push(answer.json()),
            _ => assert_eq!(error(&answer), "invalid_grant"),
        }
    }
    assert_eq!(won.len(), 1);
    assert!(!wiki.knows(text(&won[0], "access_token")).await);
    let next = wiki.refresh(text(&won[0], "refresh_token")).await;
    assert_eq!(error(&next), "invalid_grant");
    assert_eq!(
        browser.get("/").await.status,
        200,
        "the person stays logged in here"
    );
}

#[tokio::test]
async fn refresh_tokens_are_their_clients() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let lab = register(&running, &mut admin, "lab", false).await;
    let tokens = wiki.tokens(&mut browser).await;
    let refresh = text(&tokens, "refresh_token").to_owned();
    let access = text(&tokens, "access_token").to_owned();
    for token in [&refresh, &access] {
        assert_eq!(lab.introspect(token).await, json!({ "active": false }));
        assert_eq!(
            lab.ask("/oauth/revoke", &[("token", token)]).await.status,
            200
        );
        assert_eq!(error(&lab.refresh(token).await), "invalid_grant");
    }
    assert!(wiki.knows(&access).await, "another client ends nothing");
    let (family, own) = refresh.split_once('.').unwrap();
    let (own, family) = (own.to_owned(), family.to_owned());
    for odd in [
        "",
        "x",
        &own,
        &format!("{own}.{family}"),
        &format!("{own}.{own}"),
    ] {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", odd)];
        let refused = wiki.ask("/oauth/token", &fields).await;
        assert!(
            matches!(&*error(&refused), "invalid_grant" | "invalid_request"),
            "{odd}"
        );
    }
    // The database holds none of it.
    let next = wiki.refresh(&refresh).await.json();
    let code = wiki.code(&mut browser).await;
    let next = text(&next, "refresh_token").to_owned();
    for file in std::fs::read_dir(running.root.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [&code, &own, &family, &next, wiki.secret.as_ref().unwrap()] {
            let found = content
                .windows(secret.len())
                .any(|w| w == secret.as_bytes());
            assert!(!found);
        }
    }
    assert_eq!(
        error(&wiki.refresh(&refresh).await),
        "invalid_grant",
        "used before"
    );
    assert_eq!(
        error(&wiki.refresh(&next).await),
        "invalid_grant",
        "and so the last one too"
    );
}

#[tokio::test]
async fn tokens_are_what_they_are_for() {
    let (running, _admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let id_token = text(&tokens, "id_token").to_owned();
    let access = text(&tokens, "access_token").to_owned();
    let direct = running.log_in("ada", PASSWORD).await.unwrap().token;
    for (description, token) in [
        ("an ID token", id_token.as_str()),
        ("a token that no client was given", &direct),
        ("none", ""),
        ("no token", "x.y.z"),
    ] {
        assert!(!wiki.knows(token).await, "{description}");
    }
    assert!(
        !wiki.introspect(&id_token).await["active"]
            .as_bool()
            .unwrap()
    );
    // Of logouts: what is no ID token of this service names nobody.
    let stranger = {
        use aws_lc_rs::signature::Ed25519KeyPair;
        let key = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        Signer::new("strange".to_owned(), key.as_ref())
    };
    let mut parts = id_token.split('.');
    let (_, body, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    let cut = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.{signature}");
    let said = json!({ "iss": ISSUER, "sub": "x", "aud": "wiki", "sid": "x" });
    let strange = stranger.sign_as("JWT", &said).unwrap();
    let elsewhere = json!({ "iss": "https://evil.example", "sub": "x", "aud": "wiki", "sid": "x" });
    let elsewhere = running.signer().sign_as("JWT", &elsewhere).unwrap();
    for (description, hint) in [
        ("an access token", access.as_str()),
        ("a stranger's", &strange),
        ("another issuer's", &elsewhere),
        ("without a signature", &none),
        ("of no algorithm", &cut),
        ("nonsense", "x"),
    ] {
        let path = format!("/oauth/logout?{}", encoded(&[("id_token_hint", hint)]));
        assert_eq!(browser.get(&path).await.status, 400, "{description}");
    }
    // Another person's is no proof.
    let other = json!({ "iss": ISSUER, "sub": "x", "aud": "wiki", "sid": "x" });
    let other = running.signer().sign_as("JWT", &other).unwrap();
    let path = format!("/oauth/logout?{}", encoded(&[("id_token_hint", &other)]));
    assert!(browser.get(&path).await.body.contains("Log out?"));
    assert_eq!(browser.get("/").await.status, 200);
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
