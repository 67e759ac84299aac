//! Every method by everybody, over gRPC and over REST: the answers agree with the definition and with one another.

use mc_proto::{
    AccountType, Level, METHODS, Method,
    example::v1::{WatchNotesRequest, notes_client::NotesClient},
};
use mc_testkit::{grpc, wait_for_async};
use tonic::Code;

use crate::notes::{PACKAGE, Running, Tokens};

/// Who asks, with which token, and what they are known to be: the type of account, and whether an administrator.
type Somebody = (&'static str, Option<String>, Option<(AccountType, bool)>);

fn everybody(tokens: &Tokens) -> Vec<Somebody> {
    let human = |name| Tokens::claims(name, AccountType::Human);
    let mut expired = human("admin");
    (expired.iat, expired.nbf, expired.exp) = (1, 1, 2);
    let mut early = human("admin");
    early.nbf += 3600;
    let mut elsewhere = human("admin");
    elsewhere.aud = vec!["another".to_owned()];
    let mut foreign = human("admin");
    foreign.iss = "https://another.example".to_owned();
    let mut revoked = human("admin");
    revoked.jti = "revoked".to_owned();
    let sign = |claims| Some(tokens.signed(claims));
    vec![
        ("nobody", None, None),
        (
            "a guest",
            Some(tokens.of("guest")),
            Some((AccountType::Human, false)),
        ),
        (
            "a user",
            Some(tokens.of("user")),
            Some((AccountType::Human, false)),
        ),
        (
            "an administrator",
            Some(tokens.of("admin")),
            Some((AccountType::Human, true)),
        ),
        (
            "a system account",
            Some(tokens.of("system")),
            Some((AccountType::System, false)),
        ),
        ("an expired token", sign(&expired), None),
        ("a token that is not valid yet", sign(&early), None),
        ("another service's token", sign(&elsewhere), None),
        ("another issuer's token", sign(&foreign), None),
        ("a revoked token", sign(&revoked), None),
        (
            "an ID token",
            Some(tokens.signed_as("JWT", &human("admin"))),
            None,
        ),
    ]
}

/// As the definition says.
fn allowed(method: &Method, token: bool, known: Option<(AccountType, bool)>) -> Option<Code> {
    let access = &method.access;
    match known {
        None if token || access.level != Level::Public => Some(Code::Unauthenticated),
        None => None,
        Some((_, admin)) if access.level == Level::Admin && !admin => Some(Code::PermissionDenied),
        Some((kind, _)) if !access.callers.is_empty() && !access.callers.contains(&kind) => {
            Some(Code::PermissionDenied)
        }
        Some(_) => None,
    }
}

/// As Google's mapping has it, of those that come up here.
fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_method_lets_in_whom_its_definition_says() {
    let running = Running::start(|_| {}).await;
    let channel = running.channel().await;
    for method in METHODS.iter().filter(|m| m.package == PACKAGE) {
        for (who, token, known) in everybody(&running.tokens) {
            let wanted = allowed(method, token.is_some(), known);
            let before = running.log.lock().unwrap().len();
            let got = grpc::code(&channel, method, token.as_deref()).await;
            let refused = matches!(got, Code::Unauthenticated | Code::PermissionDenied);
            assert_eq!(refused.then_some(got), wanted, "{} by {who}", method.path);
            let written = running.log.lock().unwrap().len() - before;
            // Deleting writes it down itself, where it comes to that.
            let by_itself = method.path.ends_with("DeleteNote") && wanted.is_none();
            assert_eq!(
                written == 1,
                method.access.audited && !by_itself,
                "{} by {who} is in the log",
                method.path
            );
            let Some(rest) = method.rest else { continue };
            let header = token.map(|token| format!("Authorization: Bearer {token}"));
            let mut more = vec!["-X", rest.verb, "-H", "Content-Type: application/json"];
            if let Some(header) = &header {
                more.extend(["-H", header]);
            }
            let (status, body) = running
                .curl(&more, &rest.path.replace("{name}", "none"))
                .await;
            assert_eq!(status, http_status(got), "{} by {who}: {body}", method.path);
        }
    }
}

#[tokio::test]
async fn what_needs_an_unsealed_service_waits_for_it() {
    let running = Running::start(|_| {}).await;
    let channel = running.channel().await;
    let token = running.tokens.of("user");
    running.sealed.send_replace(true);
    for method in METHODS
        .iter()
        .filter(|m| m.package == PACKAGE && !m.access.audited)
    {
        let got = grpc::code(&channel, method, Some(&token)).await;
        assert_eq!(
            got == Code::Unavailable,
            method.access.needs_unsealed,
            "{}",
            method.path
        );
    }
}

#[tokio::test]
async fn a_token_that_is_none_is_refused() {
    let running = Running::start(|_| {}).await;
    let good = running.tokens.of("user");
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    // {"alg":"none","typ":"at+jwt","kid":"k1"}, {"alg":"HS256",…}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0Iiwia2lkIjoiazEifQ";
    let hmac = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0";
    for (description, value) in [
        ("no scheme", good.clone()),
        ("another scheme", format!("Basic {good}")),
        ("no token", "Bearer ".to_owned()),
        ("no algorithm", format!("Bearer {none}.{claims}.")),
        (
            "the public key as secret",
            format!("Bearer {hmac}.{claims}.{signature}"),
        ),
        ("no signature", format!("Bearer {head}.{claims}.")),
        (
            "a changed claim",
            format!("Bearer {head}.{}.{signature}", claims.replacen('a', "b", 1)),
        ),
        ("two tokens", format!("Bearer {good} {good}")),
        ("a very long one", format!("Bearer {}", "a".repeat(20_000))),
    ] {
        let header = format!("Authorization: {value}");
        let (status, body) = running.curl(&["-H", &header], "/v1/notes").await;
        assert_eq!(status, 401, "{description}: {body}");
        assert!(
            !body.contains("key") && !body.contains("signature"),
            "{description} tells why: {body}"
        );
    }
    let header = format!("Authorization: Bearer {good}");
    let twice = running
        .curl(&["-H", &header, "-H", &header], "/v1/notes")
        .await;
    assert_eq!(twice.0, 401, "two fields: {}", twice.1);
    let once = running.curl(&["-H", &header], "/v1/notes").await;
    assert_eq!(once.0, 200, "{}", once.1);
}

#[tokio::test]
async fn a_call_that_panics_or_is_given_up_is_in_the_log() {
    let running = Running::start(|_| {}).await;
    let token = running.tokens.of("user");
    let header = format!("Authorization: Bearer {token}");
    let json = "Content-Type: application/json";
    let put = ["-X", "PUT", "-H", &header, "-H", json, "-d", "{}"];
    let (status, body) = running.curl(&put, "/v1/notes/panic").await;
    assert_eq!(status, 500, "{body}");
    let last = running.log.lock().unwrap().pop().unwrap();
    assert_eq!((last.1.as_deref(), last.2), (Some("user"), Code::Internal));
    // The client goes while the method waits.
    let impatient = [&put[..], &["--max-time", "1"]].concat();
    let (status, _) = running.curl(&impatient, "/v1/notes/slow").await;
    assert_eq!(status, 0, "it was answered");
    running.go_on.notify_one();
    let written = async || running.log.lock().unwrap().pop();
    let last = wait_for_async("the record", written).await.unwrap();
    assert_eq!((last.1.as_deref(), last.2), (Some("user"), Code::Ok));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let running = Running::start(|_| {}).await;
    let mut claims = Tokens::claims("system", AccountType::System);
    claims.exp = claims.iat + 2;
    let mut client = NotesClient::new(running.channel().await);
    let mut request = tonic::Request::new(WatchNotesRequest {});
    let token = format!("Bearer {}", running.tokens.signed(&claims));
    let metadata = request.metadata_mut();
    metadata.insert("authorization", token.parse().unwrap());
    let mut notes = client.watch_notes(request).await.unwrap().into_inner();
    assert!(notes.message().await.unwrap().is_some());
    let ended = notes.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
}
