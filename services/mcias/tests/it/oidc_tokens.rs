//! What others try with the tokens of OpenID Connect, and as clients: another's name, another's token, one that was used.

use mcdsl::auth::token::Signer;
use serde_json::json;

use crate::{
    oidc_client::{Party, begun, error, register, text},
    running::{ISSUER, PASSWORD},
    web::encoded,
};

#[tokio::test]
async fn userinfo_takes_one_bearer_token() {
    let (_running, _admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let access = text(&tokens, "access_token");
    let good = format!("Bearer {access}");
    let (other, small) = (format!("Bearer {access} x"), format!("bearer   {access}"));
    let (tab, basic) = (format!("Bearer\t{access}"), format!("Basic {access}"));
    let padded = format!("{good}{}", "=".repeat(8 * 1024));
    for (description, fields, status) in [
        ("one", &[&*good][..], 200),
        ("in small letters, with spaces", &[&*small], 200),
        ("none", &[], 401),
        ("twice the same", &[&*good, &*good], 401),
        ("with a word behind it", &[&*other], 401),
        ("behind a tab", &[&*tab], 401),
        ("of another scheme", &[&*basic], 401),
        ("too long", &[&*padded], 401),
    ] {
        let headers: Vec<_> = fields.iter().map(|f| ("authorization", *f)).collect();
        let answer = wiki.http.ask("GET", "/oauth/userinfo", &headers, "").await;
        assert_eq!(answer.status, status, "{description}: {}", answer.body);
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
