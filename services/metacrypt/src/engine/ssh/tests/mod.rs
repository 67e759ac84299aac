//! The engine's methods, by a clock that is moved.

use std::time::UNIX_EPOCH;

use mc_proto::metacrypt::v1::{self as pb, ssh_server::Ssh as _};
use mcdsl::{
    audit::Detail,
    policy::{Effect, Rule, Subjects},
};
use tonic::{Code, Request, Response, Status};

use super::{testing::sent_people as people, *};
use crate::{
    api::Api,
    barrier::SealError,
    jobs, policy,
    testing::{World, caller, nothing},
};

mod lists;
mod profiles;
mod revoked;

const MOUNT: &str = "ssh";

/// A mount with both authorities and two profiles for users, `people` and `others`.
struct Engine {
    world: World,
    api: Api,
    directory: tempfile::TempDir,
}

fn request<T>(who: &str, message: T) -> Request<T> {
    let role = if who == "root" { "admin" } else { "user" };
    let mut request = Request::new(message);
    let caller = caller(who, role, "/metacircular.metacrypt.v1.Ssh/Something");
    request.extensions_mut().insert(caller);
    request
}

fn told<T>(answer: Result<Response<T>, Status>) -> Result<T, (Code, String)> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

impl Engine {
    async fn new() -> Self {
        let world = World::open().await;
        let made = world.metacrypt.mount(MOUNT, "ssh", nothing());
        made.await.unwrap();
        let engine = Self {
            api: Api(Arc::clone(&world.metacrypt)),
            directory: tempfile::tempdir().unwrap(),
            world,
        };
        for ca in ["user", "host"] {
            engine.add_key(ca).await;
        }
        for name in ["people", "others"] {
            engine.put(name, people()).await.unwrap();
        }
        engine
    }

    async fn add_key(&self, ca: &str) -> pb::SshCa {
        let message = pb::CreateSshCaKeyRequest {
            mount: MOUNT.to_owned(),
            ca: ca.to_owned(),
            algorithm: 0,
        };
        told(self.api.create_ca_key(request("root", message)).await).unwrap()
    }

    async fn put(
        &self,
        name: &str,
        profile: pb::SshProfile,
    ) -> Result<pb::SshProfile, (Code, String)> {
        let message = pb::PutSshProfileRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            profile: Some(profile),
        };
        told(self.api.put_profile(request("root", message)).await)
    }

    async fn allow(&self, name: &str, deny: bool, action: &str, resource: &str) {
        let rule = Rule {
            name: name.to_owned(),
            description: String::new(),
            priority: 0,
            effect: if deny { Effect::Deny } else { Effect::Allow },
            subjects: Subjects {
                accounts: vec!["ada".to_owned()],
                ..Subjects::default()
            },
            actions: vec![action.to_owned()],
            resources: vec![resource.to_owned()],
            resource_tags: Vec::new(),
        };
        let root = caller(
            "root",
            "admin",
            "/metacircular.metacrypt.v1.System/CreateRule",
        );
        let put = move |all: &mut Vec<Rule>| policy::put(all, rule, false);
        let changed = self
            .world
            .metacrypt
            .change_policy(&root, false, Detail::new(), put);
        changed.await.unwrap();
    }

    /// A line of a key that is made once.
    fn key(&self) -> String {
        let path = self.directory.path().join("some");
        match path.exists() {
            true => testing::line(&path),
            false => testing::line(&testing::pair(self.directory.path(), "some", &["ed25519"])),
        }
    }

    async fn sign(
        &self,
        who: &str,
        profile: &str,
        ttl_s: u64,
    ) -> Result<pb::SshCertificate, (Code, String)> {
        let message = pb::SignSshKeyRequest {
            mount: MOUNT.to_owned(),
            profile: profile.to_owned(),
            public_key: self.key(),
            principals: vec![if who == "root" { "other" } else { who }.to_owned()],
            ttl_s,
        };
        told(self.api.sign(request(who, message)).await)
    }

    async fn get(&self, who: &str, serial: u64) -> Result<pb::SshCertificate, (Code, String)> {
        let message = pb::GetSshCertificateRequest {
            mount: MOUNT.to_owned(),
            serial,
        };
        told(self.api.get_certificate(request(who, message)).await)
    }

    async fn revoke(&self, who: &str, serial: u64) -> Result<pb::SshCertificate, (Code, String)> {
        let message = pb::RevokeSshCertificateRequest {
            mount: MOUNT.to_owned(),
            serial,
        };
        told(self.api.revoke(request(who, message)).await)
    }

    fn asked() -> pb::ListSshCertificatesRequest {
        pb::ListSshCertificatesRequest {
            mount: MOUNT.to_owned(),
            ..pb::ListSshCertificatesRequest::default()
        }
    }

    /// Serials, and where to go on.
    async fn list(&self, who: &str, asked: pb::ListSshCertificatesRequest) -> (Vec<u64>, String) {
        let listed = told(self.api.list_certificates(request(who, asked)).await).unwrap();
        let serials = listed.certificates.iter().map(|one| one.serial);
        (serials.collect(), listed.next)
    }

    async fn krl(&self) -> Vec<u8> {
        public::krl(&self.api, MOUNT).await.unwrap().to_vec()
    }

    async fn version(&self) -> u64 {
        u64::from_be_bytes(self.krl().await[12..20].try_into().unwrap())
    }
}

