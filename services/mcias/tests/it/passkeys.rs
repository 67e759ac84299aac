//! Passkeys, with an authenticator of Chromium's.

use anyhow::{Context as _, Result};
use mc_proto::mcias::v1::{
    BeginPasskeyLoginRequest, BeginPasskeyRequest, FinishPasskeyLoginRequest, FinishPasskeyRequest,
    GetFactorsRequest, LoginResponse, RemovePasskeyRequest, SecondFactor, WhoAmIRequest,
};
use mc_testkit::browser::Browser;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::running::{Clients, PASSWORD, Running};

/// What a page would do with the options, and the answer as the page would send it.
async fn authenticator(
    browser: &Browser,
    verb: &str,
    parse: &str,
    options: &str,
) -> Result<String> {
    let script = format!(
        "const done = arguments[arguments.length - 1]; \
         navigator.credentials.{verb}({{ publicKey: PublicKeyCredential.{parse}({options}) }}) \
             .then(c => done(JSON.stringify(c.toJSON())), e => done('failed: ' + e))"
    );
    let answer = browser.driver().execute_async(&script, Vec::new()).await?;
    let answer = answer.json().as_str().context("an answer")?.to_owned();
    anyhow::ensure!(!answer.starts_with("failed"), "{answer}");
    Ok(answer)
}

async fn create(browser: &Browser, options: &str) -> Result<String> {
    authenticator(browser, "create", "parseCreationOptionsFromJSON", options).await
}

async fn get(browser: &Browser, options: &str) -> Result<String> {
    authenticator(browser, "get", "parseRequestOptionsFromJSON", options).await
}

async fn log_in(
    clients: &mut Clients,
    ceremony: &str,
    credential: &str,
) -> Result<LoginResponse, Status> {
    let request = FinishPasskeyLoginRequest {
        ceremony: ceremony.to_owned(),
        credential: credential.to_owned(),
        ..FinishPasskeyLoginRequest::default()
    };
    Ok(clients
        .auth
        .finish_passkey_login(request)
        .await?
        .into_inner())
}

async fn register(
    browser: &Browser,
    clients: &mut Clients,
    name: &str,
) -> Result<FinishPasskeyRequest> {
    let begin = BeginPasskeyRequest {
        password: PASSWORD.to_owned(),
    };
    let begun = clients.profile.begin_passkey(begin).await?.into_inner();
    Ok(FinishPasskeyRequest {
        credential: create(browser, &begun.options).await?,
        ceremony: begun.ceremony,
        name: name.to_owned(),
    })
}

/// The text with one character of the signature another one.
fn forged(credential: &str) -> String {
    let mut value: Value = serde_json::from_str(credential).unwrap();
    let signature = value["response"]["signature"].as_str().unwrap();
    // The last but four: the last may be padding.
    let at = signature.len() - 5;
    let other = if signature[at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    let changed = format!("{}{other}{}", &signature[..at], &signature[at + 1..]);
    value["response"]["signature"] = changed.into();
    value.to_string()
}

// ChromeDriver is asked to end while this thread waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_logs_in_by_itself_once_for_each_ceremony() -> Result<()> {
    // The issuer is where the browser is: the port has to be known before.
    let free = mc_testkit::port::free();
    let issuer = format!("https://localhost:{}", free.port());
    let running = Running::start_as(|config| {
        config.server.listen = free;
        config.token.issuer.clone_from(&issuer);
    })
    .await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    admin.person("eve", "user").await;
    let token = running.log_in("ada", PASSWORD).await?.token;
    let mut ada = running.clients(Some(&token)).await;
    let browser = Browser::start().await?;
    browser.driver().goto(format!("{issuer}/healthz")).await?;
    browser.cdp("WebAuthn.enable", json!({})).await?;
    let options = json!({ "options": {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true,
    } });
    browser
        .cdp("WebAuthn.addVirtualAuthenticator", options)
        .await?;

    let finish = register(&browser, &mut ada, "desk").await?;
    let token = running.log_in("eve", PASSWORD).await?.token;
    let mut eve = running.clients(Some(&token)).await;
    let stolen = eve
        .profile
        .finish_passkey(finish.clone())
        .await
        .unwrap_err();
    assert_eq!(stolen.code(), Code::InvalidArgument, "another's ceremony");
    let passkey = ada
        .profile
        .finish_passkey(finish.clone())
        .await?
        .into_inner();
    assert!(
        ada.profile.finish_passkey(finish).await.is_err(),
        "once more"
    );
    let factors = ada
        .profile
        .get_factors(GetFactorsRequest {})
        .await?
        .into_inner();
    assert_eq!(factors.passkeys, std::slice::from_ref(&passkey));
    let needed = running.log_in("ada", PASSWORD).await?;
    assert!(
        needed.token.is_empty(),
        "the password alone is not enough any more"
    );
    assert_eq!(needed.needed, [i32::from(SecondFactor::Passkey)]);

    let mut somebody = running.clients(None).await;
    let begun = somebody
        .auth
        .begin_passkey_login(BeginPasskeyLoginRequest {})
        .await?
        .into_inner();
    let credential = get(&browser, &begun.options).await?;
    let wrong = log_in(&mut somebody, &begun.ceremony, &forged(&credential))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "a forged signature");
    let other = somebody
        .auth
        .begin_passkey_login(BeginPasskeyLoginRequest {})
        .await?
        .into_inner();
    let wrong = log_in(&mut somebody, &other.ceremony, &credential)
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "another challenge");
    let login = log_in(&mut somebody, &begun.ceremony, &credential).await?;
    let mut ada = running.clients(Some(&login.token)).await;
    let known = ada.auth.who_am_i(WhoAmIRequest {}).await?.into_inner();
    assert_eq!(
        (
            known.account.as_str(),
            known.methods.last().unwrap().as_str()
        ),
        ("ada", "mfa")
    );
    let again = log_in(&mut somebody, &begun.ceremony, &credential)
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated, "a replay");
    let mut changed = begun.ceremony.into_bytes();
    changed[40] ^= 1;
    let changed = String::from_utf8(changed)?;
    let refused = log_in(&mut somebody, &changed, &credential)
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::InvalidArgument,
        "a ceremony of nobody"
    );

    let remove = RemovePasskeyRequest {
        id: passkey.id,
        password: PASSWORD.to_owned(),
    };
    ada.profile.remove_passkey(remove).await?;
    let begun = somebody
        .auth
        .begin_passkey_login(BeginPasskeyLoginRequest {})
        .await?
        .into_inner();
    let credential = get(&browser, &begun.options).await?;
    let gone = log_in(&mut somebody, &begun.ceremony, &credential)
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::Unauthenticated, "it was removed");
    // Each of them is in the log, with whose passkey it was to be.
    let sql = "SELECT resource || ' ' || outcome FROM audit WHERE action LIKE '%/FinishPasskeyLogin' ORDER BY seq";
    let db = running.database();
    let mut rows = db.prepare(sql)?;
    let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
    assert_eq!(
        rows.collect::<Result<Vec<_>, _>>()?,
        [
            "ada UNAUTHENTICATED",
            "ada UNAUTHENTICATED",
            "ada OK",
            "ada UNAUTHENTICATED",
            "(unknown) INVALID_ARGUMENT",
            "(unknown) UNAUTHENTICATED",
        ]
    );
    Ok(())
}
