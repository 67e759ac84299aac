//! The CA's part of the table of actions.

use std::{fs, process::Command};

use mc_proto::metacrypt::v1::{
    AcmeRules, CertificateKey, CreateAcmeKeyRequest, CreateIssuerRequest, CreateMountRequest,
    CreateRootRequest, PkiProfile, PutPkiProfileRequest, SetAcmeRequest, acme_client::AcmeClient,
};

use super::{Client, client, profile, wanted};
use crate::{
    actions::{
        Answer::{Empty, Refused},
        Row,
    },
    policy::{allow, put},
    running::Bearer,
    world::World,
};

const MOUNT: &str = "vault-ca";

pub(crate) const ROWS: &[Row] = &[
    (
        "Acme/SetAcme",
        r#"{"mount": "vault-ca", "base": "https://pki.example.org"}"#,
        Refused,
        "pki:set-acme",
    ),
    (
        "Acme/GetAcme",
        r#"{"mount": "vault-ca"}"#,
        Refused,
        "pki:read",
    ),
    (
        "Acme/CreateAcmeKey",
        r#"{"mount": "vault-ca"}"#,
        Refused,
        "pki:create-acme-key",
    ),
    (
        "Acme/ListAcmeKeys",
        r#"{"mount": "vault-ca"}"#,
        Empty,
        "pki:read",
    ),
    (
        "Acme/DeleteAcmeKey",
        r#"{"mount": "vault-ca", "id": "ACMEKEY"}"#,
        Refused,
        "pki:delete-acme-key",
    ),
    (
        "Pki/CreateRoot",
        r#"{"mount": "vault-ca", "name": "new-root", "key_algorithm": "CERTIFICATE_KEY_ED25519", "common_name": "a"}"#,
        Refused,
        "pki:create-issuer",
    ),
    (
        "Pki/CreateIssuer",
        r#"{"mount": "vault-ca", "name": "new", "under": "app-root", "key_algorithm": "CERTIFICATE_KEY_ED25519", "common_name": "a"}"#,
        Refused,
        "pki:create-issuer",
    ),
    (
        "Pki/ImportIssuer",
        r#"{"mount": "vault-ca", "name": "imported", "chain": CHAIN, "private_key": PRIVATE}"#,
        Refused,
        "pki:create-issuer",
    ),
    (
        "Pki/ListIssuers",
        r#"{"mount": "vault-ca"}"#,
        Empty,
        "pki:read",
    ),
    (
        "Pki/GetIssuer",
        r#"{"mount": "vault-ca", "name": "app-root"}"#,
        Refused,
        "pki:read",
    ),
    (
        "Pki/UpdateIssuer",
        r#"{"mount": "vault-ca", "name": "app-root", "disabled": false}"#,
        Refused,
        "pki:update-issuer",
    ),
    (
        "Pki/SetDefault",
        r#"{"mount": "vault-ca", "issuer": "app-root"}"#,
        Refused,
        "pki:set-default",
    ),
    (
        "Pki/DeleteIssuer",
        r#"{"mount": "vault-ca", "name": "gone"}"#,
        Refused,
        "pki:delete-issuer",
    ),
    (
        "Pki/SetUrls",
        r#"{"mount": "vault-ca", "base": "http://pki.example.org"}"#,
        Refused,
        "pki:set-urls",
    ),
    (
        "Pki/GetUrls",
        r#"{"mount": "vault-ca"}"#,
        Refused,
        "pki:read",
    ),
    (
        "Pki/PutProfile",
        r#"{"mount": "vault-ca", "name": "new", "profile": {"issuer": "app", "dns_names": ["a.example"], "server": true, "key_algorithms": ["CERTIFICATE_KEY_ED25519"], "max_ttl_s": 60}}"#,
        Refused,
        "pki:put-profile",
    ),
    (
        "Pki/GetProfile",
        r#"{"mount": "vault-ca", "name": "app"}"#,
        Refused,
        "pki:read",
    ),
    (
        "Pki/ListProfiles",
        r#"{"mount": "vault-ca"}"#,
        Empty,
        "pki:read",
    ),
    (
        "Pki/DeleteProfile",
        r#"{"mount": "vault-ca", "name": "gone"}"#,
        Refused,
        "pki:delete-profile",
    ),
    (
        "Pki/Issue",
        r#"{"mount": "vault-ca", "profile": "app", "names": ["example.org"]}"#,
        Refused,
        "pki:issue",
    ),
    (
        "Pki/Sign",
        r#"{"mount": "vault-ca", "profile": "app", "csr": CSR, "names": ["example.org"]}"#,
        Refused,
        "pki:sign",
    ),
    (
        "Pki/Renew",
        r#"{"mount": "vault-ca", "serial": "SERIAL"}"#,
        Refused,
        "pki:renew",
    ),
    (
        "Pki/Revoke",
        r#"{"mount": "vault-ca", "serial": "SERIAL"}"#,
        Refused,
        "pki:revoke",
    ),
    (
        "Pki/GetCertificate",
        r#"{"mount": "vault-ca", "serial": "SERIAL"}"#,
        Refused,
        "pki:read",
    ),
    (
        "Pki/ListCertificates",
        r#"{"mount": "vault-ca"}"#,
        Empty,
        "pki:read",
    ),
];

