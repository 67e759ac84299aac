//! What people do by the tool to their own logins and devices.

use std::fs;

use mc_proto::mcias::v1::LogoutRequest;
use tonic::Code;

use crate::{
    device_api::program,
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
    let token = kept["token"].as_str().unwrap();
    let mut copy = running.clients(Some(token)).await;
    let file = home.token_file(token);
    let elsewhere = home.run(&format!("--token-file {file} whoami"), "").await;
    assert_eq!(elsewhere.code, 5, "{elsewhere:?}");
    let what = "the token is for another service, not for this one";
    assert!(elsewhere.err.contains(what), "{elsewhere:?}");

    let out = home.run("logout --service wiki --json", "").await;
    assert_eq!(out.json()["service"], "wiki");
    let over = copy.auth.logout(LogoutRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
    let again = home.run("logout --service wiki --json", "").await;
    assert_eq!(again.json()["logged_out"], false);
    assert_eq!(home.run("whoami", "").await.code, 0, "that one alone");
}

#[tokio::test]
async fn devices_are_listed_acknowledged_and_forgotten() {
    let running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let home = Home::of(&running);
    home.log_in("ada", PASSWORD).await;
    program(&running, "ada", "phone").await;
    let list = home.run("profile device list --json", "").await.json();
    let id = list[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list[0]["name"], "phone");
    for (description, line, code, said) in [
        ("as a table", "list".to_owned(), 0, "phone"),
        ("its own", format!("ack {id}"), 0, "is yours"),
        ("twice", format!("acknowledge {id}"), 5, "answered already"),
        ("none", "acknowledge nothing".to_owned(), 3, "nothing"),
        ("without a question", format!("forget {id}"), 2, "--yes"),
        ("gone", format!("forget {id} --yes"), 0, "ended: 1"),
        ("gone already", format!("forget {id} --yes"), 3, "device"),
        (
            "which nobody is asked about",
            format!("forget {id}"),
            3,
            "device",
        ),
    ] {
        let ended = home.run(&format!("profile device {line}"), "").await;
        assert_eq!(ended.code, code, "{description}: {ended:?}");
        let all = format!("{}{}", ended.out, ended.err);
        assert!(all.contains(said), "{description}: {ended:?}");
    }
}
