//! What makes all tokens void at once, and the keys that they are signed by.

use mc_proto::mcias::v1::{
    GetKeysRequest, RotateKeyRequest, WhoAmIRequest, revoke_request::What as Revoked,
};
use tonic::Code;

use crate::{
    issuing::{is_known, issue, revoke},
    running::{Clients, Running},
};

#[tokio::test]
async fn everything_is_revoked_and_whoever_logs_in_after_it_is_not() {
    let running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let (robot, _) = issue(&mut admin, "robot", &[]).await;
    revoke(&mut admin, Revoked::Everything(true)).await;
    assert!(!is_known(&running, &robot).await);
    let over = admin.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "the one who did it too");
    // In the same second.
    let token = running
        .log_in("admin", &running.password)
        .await
        .unwrap()
        .token;
    assert!(is_known(&running, &token).await);
}

#[tokio::test]
async fn keys_change_and_overlap() {
    let mut running = Running::start().await;
    let mut admin = running.admin().await;
    admin.system("robot").await;
    let (robot, _) = issue(&mut admin, "robot", &[]).await;
    let keys = async |clients: &mut Clients| {
        let answer = clients.auth.get_keys(GetKeysRequest {}).await.unwrap();
        answer
            .into_inner()
            .keys
            .into_iter()
            .map(|key| key.kid)
            .collect::<Vec<_>>()
    };
    let before = keys(&mut admin).await;
    let rotated = admin
        .admin
        .rotate_key(RotateKeyRequest::default())
        .await
        .unwrap()
        .into_inner();
    let after = keys(&mut admin).await;
    assert_eq!(after.len(), 2);
    assert!(after.contains(&before[0]) && after.contains(&rotated.kid));
    assert!(is_known(&running, &robot).await, "signed by the one before");
    running.restart().await;
    assert!(is_known(&running, &robot).await, "after a restart too");
    let mut admin = running.admin().await;
    let drop_old = RotateKeyRequest { drop_old: true };
    admin.admin.rotate_key(drop_old).await.unwrap();
    assert!(!is_known(&running, &robot).await, "dropped");
    let mut admin = running.admin().await;
    assert_eq!(keys(&mut admin).await.len(), 1);
}
