//! Who may change profiles.

use super::*;

#[tokio::test]
async fn who_changes_who_becomes_root_may_do_that_on_the_authority_too() {
    let engine = Engine::new().await;
    let allow = async |name: &str, on: &str| {
        for verb in ["put", "delete"] {
            let (name, action) = (format!("{name}-{verb}"), format!("ssh:{verb}-profile"));
            engine.allow(&name, false, &action, on).await;
        }
    };
    allow("own", "ssh/profiles/**").await;
    let put = async |name: &str, profile: pb::SshProfile| {
        let message = pb::PutSshProfileRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            profile: Some(profile),
        };
        told(engine.api.put_profile(request("ada", message)).await).map(drop)
    };
    let delete = async |name: &str| {
        let message = pb::DeleteSshProfileRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
        };
        told(engine.api.delete_profile(request("ada", message)).await).map(drop)
    };
    let root = || pb::SshProfile {
        principals: vec![pb::SshPrincipal {
            what: Some(pb::ssh_principal::What::Exact("root".to_owned())),
        }],
        ..people()
    };
    let denied = |verb: &str, ca: &str| {
        let text = format!("ada may not ssh:{verb}-profile on ssh/ca/{ca}");
        Err((Code::PermissionDenied, text))
    };
    assert_eq!(put("people", root()).await, denied("put", "user"));
    assert_eq!(put("new", root()).await, denied("put", "user"));
    assert_eq!(delete("people").await, denied("delete", "user"));
    let none = (Code::NotFound, "there is no profile \"nothing\"".to_owned());
    assert_eq!(delete("nothing").await, Err(none));
    allow("hosts", "ssh/ca/host").await;
    let host = || pb::SshProfile {
        kind: pb::SshKind::Host.into(),
        principals: vec![pb::SshPrincipal {
            what: Some(pb::ssh_principal::What::Below("example.org".to_owned())),
        }],
        ..people()
    };
    put("hosts", host()).await.unwrap();
    let other = put("people", host()).await.unwrap_err();
    assert_eq!(other.0, Code::FailedPrecondition, "{other:?}");
    assert!(other.1.contains("user authority"), "{other:?}");
    delete("hosts").await.unwrap();
    allow("users", "ssh/ca/user").await;
    put("people", root()).await.unwrap();
    let (_, _, on, detail) = engine.world.audit().pop().unwrap();
    assert_eq!(on, "ssh/profiles/people");
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(detail["principals"], serde_json::json!(["root"]));
    assert_eq!(
        detail["judged"],
        serde_json::json!(["ssh/profiles/people", "ssh/ca/user"])
    );
}
