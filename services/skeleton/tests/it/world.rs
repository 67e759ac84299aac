//! MCIAS at `https://localhost`, and the guestbook at `https://127.0.0.1`: to browsers two sites.

use std::{
    collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use mc_proto::mcias::v1::{IssueTokenRequest, PutRuleRequest, PutServiceRequest, Rule, Service};
use mc_testkit::{port::free, process::Process, wait_for_async};

use crate::{
    running::{Clients, PASSWORD, Running},
    web::{Answer, Browser, Http},
};

/// The cookie of the guestbook's sessions.
pub(crate) const COOKIE: &str = "__Host-guestbook";

/// Both, running.
pub(crate) struct World {
    pub(crate) mcias: Running,
    pub(crate) admin: Clients,
    pub(crate) guestbook: Process,
    /// The guestbook's.
    pub(crate) root: tempfile::TempDir,
    pub(crate) https: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// Where its pages are, and where MCIAS's are.
    pub(crate) url: String,
    pub(crate) issuer: String,
}

pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guestbook"));
    command.arg("--root").arg(root);
    command
}

impl World {
    /// With Ada, who may sign, and Gil, a guest, who may not.
    pub(crate) async fn start() -> Self {
        let mcias = free();
        Self::start_behind(mcias, mcias).await
    }

    /// The guestbook asks at `front` for what MCIAS has at `mcias`.
    pub(crate) async fn start_behind(front: SocketAddr, mcias: SocketAddr) -> Self {
        let (https, grpc) = (free(), free());
        let issuer = format!("https://localhost:{}", front.port());
        let url = format!("https://{https}");
        let running = Running::start_as(|config| {
            config.server.listen = mcias;
            // The same after a restart.
            config.server.grpc_listen = free();
            config.token.issuer.clone_from(&issuer);
        })
        .await;
        let mut admin = running.admin().await;
        admin.person("ada", "user").await;
        admin.person("gil", "guest").await;
        let guests = Rule {
            name: "guests".to_owned(),
            roles: vec!["guest".to_owned()],
            ..Rule::default()
        };
        let request = PutRuleRequest {
            rule: Some(guests),
            allow_everybody: true,
        };
        admin.admin.put_rule(request).await.unwrap();
        admin.system("guestbook").await;
        let service = Service {
            name: "guestbook".to_owned(),
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
            name: "guestbook".to_owned(),
            services: vec!["mcias".to_owned()],
            ..IssueTokenRequest::default()
        };
        let issued = admin.accounts.issue_token(request).await.unwrap();
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        let leaf = running.ca.issue(&["127.0.0.1", "localhost"]).unwrap();
        leaf.write(at, "server").unwrap();
        fs::write(at.join("ca.pem"), running.ca.pem()).unwrap();
        for (name, secret) in [
            ("token", issued.into_inner().token),
            ("secret", made.client_secret),
        ] {
            fs::write(at.join(name), secret).unwrap();
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = format!(
            "[server]\nlisten = '{https}'\ngrpc_listen = '{grpc}'\ntls_cert = 'server.crt'\ntls_key = 'server.key'\n\
             tls_ca = 'ca.pem'\n[mcias]\nserver_url = 'https://localhost:{}'\nca_cert = 'ca.pem'\n\
             service_name = 'guestbook'\ntoken_file = 'token'\n[sso]\nissuer = '{issuer}'\npublic_url = '{url}'\n\
             client_secret_file = 'secret'\n",
            running.handle.grpc().port()
        );
        fs::write(at.join("guestbook.toml"), text).unwrap();
        let mut guestbook = Process::start(command(at).arg("server")).unwrap();
        guestbook.wait_for_output("known as they happen").unwrap();
        Self {
            mcias: running,
            admin,
            guestbook,
            root,
            https,
            grpc,
            url,
            issuer,
        }
    }

    /// A browser at the guestbook.
    pub(crate) fn visitor(&self) -> Browser {
        Browser {
            http: Http::at(self.https, &self.mcias.ca.pem()),
            cookies: BTreeMap::new(),
            agent: "Browser/1",
        }
    }

    /// A browser at MCIAS in which somebody is logged in.
    pub(crate) async fn person(&self, account: &str) -> Browser {
        let mut browser = Browser::new(&self.mcias);
        browser.log_in(account, PASSWORD).await;
        browser
    }

    /// To MCIAS and back: the path of the callback, which was not asked for yet.
    pub(crate) async fn answered(
        &self,
        here: &mut Browser,
        there: &mut Browser,
        page: &str,
    ) -> String {
        let login = here.get(page).await.location().to_owned();
        assert!(login.starts_with("/login?next="), "{login}");
        let away = here.get(&login).await.location().to_owned();
        let back = there.get(self.at_mcias(&away)).await.location().to_owned();
        self.here(&back).to_owned()
    }

    /// A whole login, for `page`.
    pub(crate) async fn log_in(
        &self,
        here: &mut Browser,
        there: &mut Browser,
        page: &str,
    ) -> Answer {
        let back = self.answered(here, there, page).await;
        here.get(&back).await
    }

    /// The path of a URL of MCIAS.
    pub(crate) fn at_mcias<'u>(&self, url: &'u str) -> &'u str {
        let path = url.strip_prefix(&self.issuer);
        path.unwrap_or_else(|| panic!("{url} is not MCIAS's"))
    }

    /// The path of a URL of the guestbook.
    pub(crate) fn here<'u>(&self, url: &'u str) -> &'u str {
        let path = url.strip_prefix(&self.url);
        path.unwrap_or_else(|| panic!("{url} is not the guestbook's"))
    }
}

/// Until nobody is logged in in it.
pub(crate) async fn logged_out(browser: &mut Browser) {
    let sent = wait_for_async("the end of the page's session", async || {
        let answer = browser.get("/").await;
        (answer.status == 303).then(|| answer.location().to_owned())
    });
    assert_eq!(sent.await.unwrap(), "/login?next=%2F");
}
