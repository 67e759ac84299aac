//! Tokens of system accounts, and whether tokens are good.

use mc_proto::mcias::v1::{
    IssueTokenRequest, RevokeRequest, WhoAmIRequest, revoke_request::What as Revoked,
};

use crate::running::{Clients, Running};

/// A token for services, and its id; for none: MCIAS alone.
pub(crate) async fn issue(admin: &mut Clients, name: &str, services: &[&str]) -> (String, String) {
    let services = services.iter().map(|s| (*s).to_owned()).collect();
    issued(admin, name, services, 0).await
}

/// One that lasts so long.
pub(crate) async fn issue_for(admin: &mut Clients, name: &str, days: u32) -> (String, String) {
    issued(admin, name, Vec::new(), days).await
}

async fn issued(
    admin: &mut Clients,
    name: &str,
    services: Vec<String>,
    days: u32,
) -> (String, String) {
    let request = IssueTokenRequest {
        name: name.to_owned(),
        services,
        days,
        ..IssueTokenRequest::default()
    };
    let issued = admin.accounts.issue_token(request).await.unwrap();
    let issued = issued.into_inner();
    (issued.token, issued.id)
}

pub(crate) async fn revoke(admin: &mut Clients, what: Revoked) {
    let request = RevokeRequest {
        what: Some(what),
        ..RevokeRequest::default()
    };
    admin.accounts.revoke(request).await.unwrap();
}

/// Whether MCIAS takes the token.
pub(crate) async fn is_known(running: &Running, token: &str) -> bool {
    let mut clients = running.clients(Some(token)).await;
    clients.auth.who_am_i(WhoAmIRequest {}).await.is_ok()
}
