//! All that the API has the tool has: each method of the definition by a command, or a reason why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_proto::METHODS;
use mc_testkit::ca::Ca;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::mciasctl::Home;

/// What is not for a person at a terminal.
const NOT_THERE: [(&str, &str); 8] = [
    ("Auth/BeginPasskeyLogin", BROWSER),
    ("Auth/FinishPasskeyLogin", BROWSER),
    ("Profile/BeginPasskey", BROWSER),
    ("Profile/FinishPasskey", BROWSER),
    ("Auth/CheckToken", SERVICES),
    ("Auth/CheckAccount", SERVICES),
    ("Auth/WatchRevocations", SERVICES),
    ("Auth/WatchBans", SERVICES),
];
const BROWSER: &str = "a browser speaks with authenticators";
const SERVICES: &str = "services ask that, all the time";

/// A method, the command for it, and what it reads.
const COMMANDS: [(&str, &str, &str); 46] = [
    ("Auth/Login", "login --account ada", "secret\n"),
    ("Auth/Renew", "whoami", ""),
    ("Auth/Logout", "logout", ""),
    ("Auth/WhoAmI", "whoami", ""),
    ("Auth/GetKeys", "key list", ""),
    ("Accounts/ListAccounts", "account list", ""),
    ("Accounts/GetAccount", "account show ada", ""),
    ("Accounts/CreateAccount", "account create ada", ""),
    (
        "Accounts/UpdateAccount",
        "account update ada --status locked",
        "",
    ),
    ("Accounts/DeleteAccount", "account delete ada --yes", ""),
    (
        "Accounts/ResetPassword",
        "account reset-password ada --yes",
        "",
    ),
    (
        "Accounts/ClearSecondFactors",
        "account clear-factors ada --yes",
        "",
    ),
    (
        "Accounts/ClearFailedLogins",
        "account clear-failures ada --yes",
        "",
    ),
    (
        "Accounts/IssueToken",
        "token issue wiki --service mcias",
        "",
    ),
    ("Accounts/RotateToken", "token rotate wiki id", ""),
    ("Accounts/ListTokens", "token list wiki", ""),
    ("Accounts/Revoke", "token revoke id --yes", ""),
    ("Accounts/Revoke", "revoke --account ada --yes", ""),
    ("Accounts/Revoke", "revoke --everything --yes", ""),
    (
        "Profile/ChangePassword",
        "profile password",
        "secret\nanother\n",
    ),
    ("Profile/GetFactors", "profile show", ""),
    ("Profile/BeginTotp", "profile totp enrol", "secret\n"),
    ("Profile/ConfirmTotp", "profile totp confirm", "123456\n"),
    (
        "Profile/RemoveTotp",
        "profile totp remove --yes",
        "secret\n",
    ),
    (
        "Profile/RemovePasskey",
        "profile passkey remove id --yes",
        "secret\n",
    ),
    (
        "Profile/NewRecoveryCodes",
        "profile recovery-codes --yes",
        "secret\n",
    ),
    ("Profile/ListSessions", "profile sessions", ""),
    ("Profile/EndSession", "profile end-session id", ""),
    ("Profile/ListDevices", "profile device list", ""),
    (
        "Profile/AcknowledgeDevice",
        "profile device acknowledge id",
        "",
    ),
    ("Profile/ForgetDevice", "profile device forget id --yes", ""),
    ("Administration/ListRules", "policy list", ""),
    ("Administration/PutRule", "policy put rule --deny --yes", ""),
    ("Administration/DeleteRule", "policy delete rule --yes", ""),
    (
        "Administration/Explain",
        "policy explain --account ada --service wiki",
        "",
    ),
    ("Administration/ListServices", "service list", ""),
    ("Administration/GetService", "service show wiki", ""),
    ("Administration/PutService", "service put wiki", ""),
    (
        "Administration/DeleteService",
        "service delete wiki --yes",
        "",
    ),
    ("Administration/ListAudit", "audit list", ""),
    ("Administration/VerifyAudit", "audit verify", ""),
    ("Administration/ListBans", "ban list", ""),
    ("Administration/LiftBan", "ban lift 192.0.2.1", ""),
    ("Administration/GetStatus", "status", ""),
    ("Administration/Snapshot", "snapshot", ""),
    ("Administration/RotateKey", "key rotate --yes", ""),
];

/// As the definition names it.
fn path(method: &str) -> String {
    format!("/metacircular.mcias.v1.{method}")
}

/// A server that answers every method with an empty message, of whichever type that is, and knows which were called.
struct Hearer {
    calls: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    ca: Ca,
}

impl Hearer {
    async fn start() -> Self {
        let ca = Ca::new().unwrap();
        let leaf = ca.issue(&["localhost"]).unwrap();
        let mut tls = leaf.server_config().unwrap();
        Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&calls);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let heard = Arc::clone(&heard);
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    heard.lock().unwrap().push(path);
                    async { Ok::<_, Infallible>(empty()) }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(tls), service));
            }
        });
        Self { calls, address, ca }
    }

    /// The methods that were called since this was asked.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn empty() -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    // Not compressed, of no bytes.
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(trailers);
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

#[test]
fn every_method_has_a_command_or_a_reason() {
    let methods = METHODS
        .iter()
        .filter(|m| m.package == "metacircular.mcias.v1");
    let all: BTreeSet<String> = methods.map(|method| method.path.to_owned()).collect();
    let commands: BTreeSet<_> = COMMANDS.iter().map(|(name, ..)| path(name)).collect();
    let reasons: BTreeMap<_, _> = NOT_THERE.iter().map(|(n, why)| (path(n), why)).collect();
    for method in &all {
        let ways = [commands.contains(method), reasons.contains_key(method)];
        assert_ne!(ways[0], ways[1], "{method}: a command, or a reason");
    }
    let named: BTreeSet<_> = commands.into_iter().chain(reasons.into_keys()).collect();
    assert_eq!(named, all, "no others");
}

#[tokio::test]
async fn every_command_calls_its_method() {
    let hearer = Hearer::start().await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), hearer.ca.pem()).unwrap();
    let port = hearer.address.port();
    let home = Home::at(port, ca.path().display().to_string());
    let kept = home.tokens();
    let mut directories = fs::DirBuilder::new();
    let directories = directories.recursive(true).mode(0o700);
    directories.create(kept.parent().unwrap()).unwrap();
    let keep = |left: u64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let end = now.unwrap() + Duration::from_secs(left);
        let token = json!({ "account": "ada", "token": "x.y.z", "expires_unix_s": end.as_secs() });
        let all = json!({ format!("https://localhost:{port}"): token });
        fs::write(&kept, all.to_string()).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (method, line, input) in COMMANDS {
        // A token that is about to end is renewed by whichever command.
        keep(if method == "Auth/Renew" { 300 } else { 3600 });
        let ended = home.run(line, input).await;
        let heard = hearer.heard();
        assert!(
            heard.contains(&path(method)),
            "{line}: {method} is not among {heard:?}: {ended:?}"
        );
    }
}
