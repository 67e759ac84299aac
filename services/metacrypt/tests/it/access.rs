//! Every method by everybody, sealed and open.

use mc_proto::{
    AccountType, Level, METHODS, Method,
    mcias::v1::{RevokeRequest, revoke_request::What},
    metacrypt::v1::GetSealStatusRequest,
};
use mc_testkit::grpc;
use mcdsl::auth::token::Claims;
use tonic::Code;

use crate::{
    running::{PASSWORD, claims},
    world::World,
};

/// Who asks, with which token, and what they are known to be: the type of account, and whether an administrator.
type Somebody = (&'static str, Option<String>, Option<(AccountType, bool)>);

async fn everybody(world: &World) -> Vec<Somebody> {
    let signer = world.mcias.signer();
    let token = |name: &str, account_type, change: fn(&mut Claims)| {
        let mut claims = claims(name, account_type);
        claims.aud = vec!["metacrypt".to_owned()];
        claims.iss.clone_from(&world.issuer);
        change(&mut claims);
        Some(signer.sign(&claims).unwrap())
    };
    let human = |name: &str, change| token(name, AccountType::Human, change);
    let person = |admin| Some((AccountType::Human, admin));
    let mut admin = world.mcias.admin().await;
    admin.person("revoked", "admin").await;
    let revoked = world.token("revoked", PASSWORD).await;
    let request = RevokeRequest {
        what: Some(What::Account("revoked".to_owned())),
        ..RevokeRequest::default()
    };
    admin.accounts.revoke(request).await.unwrap();
    let expired = |claims: &mut Claims| (claims.iat, claims.nbf, claims.exp) = (1, 1, 2);
    let elsewhere = |claims: &mut Claims| claims.aud = vec!["mcias".to_owned()];
    vec![
        ("nobody", None, None),
        ("a guest", human("guest", |_| {}), person(false)),
        ("a user", human("user", |_| {}), person(false)),
        ("an administrator", human("admin", |_| {}), person(true)),
        (
            "a system account",
            token("system", AccountType::System, |_| {}),
            Some((AccountType::System, false)),
        ),
        ("an expired token", human("admin", expired), None),
        ("another service's token", human("admin", elsewhere), None),
        ("a revoked token", Some(revoked), None),
    ]
}

/// As the definition says.
fn refused(method: &Method, who: &Somebody, sealed: bool) -> Option<Code> {
    let access = &method.access;
    match who.2 {
        None if who.1.is_some() || access.level != Level::Public => Some(Code::Unauthenticated),
        Some((_, admin)) if access.level == Level::Admin && !admin => Some(Code::PermissionDenied),
        Some((kind, _)) if !access.callers.is_empty() && !access.callers.contains(&kind) => {
            Some(Code::PermissionDenied)
        }
        _ => (sealed && access.needs_unsealed).then_some(Code::Unavailable),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_lets_in_whom_its_definition_says_sealed_or_not() {
    let world = World::sealed().await;
    let (channel, mut client) = (world.channel().await, world.client().await);
    let everybody = everybody(&world).await;
    let ours = |method: &&Method| method.package == "metacircular.metacrypt.v1";
    for sealed in [true, false] {
        for method in METHODS.iter().filter(ours) {
            for who in &everybody {
                let status = client.get_seal_status(GetSealStatusRequest {}).await;
                if !sealed && status.unwrap().into_inner().sealed {
                    // An administrator has just sealed it.
                    world.unseal().await;
                }
                let got = grpc::code(&channel, method, who.1.as_deref()).await;
                let what = format!("{} by {}, sealed: {sealed}", method.path, who.0);
                match refused(method, who, sealed) {
                    Some(code) => assert_eq!(got, code, "{what}"),
                    // What is asked has no names and no secrets.
                    None => {
                        let by_rules = method.path.contains(".AuditLog/");
                        assert!(
                            matches!(got, Code::Ok | Code::InvalidArgument | Code::NotFound)
                                || by_rules && got == Code::PermissionDenied,
                            "{what}: {got:?}"
                        );
                    }
                }
            }
        }
    }
}
