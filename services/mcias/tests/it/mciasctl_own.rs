//! What people do by the tool to their own logins and devices.

use std::fs;

use mc_proto::mcias::v1::LogoutRequest;
use tonic::Code;

use crate::{
    mciasctl::Home,
    oidc_client::register,
    running::{PASSWORD, Running},
};

#[tokio::test]
async fn a_login_to_another_service_ends() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "user").await;
    register(&running, &mut admin, "wiki", false).await;
    let home = Home::of(&running);
    home.log_in("ada", PASSWORD).await;
    let login = "login --account ada --service wiki";
    let ended = home.run(login, &format!("{PASSWORD}\n")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let state = home.directory.path().join(".local/state");
    let kept = state.join("metacircular/tokens/wiki.json");
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    let kept = kept.as_object().unwrap().values().next().unwrap();
    let mut copy = running.clients(kept["token"].as_str()).await;

    let out = home.run("logout --service wiki --json", "").await;
    assert_eq!(out.json()["service"], "wiki");
    let over = copy.auth.logout(LogoutRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
    let again = home.run("logout --service wiki --json", "").await;
    assert_eq!(again.json()["logged_out"], false);
    assert_eq!(home.run("whoami", "").await.code, 0, "that one alone");
}
