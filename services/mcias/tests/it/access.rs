//! Every method by everybody, over gRPC and REST: both answer alike, and let in whom the definition says.

use std::rc::Rc;

use mc_proto::{
    AccountType, Level, METHODS, Method,
    mcias::v1::{RevokeRequest, revoke_request::What},
};
use mc_testkit::grpc;
use mcdsl::auth::token::Claims;
use tonic::Code;

use crate::running::{PASSWORD, Running, claims};

/// Whose token is for another service.
const ELSEWHERE: &str = "another service's token";

/// Who asks, with which token, and what they are known to be: the type of account, and whether an administrator. A token is made for each
/// call, since some end the login that it belongs to.
type Somebody = (
    &'static str,
    Option<Box<dyn Fn() -> String>>,
    Option<(AccountType, bool)>,
);

async fn everybody(running: &Running) -> Vec<Somebody> {
    let signer = Rc::new(running.signer());
    let somebody = |name: &'static str, account_type, change: fn(&mut Claims)| {
        let signer = Rc::clone(&signer);
        let token = move || {
            let mut claims = claims(name, account_type);
            change(&mut claims);
            signer.sign(&claims).unwrap()
        };
        Some(Box::new(token) as Box<dyn Fn() -> String>)
    };
    let human = |name, change| somebody(name, AccountType::Human, change);
    let id_token = {
        let signer = Rc::clone(&signer);
        move || {
            let claims = claims("admin", AccountType::Human);
            signer.sign_as("JWT", &claims).unwrap()
        }
    };
    // A real one, of which the service knows that it is revoked.
    let mut admin = running.admin().await;
    admin.person("revoked", "admin").await;
    let revoked = running.log_in("revoked", PASSWORD).await.unwrap().token;
    let what = Some(What::Account("revoked".to_owned()));
    admin
        .accounts
        .revoke(RevokeRequest {
            what,
            ..RevokeRequest::default()
        })
        .await
        .unwrap();
    let expired = |claims: &mut Claims| (claims.iat, claims.nbf, claims.exp) = (1, 1, 2);
    let elsewhere = |claims: &mut Claims| claims.aud = vec!["another".to_owned()];
    vec![
        ("nobody", None, None),
        ("a guest", human("guest", |_| {}), person(false)),
        ("a user", human("user", |_| {}), person(false)),
        ("an administrator", human("admin", |_| {}), person(true)),
        (
            "a system account",
            somebody("system", AccountType::System, |_| {}),
            Some((AccountType::System, false)),
        ),
        ("an expired token", human("admin", expired), None),
        (ELSEWHERE, human("admin", elsewhere), None),
        (
            "a revoked token",
            Some(Box::new(move || revoked.clone())),
            None,
        ),
        ("an ID token", Some(Box::new(id_token)), None),
    ]
}

fn person(admin: bool) -> Option<(AccountType, bool)> {
    Some((AccountType::Human, admin))
}

/// What a token does with its own login, and nothing else.
#[test]
fn two_methods_take_tokens_for_other_services() {
    let taken = METHODS.iter().filter(|m| m.access.other_audiences);
    let taken: Vec<_> = taken.map(|method| method.path).collect();
    let auth = ["Renew", "Logout"].map(|name| format!("/metacircular.mcias.v1.Auth/{name}"));
    assert_eq!(taken, auth);
}

/// As the definition says.
fn refused(method: &Method, token: bool, known: Option<(AccountType, bool)>) -> Option<Code> {
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

#[tokio::test]
async fn every_method_lets_in_whom_its_definition_says() {
    let running = Running::start().await;
    let channel = running.channel_from("127.0.0.1").await;
    let everybody = everybody(&running).await;
    for method in METHODS
        .iter()
        .filter(|m| m.package == "metacircular.mcias.v1")
    {
        for (who, token, known) in &everybody {
            let taken = *who == ELSEWHERE && method.access.other_audiences;
            let known = if taken { person(true) } else { *known };
            let wanted = refused(method, token.is_some(), known);
            let got = {
                let token = token.as_ref().map(|token| token());
                grpc::code(&channel, method, token.as_deref()).await
            };
            match wanted {
                Some(code) => assert_eq!(got, code, "{} by {who}", method.path),
                // These accounts are in tokens alone: what is about oneself finds nobody.
                None => {
                    let bad = [Code::PermissionDenied, Code::Unimplemented, Code::Internal];
                    assert!(!bad.contains(&got), "{} by {who}: {got:?}", method.path);
                    let admin = method.access.level == Level::Admin;
                    assert!(
                        !admin || got != Code::Unauthenticated,
                        "{} by {who}",
                        method.path
                    );
                }
            }
            let Some(rest) = method.rest else { continue };
            let header = token
                .as_ref()
                .map(|token| format!("Authorization: Bearer {}", token()));
            let mut more = vec!["-X", rest.verb, "-H", "Content-Type: application/json"];
            if let Some(header) = &header {
                more.extend(["-H", header]);
            }
            let path = rest.path.replace("{name}", "none").replace("{id}", "none");
            let (status, body) = running.curl(&more, &path).await;
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            let rest_code = if status == 200 {
                "OK"
            } else {
                answer["status"].as_str().unwrap()
            };
            if wanted.is_some() {
                assert_eq!(rest_code, name(got), "{} by {who}: {body}", method.path);
            } else {
                // An empty name in the one is "none" in the other.
                let refused = matches!(rest_code, "PERMISSION_DENIED");
                assert!(!refused, "{} by {who}: {body}", method.path);
            }
        }
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "PERMISSION_DENIED",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_documents_are_there() {
    let running = Running::start().await;
    let (status, body) = running.curl(&[], "/openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &document["openapi"]), (200, &"3.1.0".into()));
    assert!(document["paths"]["/v1/auth/login"]["post"].is_object());
    let (status, body) = running.curl(&[], "/.well-known/jwks.json").await;
    let keys: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, keys["keys"].as_array().unwrap().len()), (200, 1));
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    assert!(keys["keys"][0].get("d").is_none(), "the private half");
}
