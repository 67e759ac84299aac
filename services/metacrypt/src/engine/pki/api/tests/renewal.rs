//! Renewing.

use mc_proto::metacrypt::v1::RenewCertificateRequest;

use super::*;

#[tokio::test]
async fn what_is_revoked_while_another_is_made_is_not_renewed() {
    let world = World::open().await;
    let (api, admin) = ca(&world).await;
    let serial = issue(&api, &admin).await;
    let request = RenewCertificateRequest {
        mount: "ca".to_owned(),
        serial: serial.clone(),
        ..RenewCertificateRequest::default()
    };
    // Nothing is signed until it is dropped.
    let all = world.metacrypt.cores.all_turns().await;
    let renewing = tokio::spawn({
        let (api, admin, request) = (api.clone(), admin.clone(), request.clone());
        async move { certificates::renew(&api, &admin, request).await }
    });
    while !world.metacrypt.cores.has_place("id-of-admin") {
        tokio::task::yield_now().await;
    }
    revoke(&api, &admin, &serial).await.unwrap();
    drop(all);
    let refused = renewing.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("it is revoked"), "{refused}");
    let at = world.metacrypt.own(&KIND, "ca", "test").unwrap();
    let paths = at.read(|items, _| Ok(items.names("certificates/", "", 10)?));
    assert_eq!(paths.await.unwrap().len(), 2, "the issuer's own and it");
}