/// A CA of which there is something of everything, and what of it stands in the rows.
pub(crate) async fn vault(world: &World) -> Vec<(&'static str, String)> {
    let token = world.token("admin", &world.mcias.password).await;
    let request = CreateMountRequest {
        name: MOUNT.to_owned(),
        engine: "pki".to_owned(),
    };
    world
        .admin()
        .await
        .system
        .create_mount(request)
        .await
        .unwrap();
    let mut pki: Client = client(world, &token).await;
    for name in ["app-root", "gone"] {
        let request = CreateRootRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            key_algorithm: CertificateKey::EcdsaP256.into(),
            common_name: name.to_owned(),
            ..CreateRootRequest::default()
        };
        pki.create_root(request).await.unwrap();
    }
    let request = CreateIssuerRequest {
        mount: MOUNT.to_owned(),
        name: "app".to_owned(),
        under: "app-root".to_owned(),
        key_algorithm: CertificateKey::EcdsaP256.into(),
        common_name: "app".to_owned(),
        ..CreateIssuerRequest::default()
    };
    pki.create_issuer(request).await.unwrap();
    for name in ["app", "gone"] {
        let request = PutPkiProfileRequest {
            mount: MOUNT.to_owned(),
            name: name.to_owned(),
            profile: Some(PkiProfile {
                name: String::new(),
                acme: Some(AcmeRules::default()),
                ..profile("app")
            }),
        };
        pki.put_profile(request).await.unwrap();
    }
    let mut request = wanted("app", &["example.org"]);
    MOUNT.clone_into(&mut request.mount);
    // By her who asks: another one's certificate is renewed by who may issue it, too.
    let rule = allow("issue", &["pki:issue"], &["vault-ca/profiles/app"]);
    put(&mut world.admin().await, rule).await;
    let mut hers: Client = client(world, &world.user().await).await;
    let serial = hers.issue(request).await.unwrap().into_inner().serial;
    let request = CreateAcmeKeyRequest {
        mount: MOUNT.to_owned(),
        profiles: vec!["app".to_owned()],
        ..CreateAcmeKeyRequest::default()
    };
    let mut acme = AcmeClient::with_interceptor(world.channel().await, Bearer::of(&token));
    let base = SetAcmeRequest {
        mount: MOUNT.to_owned(),
        base: "https://pki.example.org".to_owned(),
        resolvers: Vec::new(),
    };
    acme.set_acme(base).await.unwrap();
    let made = acme.create_acme_key(request).await.unwrap().into_inner();
    let file = |name: &str| world.root.path().join(name);
    let openssl = |args: &[&str], key: &str, out: &str| {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-nodes",
            "-newkey",
            "ed25519",
            "-subj",
            "/CN=Elsewhere",
        ]);
        command
            .args(args)
            .arg("-keyout")
            .arg(file(key))
            .arg("-out")
            .arg(file(out));
        assert!(command.output().unwrap().status.success());
    };
    openssl(&["-new"], "csr.key", "csr.pem");
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    openssl(
        &["-x509", "-days", "9", "-addext", usage],
        "ca.key",
        "elsewhere.pem",
    );
    let json = |name: &str| {
        let text = fs::read_to_string(file(name)).unwrap();
        serde_json::Value::from(text).to_string()
    };
    vec![
        ("ACMEKEY", made.key.unwrap().id),
        ("SERIAL", serial),
        ("CSR", json("csr.pem")),
        ("CHAIN", json("elsewhere.pem")),
        ("PRIVATE", json("ca.key")),
    ]
}
