//! The list of what is revoked.

use super::*;

#[tokio::test]
async fn each_change_makes_a_greater_version_and_nothing_else_does() {
    let engine = Engine::new().await;
    engine
        .allow("sign", false, "ssh:sign", "ssh/profiles/**")
        .await;
    let made = engine.sign("ada", "people", 0).await.unwrap();
    let mut version = engine.version().await;
    let mut greater = async |what: &str| {
        let next = engine.version().await;
        assert!(next > version, "{what}");
        version = next;
    };
    engine.revoke("root", made.serial).await.unwrap();
    greater("a certificate").await;
    let krl = engine.krl().await;
    engine.revoke("root", made.serial).await.unwrap();
    engine.sign("ada", "people", 0).await.unwrap();
    assert_eq!(engine.krl().await, krl, "nothing that it did not say");
    engine.add_key("user").await;
    assert_eq!(engine.krl().await, krl, "it names no authority's key");
    engine.world.clock.set_back(Duration::from_secs(3600));
    let key_id = pb::CreateSshRevocationRequest {
        mount: MOUNT.to_owned(),
        what: Some(pb::create_ssh_revocation_request::What::KeyId(
            "ada".to_owned(),
        )),
    };
    let revoke = || {
        engine
            .api
            .create_revocation(request("root", key_id.clone()))
    };
    let revoked = told(revoke().await).unwrap();
    assert_eq!(revoked.id, "id-ada");
    let known = (revoked.certificates, revoked.account_exists);
    assert_eq!(known, (Some(2), None), "both; nobody knows MCIAS here");
    greater("a key id, and the clock was set back").await;
    assert_eq!(told(revoke().await).unwrap_err().0, Code::AlreadyExists);
    let refused = engine.sign("ada", "people", 0).await.unwrap_err();
    assert_eq!(refused.0, Code::FailedPrecondition, "{refused:?}");
    let lift = pb::DeleteSshRevocationRequest {
        mount: MOUNT.to_owned(),
        id: "id-ada".to_owned(),
    };
    let lifted = engine
        .api
        .delete_revocation(request("root", lift.clone()))
        .await;
    lifted.unwrap();
    greater("a revocation that was lifted").await;
    let again = engine.api.delete_revocation(request("root", lift)).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound);
    engine.sign("ada", "people", 0).await.unwrap();
}
