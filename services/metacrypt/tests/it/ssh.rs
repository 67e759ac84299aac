//! Certificates for SSH, as sshd and ssh take them.

use std::{fs, path::Path};

use mc_proto::metacrypt::v1::{
    CreateMountRequest, CreateRuleRequest, CreateSshCaKeyRequest, CreateSshRevocationRequest,
    DeleteSshRevocationRequest, PutSshProfileRequest, RevokeSshCertificateRequest, Rule,
    SealRequest, SignSshKeyRequest, SshCa, SshCaAlgorithm, SshCertificate, SshKind, SshPrincipal,
    SshProfile, create_ssh_revocation_request, ssh_principal::What,
};
use mc_testkit::sshd::{CLIENT, OTHER, Sshd, keygen};
use tonic::{Code, Status};

use crate::world::{Clients, World, by};

pub(crate) const MOUNT: &str = "ssh";

fn principal(what: What) -> SshPrincipal {
    SshPrincipal { what: Some(what) }
}

pub(crate) async fn mount(admin: &mut Clients) {
    let request = CreateMountRequest {
        name: MOUNT.to_owned(),
        engine: "ssh".to_owned(),
    };
    admin.system.create_mount(request).await.unwrap();
}

pub(crate) async fn ca_key(admin: &mut Clients, ca: &str, algorithm: SshCaAlgorithm) -> SshCa {
    let request = CreateSshCaKeyRequest {
        mount: MOUNT.to_owned(),
        ca: ca.to_owned(),
        algorithm: algorithm.into(),
    };
    admin.ssh.create_ca_key(request).await.unwrap().into_inner()
}

async fn put(admin: &mut Clients, name: &str, profile: SshProfile) -> Result<SshProfile, Status> {
    let request = PutSshProfileRequest {
        mount: MOUNT.to_owned(),
        name: name.to_owned(),
        profile: Some(profile),
    };
    Ok(admin.ssh.put_profile(request).await?.into_inner())
}

/// For those who log in, with these principals.
fn users(principals: Vec<What>) -> SshProfile {
    SshProfile {
        kind: SshKind::User.into(),
        principals: principals.into_iter().map(principal).collect(),
        max_ttl_s: 3600,
        ..SshProfile::default()
    }
}

async fn allow(admin: &mut Clients, account: &str, actions: &[&str], resources: &[&str]) {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let rule = Rule {
        name: account.to_owned(),
        accounts: vec![account.to_owned()],
        actions: owned(actions),
        resources: owned(resources),
        ..Rule::default()
    };
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: false,
    };
    admin.system.create_rule(request).await.unwrap();
}

async fn sign(
    clients: &mut Clients,
    profile: &str,
    key: &str,
    principals: &[&str],
) -> Result<SshCertificate, Status> {
    let request = SignSshKeyRequest {
        mount: MOUNT.to_owned(),
        profile: profile.to_owned(),
        public_key: key.to_owned(),
        principals: principals.iter().map(|one| (*one).to_owned()).collect(),
        ttl_s: 0,
    };
    Ok(clients.ssh.sign(request).await?.into_inner())
}

