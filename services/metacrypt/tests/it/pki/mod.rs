//! The CA, as its clients and everybody else meet it.

mod acme;
pub(crate) mod actions;
mod judged;
mod refused;
mod tools;

use std::{fs, path::PathBuf, process::Command};

use mc_proto::metacrypt::v1::{
    CertificateKey, CreateIssuerRequest, CreateMountRequest, CreateRootRequest,
    IssueCertificateRequest, IssuedCertificate, PkiProfile, PutPkiProfileRequest,
    pki_client::PkiClient,
};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use crate::{
    running::Bearer,
    world::{Clients, World},
};

type Client = PkiClient<InterceptedService<Channel, Bearer>>;

const MOUNT: &str = "ca";

/// A CA with a root, the issuer `services`, and the profile `web`.
struct Ca {
    world: World,
    admin: Clients,
    pki: Client,
}

async fn client(world: &World, token: &str) -> Client {
    PkiClient::with_interceptor(world.channel().await, Bearer::of(token))
}

impl Ca {
    async fn new() -> Self {
        let world = World::open().await;
        let mut admin = world.admin().await;
        let token = world.token("admin", &world.mcias.password).await;
        let request = CreateMountRequest {
            name: MOUNT.to_owned(),
            engine: "pki".to_owned(),
        };
        admin.system.create_mount(request).await.unwrap();
        let pki = client(&world, &token).await;
        let mut ca = Self { world, admin, pki };
        ca.chain(
            CertificateKey::EcdsaP384,
            CertificateKey::EcdsaP256,
            "root",
            "services",
        )
        .await;
        ca.put(profile("services")).await;
        ca
    }

    /// A root, and an issuer below it.
    async fn chain(
        &mut self,
        of_root: CertificateKey,
        key: CertificateKey,
        root: &str,
        issuer: &str,
    ) {
        let request = CreateRootRequest {
            mount: MOUNT.to_owned(),
            name: root.to_owned(),
            key_algorithm: of_root.into(),
            common_name: format!("Example {root}"),
            organization: "Example".to_owned(),
            ttl_s: 0,
        };
        self.pki.create_root(request).await.unwrap();
        let request = CreateIssuerRequest {
            mount: MOUNT.to_owned(),
            name: issuer.to_owned(),
            under: root.to_owned(),
            key_algorithm: key.into(),
            common_name: format!("Example {issuer}"),
            ..CreateIssuerRequest::default()
        };
        self.pki.create_issuer(request).await.unwrap();
    }

    async fn put(&mut self, profile: PkiProfile) {
        let request = PutPkiProfileRequest {
            mount: MOUNT.to_owned(),
            name: profile.name.clone(),
            profile: Some(profile),
        };
        self.pki.put_profile(request).await.unwrap();
    }

    async fn issue(&mut self, names: &[&str]) -> IssuedCertificate {
        let issued = self.pki.issue(wanted("web", names)).await;
        issued.unwrap().into_inner()
    }

    /// What everybody gets: status, media type, and body.
    fn get(&self, path: &str, post: Option<&[u8]>) -> (u16, String, Vec<u8>) {
        let body = self.file("answer");
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(self.world.root.path().join("ca.pem"))
            .arg("--output")
            .arg(&body)
            .args(["--write-out", "%{http_code} %{content_type}"]);
        if let Some(post) = post {
            fs::write(self.file("request"), post).unwrap();
            command
                .args([
                    "--header",
                    "content-type: application/ocsp-request",
                    "--data-binary",
                ])
                .arg(format!("@{}", self.file("request").display()));
        }
        let port = self.world.https.port();
        command.arg(format!("https://localhost:{port}/v1/pki/{path}"));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (status, kind) = text.split_once(' ').unwrap_or_else(|| panic!("{text}"));
        let body = fs::read(body).unwrap_or_default();
        (status.parse().unwrap(), kind.to_owned(), body)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.root.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn profile(issuer: &str) -> PkiProfile {
    PkiProfile {
        name: "web".to_owned(),
        issuer: issuer.to_owned(),
        dns_names: vec!["example.org".to_owned()],
        dns_suffixes: vec!["svc.example.org".to_owned()],
        ip_networks: vec!["10.0.0.0/8".to_owned()],
        uri_prefixes: vec!["spiffe://example.org/service".to_owned()],
        server: true,
        client: true,
        key_algorithms: vec![
            CertificateKey::EcdsaP256.into(),
            CertificateKey::EcdsaP384.into(),
            CertificateKey::Ed25519.into(),
            CertificateKey::Rsa.into(),
        ],
        ttl_s: 3600,
        max_ttl_s: 86400,
        ..PkiProfile::default()
    }
}

fn wanted(profile: &str, names: &[&str]) -> IssueCertificateRequest {
    IssueCertificateRequest {
        mount: MOUNT.to_owned(),
        profile: profile.to_owned(),
        names: names.iter().map(ToString::to_string).collect(),
        ..IssueCertificateRequest::default()
    }
}
