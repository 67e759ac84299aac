//! Logins by passkeys that nobody has: in the log, and counted where they come from.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mc_proto::mcias::v1::{
    BeginPasskeyLoginRequest, FinishPasskeyLoginRequest, ListBansRequest, LoginResponse,
};
use mc_testkit::clock::FakeClock;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    running::{Clients, PASSWORD, Running},
    web::Browser,
};

/// The answer of an authenticator that is registered nowhere.
fn made_up(options: &str) -> String {
    let options: Value = serde_json::from_str(options).unwrap();
    let client = json!({
        "type": "webauthn.get", "challenge": options["challenge"], "origin": "https://auth.example.org", "crossOrigin": false,
    });
    // The hash of the relying party's name, user present and verified, and a counter (WebAuthn Level 3 §6.1).
    let mut data = vec![7; 32];
    data.extend([5, 0, 0, 0, 1]);
    json!({
        "id": BASE64.encode([1; 32]),
        "rawId": BASE64.encode([1; 32]),
        "type": "public-key",
        "extensions": {},
        "response": {
            "authenticatorData": BASE64.encode(data),
            "clientDataJSON": BASE64.encode(client.to_string()),
            "signature": BASE64.encode([3; 70]),
            "userHandle": BASE64.encode([4; 16]),
        },
    })
    .to_string()
}

/// A ceremony, and an answer to it that is nobody's.
async fn guess(clients: &mut Clients) -> FinishPasskeyLoginRequest {
    let begin = BeginPasskeyLoginRequest {};
    let begun = clients.auth.begin_passkey_login(begin).await.unwrap();
    let begun = begun.into_inner();
    FinishPasskeyLoginRequest {
        credential: made_up(&begun.options),
        ceremony: begun.ceremony,
        ..FinishPasskeyLoginRequest::default()
    }
}

async fn fail(clients: &mut Clients) -> Status {
    let request = guess(clients).await;
    let answer = clients.auth.finish_passkey_login(request).await;
    let answer = answer.map(|answer| -> LoginResponse { answer.into_inner() });
    answer.unwrap_err()
}

fn rows(running: &Running, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM audit WHERE {what}");
    let db = running.database();
    db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_passkey_of_nobody_is_in_the_log_by_whichever_way() {
    let running = Running::start().await;
    let mut clients = running.clients(None).await;
    let refused = fail(&mut clients).await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    let failed = "resource = '(unknown)' AND outcome = 'UNAUTHENTICATED' AND source = '127.0.0.1' AND name IS NULL";
    let api = "action = '/metacircular.mcias.v1.Auth/FinishPasskeyLogin'";
    assert_eq!(rows(&running, &format!("{api} AND {failed}")), 1);

    let mut browser = Browser::new(&running);
    let request = guess(&mut clients).await;
    for (description, ceremony, credential, status, outcome) in [
        (
            "of nobody",
            &*request.ceremony,
            &*request.credential,
            401,
            "UNAUTHENTICATED",
        ),
        (
            "no credential",
            &*request.ceremony,
            "{}",
            422,
            "INVALID_ARGUMENT",
        ),
        (
            "no ceremony",
            "x",
            &*request.credential,
            422,
            "INVALID_ARGUMENT",
        ),
    ] {
        let what = format!("action = '/login/passkey' AND outcome = '{outcome}'");
        let before = rows(&running, &what);
        let fields = [("ceremony", ceremony), ("credential", credential)];
        let answer = browser.submit("/login", "/login/passkey", &fields).await;
        assert_eq!(answer.status, status, "{description}: {}", answer.body);
        assert_eq!(rows(&running, &what), before + 1, "{description}");
    }
}

#[tokio::test]
async fn who_goes_on_with_passkeys_of_nobody_is_banned() {
    let running = Running::start_at(&FakeClock::new()).await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    let mut guesser = running.clients_from("127.0.0.9", None).await;
    let mut looked_at = 0;
    for _ in 0..100 {
        match fail(&mut guesser).await.code() {
            Code::Unauthenticated => looked_at += 1,
            Code::ResourceExhausted => {}
            other => panic!("{other:?}"),
        }
    }
    // As many as of a password cost nothing.
    assert_eq!(looked_at, 11);
    let bans = admin.admin.list_bans(ListBansRequest::default()).await;
    let bans = bans.unwrap().into_inner().bans;
    assert_eq!(bans[0].source, "127.0.0.9/32");
    let refused = guesser.log_in("ada", PASSWORD, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "nor by a password");
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn many_sources_fill_no_log() {
    let running = Running::start_at(&FakeClock::new()).await;
    for source in 1..=70 {
        let source = format!("127.0.1.{source}");
        let mut clients = running.clients_from(&source, None).await;
        assert_eq!(fail(&mut clients).await.code(), Code::Unauthenticated);
    }
    let all = rows(&running, "action LIKE '%/FinishPasskeyLogin'");
    assert_eq!(
        all,
        5 + 60,
        "a minute's: five networks have windows of their own, and all others one"
    );
}
