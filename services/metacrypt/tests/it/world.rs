//! MCIAS in this process, and Metacrypt beside it.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use mc_proto::{
    Method,
    mcias::v1::{IssueTokenRequest, LoginRequest, PutServiceRequest, Service},
    metacrypt::v1::{
        UnsealRequest, sealing_client::SealingClient, ssh_client::SshClient,
        system_client::SystemClient, transit_client::TransitClient,
        user_to_user_client::UserToUserClient,
    },
};
use mc_testkit::{clock::FakeClock, disk::Disk, port::free, process::Process};
use mcdsl::{clock::Clock, db::Store, shutdown::Shutdown};
use metacrypt::barrier::{Cost, Fresh, Seal, Wanted};
use tonic::{
    Request,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use zeroize::Zeroizing;

use crate::running::{Bearer, PASSWORD, Running};

/// Good enough for a seal.
pub(crate) const SEAL: &str = "walnut anchor tepid flamingo lease";

/// What it costs to open, unless `metacrypt init` made it: tests open hundreds.
const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

/// Both.
pub(crate) struct World {
    pub(crate) mcias: Running,
    /// `None`: it does not run.
    pub(crate) metacrypt: Option<Process>,
    pub(crate) root: tempfile::TempDir,
    pub(crate) grpc: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Where its pages are, and where MCIAS's are: to browsers two sites.
    pub(crate) url: String,
    pub(crate) issuer: String,
}

impl World {
    /// With Ada, a user. Metacrypt is neither initialised nor running.
    pub(crate) async fn new() -> Self {
        let (https, grpc, login) = (free(), free(), free());
        let url = format!("https://{https}");
        let issuer = format!("https://localhost:{}", login.port());
        let mcias = Running::start_as(|config| {
            config.server.listen = login;
            config.token.issuer.clone_from(&issuer);
        })
        .await;
        let mut admin = mcias.admin().await;
        admin.person("ada", "user").await;
        admin.system("metacrypt").await;
        let service = Service {
            name: "metacrypt".to_owned(),
            redirect_uris: vec![format!("{url}/login/callback")],
            post_logout_redirect_uris: vec![format!("{url}/logout")],
            ..Service::default()
        };
        let request = PutServiceRequest {
            service: Some(service),
            new_secret: false,
        };
        let made = admin.admin.put_service(request).await.unwrap().into_inner();
        let request = IssueTokenRequest {
            name: "metacrypt".to_owned(),
            services: vec!["mcias".to_owned()],
            ..IssueTokenRequest::default()
        };
        let issued = admin.accounts.issue_token(request).await.unwrap();
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        let leaf = mcias.ca.issue(&["127.0.0.1", "localhost"]).unwrap();
        leaf.write(at, "server").unwrap();
        fs::write(at.join("ca.pem"), mcias.ca.pem()).unwrap();
        for (name, secret) in [
            ("token", &*issued.into_inner().token),
            ("secret", &made.client_secret),
        ] {
            fs::write(at.join(name), secret).unwrap();
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = format!(
            "[server]\nlisten = '{https}'\ngrpc_listen = '{grpc}'\ntls_cert = 'server.crt'\ntls_key = 'server.key'\n\
             tls_ca = 'ca.pem'\n[mcias]\nserver_url = 'https://localhost:{}'\nca_cert = 'ca.pem'\n\
             service_name = 'metacrypt'\ntoken_file = 'token'\n[sso]\nissuer = '{issuer}'\n\
             public_url = '{url}'\nclient_secret_file = 'secret'\n",
            mcias.handle.grpc().port(),
        );
        fs::write(at.join("metacrypt.toml"), text).unwrap();
        Self {
            mcias,
            metacrypt: None,
            root,
            grpc,
            https,
            url,
            issuer,
        }
    }

    /// Running, sealed with [`SEAL`] at little cost.
    pub(crate) async fn sealed() -> Self {
        let mut world = Self::new().await;
        world.seal(false).await;
        world.start();
        world
    }

    /// The same, and a recovery key and three shares, of which two open it.
    pub(crate) async fn sealed_by_all() -> (Self, Fresh) {
        let mut world = Self::new().await;
        let fresh = world.seal(true).await;
        world.start();
        (world, fresh)
    }

    /// Has it sealed with [`SEAL`] at little cost; it does not run yet.
    pub(crate) async fn seal(&self, with_all: bool) -> Fresh {
        let database = self.config().database.path;
        let store = Store::open(&database, metacrypt::SERVICE.migrations).unwrap();
        let wanted = Wanted {
            cost: CHEAP,
            recovery: with_all,
            shares: with_all.then_some((2, 3)),
        };
        let seal = Seal::new(store, Clock::default());
        let password = Zeroizing::new(SEAL.to_owned());
        seal.init(password, wanted).await.unwrap()
    }

    fn config(&self) -> metacrypt::Config {
        let root = self.root.path();
        metacrypt::Config::load("metacrypt", root, None, std::iter::empty()).unwrap()
    }

    /// Running, sealed as `metacrypt init` does it, with what that wrote: a recovery key and three shares.
    pub(crate) async fn initialised() -> (Self, String) {
        let mut world = Self::new().await;
        let made = world.run(&["init", "--shares", "2/3"], SEAL);
        assert!(made.status.success(), "{made:?}");
        world.start();
        (world, String::from_utf8(made.stdout).unwrap())
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metacrypt"));
        command.arg("--root").arg(self.root.path());
        command
    }

    /// Runs it with lines for stdin.
    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.command();
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may fail before it reads.
        let _ = writeln!(child.stdin.take().unwrap(), "{stdin}");
        child.wait_with_output().unwrap()
    }

    pub(crate) fn start(&mut self) {
        let mut process = Process::start(self.command().arg("server")).unwrap();
        for line in ["https=", "known as they happen"] {
            process.wait_for_output(line).unwrap();
        }
        self.metacrypt = Some(process);
    }

    /// Has it go on, open, with all that it has on a disk of so many MiB.
    pub(crate) async fn onto_small_disk(&mut self, mebibytes: u32) -> Disk {
        assert!(
            self.metacrypt
                .take()
                .unwrap()
                .terminate()
                .unwrap()
                .success()
        );
        let aside = tempfile::tempdir().unwrap();
        let copy = |from: &Path, to: &Path| {
            let mut command = Command::new("cp");
            let done = command.arg("-a").arg(from.join(".")).arg(to).status();
            assert!(done.unwrap().success());
        };
        copy(self.root.path(), aside.path());
        let disk = Disk::over(self.root.path(), mebibytes).unwrap();
        copy(aside.path(), self.root.path());
        self.start();
        self.unseal().await;
        disk
    }

    /// The same in this process, by a clock that the test moves. It stops with what is given.
    pub(crate) async fn start_at(&self, clock: &FakeClock) -> Shutdown {
        let shutdown = Shutdown::new();
        let clock = Clock::of(clock.source());
        let started = metacrypt::start_by(clock, self.config(), &shutdown);
        started.await.unwrap();
        shutdown
    }

    /// A token for Metacrypt, as a tool gets one.
    pub(crate) async fn token(&self, account: &str, password: &str) -> String {
        let request = LoginRequest {
            account: account.to_owned(),
            password: password.to_owned(),
            service: "metacrypt".to_owned(),
            ..LoginRequest::default()
        };
        let mut clients = self.mcias.clients(None).await;
        clients
            .auth
            .login(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }

    /// What REST answers: the status and the body.
    pub(crate) fn post(&self, token: &str, path: &str, body: &str) -> (u16, String) {
        self.curl(token, path, &["--json", body])
    }

    /// A method by REST: of what it is asked, `fields`, each is where it belongs.
    pub(crate) fn rest(&self, token: &str, method: &Method, fields: &str) -> (u16, String) {
        let rest = method.rest.unwrap();
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(fields).unwrap();
        let mut path = rest.path.to_owned();
        for name in rest.bound {
            let value = fields.remove(*name).unwrap();
            path = path.replace(&format!("{{{name}}}"), value.as_str().unwrap());
        }
        let body = serde_json::Value::from(fields).to_string();
        let mut args = vec!["--request", rest.verb];
        if rest.body {
            args.extend(["--json", &body]);
        }
        self.curl(token, &path, &args)
    }

    fn curl(&self, token: &str, path: &str, args: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(self.root.path().join("ca.pem"))
            .args(["--write-out", "\n%{http_code}"])
            .args(args)
            .args(["--header", &format!("authorization: Bearer {token}")])
            .arg(format!("https://localhost:{}{path}", self.https.port()));
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// What anybody gets at a path: the status, the media type, and a file of what came.
    pub(crate) fn fetch(&self, path: &str, to: &Path) -> (u16, String) {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(self.root.path().join("ca.pem"))
            .args(["--write-out", "%{http_code} %{content_type}", "--output"])
            .arg(to)
            .arg(format!("https://localhost:{}{path}", self.https.port()));
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let (status, media) = text.split_once(' ').unwrap();
        (status.parse().unwrap(), media.to_owned())
    }

    pub(crate) async fn user(&self) -> String {
        self.token("ada", PASSWORD).await
    }

    pub(crate) async fn client(&self) -> SealingClient<Channel> {
        SealingClient::new(self.channel().await)
    }

    pub(crate) async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.mcias.ca.pem()))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// Running and open.
    pub(crate) async fn open() -> Self {
        let world = Self::sealed().await;
        world.unseal().await;
        world
    }

    pub(crate) async fn unseal(&self) {
        let request = UnsealRequest {
            password: SEAL.to_owned(),
            ..UnsealRequest::default()
        };
        self.client().await.unseal(request).await.unwrap();
    }

    /// Who calls with this token.
    pub(crate) async fn clients(&self, token: &str) -> Clients {
        let (channel, bearer) = (self.channel().await, Bearer::of(token));
        Clients {
            system: SystemClient::with_interceptor(channel.clone(), bearer.clone()),
            ssh: SshClient::with_interceptor(channel.clone(), bearer.clone()),
            transit: TransitClient::with_interceptor(channel.clone(), bearer.clone()),
            user: UserToUserClient::with_interceptor(channel, bearer),
        }
    }

    /// Who calls with the administrator's.
    pub(crate) async fn admin(&self) -> Clients {
        let token = self.token("admin", &self.mcias.password).await;
        self.clients(&token).await
    }

    /// Rows of the audit log: action, resource, outcome and detail.
    pub(crate) fn audit(&self) -> Vec<(String, String, String, String)> {
        let db = rusqlite::Connection::open(self.root.path().join("metacrypt.db")).unwrap();
        let sql = "SELECT action, resource, outcome, detail FROM audit ORDER BY seq";
        let mut rows = db.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| row.try_into()).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

type Client = InterceptedService<Channel, Bearer>;

/// Clients of somebody.
pub(crate) struct Clients {
    pub(crate) system: SystemClient<Client>,
    pub(crate) ssh: SshClient<Client>,
    pub(crate) transit: TransitClient<Client>,
    pub(crate) user: UserToUserClient<Client>,
}

pub(crate) fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}
