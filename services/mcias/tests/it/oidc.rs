//! Logging in to services by OpenID Connect, as they and their people see it.

use mc_proto::mcias::v1::{ListSessionsRequest, PutRuleRequest, Rule};
use mc_testkit::wait_for_async;
use openidconnect::{
    AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest,
    HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl,
    Scope, TokenResponse as _,
    core::{CoreClient, CoreProviderMetadata, CoreResponseType, CoreUserInfoClaims},
};

use crate::{
    factors::{code, enrol},
    oidc_client::{REDIRECT, begun, error, register, request, text},
    running::{ISSUER, PASSWORD, Running},
    web::{Browser, Http},
};

/// A client's library does all of it: discovery, login, the tokens and their checks, userinfo, refresh.
#[tokio::test]
async fn a_clients_library_logs_somebody_in() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let wiki = register(&running, &mut admin, "wiki", false).await;
    let http = Http::new(&running);
    let http = move |request: HttpRequest| {
        let http = http.clone();
        async move { Ok::<HttpResponse, std::convert::Infallible>(http.send(request).await) }
    };
    let issuer = IssuerUrl::new(ISSUER.to_owned()).unwrap();
    let metadata = CoreProviderMetadata::discover_async(issuer, &http)
        .await
        .unwrap();
    let id = ClientId::new(wiki.id.clone());
    let secret = ClientSecret::new(wiki.secret.clone().unwrap());
    let client = CoreClient::from_provider_metadata(metadata, id, Some(secret))
        .set_redirect_uri(RedirectUrl::new(REDIRECT.to_owned()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
    let (url, state, nonce) = client
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("profile".to_owned()))
        .set_pkce_challenge(challenge)
        .url();
    assert_eq!(url.origin().ascii_serialization(), ISSUER);
    let path = format!("{}?{}", url.path(), url.query().unwrap());

    // The person: sent to log in, and on.
    let mut browser = Browser::new(&running);
    let login = browser.get(&path).await.location().to_owned();
    let page = browser.get(&login).await;
    assert!(page.body.contains("to go on to <strong>wiki</strong>"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.ends_with("form-action 'self' https://wiki.example:8443"),
        "{policy}"
    );
    let fields = [("account", "ada"), ("password", PASSWORD)];
    let next = browser
        .submit(&login, &login, &fields)
        .await
        .location()
        .to_owned();
    assert!(next.starts_with("/oauth/authorize?"), "{next}");
    let back = browser.get(&next).await;
    assert!(
        back.location().starts_with(&format!("{REDIRECT}&")),
        "{}",
        back.location()
    );
    assert_eq!(back.parameter("state").as_ref(), Some(state.secret()));
    assert_eq!(back.parameter("iss").as_deref(), Some(ISSUER));

    let code = AuthorizationCode::new(back.parameter("code").unwrap());
    let exchange = client
        .exchange_code(code)
        .unwrap()
        .set_pkce_verifier(verifier);
    let tokens = exchange.request_async(&http).await.unwrap();
    let verifier = client.id_token_verifier();
    let claims = tokens
        .id_token()
        .unwrap()
        .claims(&verifier, &nonce)
        .unwrap();
    let amr: Vec<&str> = claims
        .auth_method_refs()
        .unwrap()
        .iter()
        .map(|m| &***m)
        .collect();
    assert_eq!(amr, ["pwd"]);
    assert!(claims.auth_time().is_some());
    assert_eq!(claims.preferred_username().map(|n| &***n), Some("ada"));
    let access = tokens.access_token().clone();
    let subject = Some(claims.subject().clone());
    let info = client.user_info(access, subject).unwrap();
    let info: CoreUserInfoClaims = info.request_async(&http).await.unwrap();
    assert_eq!(info.preferred_username().map(|n| &***n), Some("ada"));
    let refresh = client
        .exchange_refresh_token(tokens.refresh_token().unwrap())
        .unwrap();
    let again = refresh.request_async(&http).await.unwrap();
    let no_nonce = |nonce: Option<&Nonce>| nonce.map_or(Ok(()), |_| Err("a nonce".to_owned()));
    let renewed = again
        .id_token()
        .unwrap()
        .claims(&verifier, no_nonce)
        .unwrap();
    assert_eq!(renewed.auth_time(), claims.auth_time());
    assert_ne!(
        again.refresh_token().unwrap().secret(),
        tokens.refresh_token().unwrap().secret()
    );
}

#[tokio::test]
async fn what_a_client_gets_is_a_login_of_its_own() {
    let (running, _admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let access = text(&tokens, "access_token");
    assert_eq!(text(&tokens, "token_type"), "Bearer");
    assert_eq!(text(&tokens, "scope"), "openid profile roles");
    assert!(
        tokens["expires_in"]
            .as_u64()
            .is_some_and(|s| (3590..=3603).contains(&s))
    );
    let about = wiki.introspect(access).await;
    assert_eq!(about["active"], true);
    assert_eq!(
        (text(&about, "username"), text(&about, "aud")),
        ("ada", "wiki")
    );
    assert_eq!(about["roles"], serde_json::json!(["user"]));
    let refresh = text(&tokens, "refresh_token").to_owned();
    assert_eq!(wiki.introspect(&refresh).await["active"], true);
    // Listed, and for no other service.
    let list = browser.get("/sessions").await.body;
    assert!(list.contains("data-label=\"Service\">wiki<"), "{list}");
    let mut as_it = running.clients(Some(access)).await;
    let refused = as_it.profile.list_sessions(ListSessionsRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unauthenticated);
    // The client gives it back.
    assert!(wiki.knows(access).await);
    let given = wiki.ask("/oauth/revoke", &[("token", &refresh)]).await;
    assert_eq!((given.status, given.body.as_str()), (200, ""));
    assert!(!wiki.knows(access).await);
    // Services are told of it.
    let sql = "SELECT count(*) FROM revocation WHERE what = 'session' AND id = ?1";
    let sid = text(&about, "sid");
    let told: i64 = running
        .database()
        .query_row(sql, [sid], |row| row.get(0))
        .unwrap();
    assert_eq!(told, 1);
    assert_eq!(
        wiki.introspect(access).await,
        serde_json::json!({ "active": false })
    );
    assert_eq!(wiki.introspect(&refresh).await["active"], false);
    assert_eq!(error(&wiki.refresh(&refresh).await), "invalid_grant");
    assert_eq!(
        wiki.ask("/oauth/revoke", &[("token", "x")]).await.status,
        200
    );
}

/// What an ID token says.
pub(crate) fn claims(token: &str) -> serde_json::Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

#[tokio::test]
async fn somebody_logs_in_as_often_and_as_well_as_it_takes() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let mut nobody = Browser::new(&running);
    let silent = request("wiki", &[("prompt", "none")]);
    assert_eq!(
        nobody.get(&silent).await.parameter("error").unwrap(),
        "login_required"
    );
    assert!(browser.get(&silent).await.parameter("code").is_some());
    // A link of another site: cookies are held back, and the page loads itself again.
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let again = nobody.send("GET", &silent, &foreign, "").await;
    assert!(again.status == 200 && again.body.contains("http-equiv=\"refresh\""));
    // Once more, because the client wants it.
    let anew = browser
        .get(&request("wiki", &[("prompt", "login")]))
        .await
        .location()
        .to_owned();
    assert!(
        anew.starts_with("/login?next=") && anew.ends_with("&again=1"),
        "{anew}"
    );
    let kept = wiki.tokens(&mut browser).await;
    let fields = [("account", "ada"), ("password", PASSWORD)];
    let next = browser
        .submit(&anew, &anew, &fields)
        .await
        .location()
        .to_owned();
    assert!(!next.contains("prompt"), "{next}");
    assert!(browser.get(&next).await.parameter("code").is_some());
    assert!(
        wiki.knows(text(&kept, "access_token")).await,
        "it is the same person"
    );
    // An old login.
    let aged = "UPDATE session SET created_s = created_s - 100 WHERE service = 'mcias'";
    running.database().execute(aged, []).unwrap();
    let old = browser.get(&request("wiki", &[("max_age", "50")])).await;
    assert!(old.location().starts_with("/login?"));
    let young = browser.get(&request("wiki", &[("max_age", "200")])).await;
    assert!(young.parameter("code").is_some());
    // A service that asks for a second factor.
    let rule = Rule {
        name: "vault".to_owned(),
        roles: vec!["user".to_owned()],
        services: vec!["wiki".to_owned()],
        second_factor: true,
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(rule).await.unwrap();
    let lacking = browser.get(&request("wiki", &[])).await;
    assert!(
        lacking.location().starts_with("/factors?next=%2Foauth"),
        "to enrol one, and back"
    );
    let told = browser.get(&silent).await;
    assert_eq!(told.parameter("error").unwrap(), "interaction_required");
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    let secret = enrol(&mut ada).await;
    let login = browser
        .get(&request("wiki", &[]))
        .await
        .location()
        .to_owned();
    // Enrolling has ended the logins of before.
    assert!(login.starts_with("/login?"), "{login}");
    let second = browser.submit(&login, &login, &fields).await;
    let (csrf, step) = (second.field("csrf_token"), second.field("step"));
    let typed = code(&secret, 0);
    let fields = [("csrf_token", &*csrf), ("step", &*step), ("code", &*typed)];
    let sent = browser.post(&login, &fields).await;
    // On the way she is told of the program that logged in in between.
    assert!(sent.location().starts_with("/devices?next="));
    let next = sent.parameter("next").unwrap();
    let back = browser.get(&next).await;
    let tokens = wiki
        .exchange(&back.parameter("code").unwrap(), &[])
        .await
        .json();
    let amr = &claims(text(&tokens, "id_token"))["amr"];
    assert_eq!(amr, &serde_json::json!(["pwd", "otp", "mfa"]));
}

#[tokio::test]
async fn the_policy_decides_who_may_where() {
    let (running, mut admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let code = wiki.code(&mut browser).await;
    let rule = Rule {
        name: "not-ada".to_owned(),
        priority: 10,
        deny: true,
        accounts: vec!["ada".to_owned()],
        services: vec!["wiki".to_owned()],
        ..Rule::default()
    };
    let rule = PutRuleRequest {
        rule: Some(rule),
        ..PutRuleRequest::default()
    };
    admin.admin.put_rule(rule).await.unwrap();
    let denied = browser.get(&request("wiki", &[])).await;
    assert!(denied.location().starts_with(REDIRECT));
    assert_eq!(denied.parameter("error").unwrap(), "access_denied");
    assert_eq!(denied.parameter("state").unwrap(), "a state");
    assert_eq!(error(&wiki.exchange(&code, &[]).await), "invalid_grant");
    let refreshed = wiki.refresh(text(&tokens, "refresh_token")).await;
    assert_eq!(error(&refreshed), "invalid_grant");
    let sql = "SELECT count(*) FROM audit WHERE action = ?1 AND outcome <> 'OK'";
    for (action, wanted) in [("/oauth/authorize", 1), ("/oauth/token", 2)] {
        let count: i64 = running
            .database()
            .query_row(sql, [action], |r| r.get(0))
            .unwrap();
        assert_eq!(count, wanted, "{action}");
    }
}

#[tokio::test]
async fn a_refresh_token_outlives_its_access_token_and_a_restart() {
    let (mut running, _admin, wiki, mut browser) = begun().await;
    let tokens = wiki.tokens(&mut browser).await;
    let code = wiki.code(&mut browser).await;
    let aged = "UPDATE session SET expires_s = expires_s - 7200, used_s = used_s - 7200, created_s = created_s - 7200";
    running.database().execute(aged, []).unwrap();
    running.restart().await;
    let database = running.database();
    wait_for_async("housekeeping, which is done at the start", async || {
        let sql = "SELECT count(*) FROM session WHERE service = 'mcias'";
        let left: i64 = database.query_row(sql, [], |row| row.get(0)).ok()?;
        (left == 0).then_some(())
    })
    .await
    .unwrap();
    let mut wiki = wiki;
    wiki.http = Http::new(&running);
    let mut browser = Browser {
        http: Http::new(&running),
        ..browser
    };
    let answer = wiki.refresh(text(&tokens, "refresh_token")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let next = answer.json();
    assert!(wiki.knows(text(&next, "access_token")).await);
    assert_eq!(browser.get("/").await.status, 303, "the page was idle");
    assert_eq!(
        error(&wiki.exchange(&code, &[]).await),
        "invalid_grant",
        "its login is over"
    );
    let over = "UPDATE session SET ends_s = 1";
    running.database().execute(over, []).unwrap();
    let answer = wiki.refresh(text(&next, "refresh_token")).await;
    assert_eq!(error(&answer), "invalid_grant");
}