/// Profiles `app` and `gone`, three keys of the user authority, a certificate, and the key id `app` revoked; a public key, and the certificate's serial.
pub(crate) async fn one_of_each(admin: &mut Clients) -> (String, String) {
    mount(admin).await;
    for _ in 0..3 {
        ca_key(admin, "user", SshCaAlgorithm::Ed25519).await;
    }
    for name in ["app", "gone"] {
        let profile = users(vec![What::Account(true), What::Exact("app".to_owned())]);
        put(admin, name, profile).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let key = keygen(directory.path(), "key").unwrap();
    let made = sign(admin, "app", &key, &["app"]).await.unwrap();
    let request = CreateSshRevocationRequest {
        mount: MOUNT.to_owned(),
        what: Some(create_ssh_revocation_request::What::KeyId("app".to_owned())),
    };
    admin.ssh.create_revocation(request).await.unwrap();
    (key.trim().to_owned(), made.serial.to_string())
}

/// What is published, in the files that sshd and ssh read.
fn publish(world: &World, at: &Path) {
    for (what, file, media) in [
        ("user-ca", "user-ca", "text/plain; charset=utf-8"),
        ("host-ca", "known_hosts", "text/plain; charset=utf-8"),
        ("krl", "krl", "application/octet-stream"),
    ] {
        let got = world.fetch(&format!("/v1/ssh/{MOUNT}/{what}"), &at.join(file));
        assert_eq!(got, (200, media.to_owned()), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sshd_and_ssh_take_what_is_signed_and_refuse_the_rest() {
    let world = World::open().await;
    let (mut admin, mut ada) = (
        world.admin().await,
        world.clients(&world.user().await).await,
    );
    mount(&mut admin).await;
    ca_key(&mut admin, "user", SshCaAlgorithm::Unspecified).await;
    ca_key(&mut admin, "host", SshCaAlgorithm::EcdsaP256).await;
    let people = SshProfile {
        source_addresses: vec![CLIENT.to_owned()],
        ..users(vec![What::Account(true)])
    };
    put(&mut admin, "people", people).await.unwrap();
    let deploy = users(vec![What::Exact("deploy".to_owned())]);
    put(&mut admin, "deploy", deploy).await.unwrap();
    let hosts = SshProfile {
        kind: SshKind::Host.into(),
        principals: vec![principal(What::Below("example.org".to_owned()))],
        max_ttl_s: 86_400,
        ..SshProfile::default()
    };
    put(&mut admin, "hosts", hosts).await.unwrap();
    allow(
        &mut admin,
        "ada",
        &["ssh:sign"],
        &["ssh/profiles/people", "ssh/profiles/deploy"],
    )
    .await;

    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let host = keygen(at, "host").unwrap();
    let host = sign(&mut admin, "hosts", &host, &["web.example.org"])
        .await
        .unwrap();
    fs::write(at.join("host-cert.pub"), host.certificate + "\n").unwrap();
    fs::write(at.join("principals"), "ada\n").unwrap();
    publish(&world, at);
    let here = at.display();
    let lines = format!(
        "HostCertificate {here}/host-cert.pub\nTrustedUserCAKeys {here}/user-ca\nRevokedKeys {here}/krl\n\
         AuthorizedPrincipalsFile {here}/principals\n"
    );
    let sshd = Sshd::start(at, &lines).unwrap();

    let mut certificates = Vec::new();
    for (name, profile, name_of) in [
        ("one", "people", "ada"),
        ("two", "deploy", "deploy"),
        ("three", "people", "ada"),
    ] {
        let key = keygen(at, name).unwrap();
        let made = sign(&mut ada, profile, &key, &[name_of]).await.unwrap();
        assert_eq!(
            (made.key_id.as_str(), made.revoked),
            ("ada", false),
            "{made:?}"
        );
        fs::write(
            at.join(format!("{name}-cert.pub")),
            made.certificate.clone() + "\n",
        )
        .unwrap();
        certificates.push((made, key));
    }
    let login = |key: &str, from: &str, host: &str| {
        let output = sshd.login(key, from, host).unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let host = "web.example.org";
    for (description, key, from, name, good, told) in [
        ("as it was signed", "one", CLIENT, host, true, ""),
        (
            "another principal",
            "two",
            CLIENT,
            host,
            false,
            "does not contain an authorized principal",
        ),
        (
            "another address",
            "one",
            OTHER,
            host,
            false,
            "not from a permitted source address",
        ),
        (
            "a host of another name",
            "one",
            CLIENT,
            "other.example.org",
            false,
            "",
        ),
    ] {
        let (is_in, said) = login(key, from, name);
        let log = sshd.output();
        assert_eq!(is_in, good, "{description}: {said}{log}");
        assert!(log.to_lowercase().contains(told), "{description}: {log}");
    }

    // By its serial alone: the other one of the same account stays.
    let request = RevokeSshCertificateRequest {
        mount: MOUNT.to_owned(),
        serial: certificates[0].0.serial,
    };
    let revoked = admin.ssh.revoke(request).await.unwrap();
    assert!(revoked.into_inner().revoked);
    publish(&world, at);
    assert!(!login("one", CLIENT, host).0, "{}", sshd.output());
    assert!(login("three", CLIENT, host).0, "{}", sshd.output());
    // By its key, until that is lifted.
    let request = CreateSshRevocationRequest {
        mount: MOUNT.to_owned(),
        what: Some(create_ssh_revocation_request::What::PublicKey(
            certificates[2].1.clone(),
        )),
    };
    let made = admin.ssh.create_revocation(request).await.unwrap();
    publish(&world, at);
    assert!(!login("three", CLIENT, host).0, "{}", sshd.output());
    let refused = sign(&mut ada, "people", &certificates[2].1, &["ada"]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let request = DeleteSshRevocationRequest {
        mount: MOUNT.to_owned(),
        id: made.into_inner().id,
    };
    admin.ssh.delete_revocation(request).await.unwrap();
    publish(&world, at);
    assert!(login("three", CLIENT, host).0, "{}", sshd.output());
    // All of the account.
    let request = CreateSshRevocationRequest {
        mount: MOUNT.to_owned(),
        what: Some(create_ssh_revocation_request::What::KeyId("ada".to_owned())),
    };
    admin.ssh.create_revocation(request).await.unwrap();
    publish(&world, at);
    assert!(!login("three", CLIENT, host).0, "{}", sshd.output());

    let token = world.token("admin", &world.mcias.password).await;
    world
        .client()
        .await
        .seal(by(&token, SealRequest {}))
        .await
        .unwrap();
    let sealed = world.fetch("/v1/ssh/ssh/krl", &at.join("nothing"));
    assert_eq!(sealed.0, 503);
    world.unseal().await;
    let before = fs::read(at.join("krl")).unwrap();
    publish(&world, at);
    assert_eq!(
        fs::read(at.join("krl")).unwrap(),
        before,
        "after it was closed and opened"
    );
    let none = world.fetch("/v1/ssh/nothing/krl", &at.join("nothing"));
    assert_eq!(none.0, 404);
}