#[tokio::test]
async fn a_certificate_is_judged_by_its_profile_and_a_deny_holds_for_lists() {
    let engine = Engine::new().await;
    engine
        .allow("sign", false, "ssh:sign", "ssh/profiles/*")
        .await;
    let first = engine.sign("ada", "people", 0).await.unwrap().serial;
    let second = engine.sign("ada", "others", 0).await.unwrap().serial;
    assert!(second > first);
    assert_eq!(
        engine.list("ada", Engine::asked()).await.0,
        [0; 0],
        "she may sign alone"
    );
    let denied = |what: &str, serial| {
        (
            Code::PermissionDenied,
            format!("ada may not ssh:{what} on ssh/certificates/{serial}"),
        )
    };
    for serial in [first, 9] {
        assert_eq!(
            engine.get("ada", serial).await.unwrap_err(),
            denied("read", serial)
        );
        assert_eq!(
            engine.revoke("ada", serial).await.unwrap_err(),
            denied("revoke", serial)
        );
    }
    engine
        .allow("read", false, "ssh:read", "ssh/profiles/**")
        .await;
    assert_eq!(engine.list("ada", Engine::asked()).await.0, [first, second]);
    engine
        .allow("deny", true, "ssh:*", "ssh/profiles/others")
        .await;
    assert_eq!(engine.list("ada", Engine::asked()).await.0, [first]);
    assert_eq!(engine.get("ada", first).await.unwrap().key_id, "ada");
    assert_eq!(
        engine.get("ada", second).await.unwrap_err(),
        denied("read", second)
    );
    assert_eq!(
        engine.sign("ada", "others", 0).await.unwrap_err().0,
        Code::PermissionDenied
    );
    let absent = (Code::NotFound, "there is no certificate \"9\"".to_owned());
    assert_eq!(engine.get("root", 9).await.unwrap_err(), absent);
    let none = engine.sign("root", "nothing", 0).await.unwrap_err();
    assert_eq!(
        none,
        (Code::NotFound, "there is no profile \"nothing\"".to_owned())
    );
    for name in ["", "a/b", "..", "%2e", "é", "*"] {
        let refused = engine.sign("root", name, 0).await.unwrap_err();
        assert_eq!(refused.0, Code::InvalidArgument, "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn what_was_signed_is_in_the_log() {
    let engine = Engine::new().await;
    engine
        .allow("sign", false, "ssh:sign", "ssh/profiles/people")
        .await;
    let made = engine.sign("ada", "people", 0).await.unwrap();
    let (who, _, on, detail) = engine.world.audit().pop().unwrap();
    assert_eq!((who.as_deref(), &*on), (Some("ada"), "ssh/profiles/people"));
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    let wanted = serde_json::json!({
        "by": "rule sign",
        "key": made.fingerprint,
        "principals": ["ada"],
        "serial": made.serial.to_string(),
    });
    assert_eq!(detail, wanted);
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs() {
    let engine = Engine::new().await;
    engine
        .allow("sign", false, "ssh:sign", "ssh/profiles/people")
        .await;
    let lines = async |of| {
        let keys = public::keys(&engine.api, MOUNT, of).await.unwrap();
        let text = String::from_utf8(keys.to_vec()).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let ca = engine.add_key("user").await;
    assert_eq!((ca.signing, ca.keys.len()), (1, 2));
    let told: Vec<_> = ca.keys.iter().map(|key| key.public_key.clone()).collect();
    assert_eq!(lines(Of::User).await, told);
    let host = lines(Of::Host).await;
    assert!(
        host.len() == 1 && host[0].starts_with("@cert-authority * ssh-ed25519 "),
        "{host:?}"
    );
    let by = async || {
        engine
            .sign("ada", "people", 0)
            .await
            .unwrap()
            .ca_fingerprint
    };
    assert_eq!(by().await, ca.keys[0].fingerprint);
    let number = |number| pb::UseSshCaKeyRequest {
        mount: MOUNT.to_owned(),
        ca: "user".to_owned(),
        number,
    };
    let delete = |number| pb::DeleteSshCaKeyRequest {
        mount: MOUNT.to_owned(),
        ca: "user".to_owned(),
        number,
    };
    let refused = engine.api.delete_ca_key(request("root", delete(1))).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    engine
        .api
        .use_ca_key(request("root", number(2)))
        .await
        .unwrap();
    assert_eq!(by().await, ca.keys[1].fingerprint);
    engine
        .api
        .delete_ca_key(request("root", delete(1)))
        .await
        .unwrap();
    assert_eq!(lines(Of::User).await, told[1..]);
    let none = engine.api.use_ca_key(request("root", number(1))).await;
    assert_eq!(none.unwrap_err().code(), Code::NotFound);
    let root = pb::GetSshCaRequest {
        mount: MOUNT.to_owned(),
        ca: "root".to_owned(),
    };
    let refused = engine.api.get_ca(request("root", root)).await.unwrap_err();
    assert_eq!(refused.message(), "ca: `user` or `host`");
}

#[tokio::test]
async fn authorities_are_not_removed_by_the_way() {
    let engine = Engine::new().await;
    let metacrypt = &engine.world.metacrypt;
    let removed = metacrypt.unmount(MOUNT, false, nothing());
    let kept = removed.await.unwrap_err();
    assert!(matches!(kept, SealError::Kept(_)), "{kept}");
    assert!(kept.to_string().contains("user authority"), "{kept}");
}

#[tokio::test]
async fn certificates_that_are_signed_at_once_have_serials_of_their_own() {
    let engine = Engine::new().await;
    engine.key();
    engine
        .allow("sign", false, "ssh:sign", "ssh/profiles/**")
        .await;
    let all = (0..20).map(|_| engine.sign("ada", "others", 0));
    let made = futures_util::future::join_all(all).await;
    let serials: std::collections::BTreeSet<_> =
        made.into_iter().map(|made| made.unwrap().serial).collect();
    assert_eq!(serials.len(), 20);
}
