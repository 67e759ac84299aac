//! kill -9 in the middle of writes: what was acknowledged is there, and the log is whole.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use mc_proto::mcias::v1::{
    AccountType, CreateAccountRequest, IssueTokenRequest, LoginRequest,
    accounts_client::AccountsClient, auth_client::AuthClient,
};
use mc_testkit::{ca::Ca, process::Process};
use mcdsl::audit;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};

use crate::running::files;

pub(crate) fn mcias(root: &std::path::Path, command: &str) -> Command {
    let mut mcias = Command::new(env!("CARGO_BIN_EXE_mcias"));
    mcias.env_clear().arg("--root").arg(root).arg(command);
    mcias
}

async fn channel(port: u16, ca: &Ca) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .domain_name("localhost");
    let endpoint = Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect_lazy()
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Where the service says that it listens: for gRPC.
fn port(process: &mut Process) -> u16 {
    address(process, "grpc").port()
}

/// Likewise, `https` or `grpc`.
pub(crate) fn address(process: &mut Process, which: &str) -> SocketAddr {
    process.wait_for_output("ready https=").unwrap();
    let output = process.output();
    let ready = output.split("ready https=").nth(1).unwrap();
    let ready = format!("https={}", ready.lines().next().unwrap());
    let address = ready.split(&format!("{which}=")).nth(1).unwrap();
    let address: String = address.chars().take_while(|c| !c.is_whitespace()).collect();
    address.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let ca = Ca::new().unwrap();
    files(root.path(), &ca);
    let output = mcias(root.path(), "init").arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let again = mcias(root.path(), "init")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!again.status.success(), "a second time");
    let mut process = Process::start(&mut mcias(root.path(), "server")).unwrap();
    let channel = channel(port(&mut process), &ca).await;
    let login = LoginRequest {
        account: "admin".to_owned(),
        password: made["password"].as_str().unwrap().to_owned(),
        ..LoginRequest::default()
    };
    let token = AuthClient::new(channel.clone())
        .login(login)
        .await
        .unwrap()
        .into_inner()
        .token;
    let acknowledged = Arc::new(Mutex::new((BTreeSet::new(), BTreeSet::new())));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (channel, token, done) = (channel.clone(), token.clone(), Arc::clone(&acknowledged));
        writers.push(tokio::spawn(async move {
            let mut accounts = AccountsClient::new(channel);
            for n in 0..125 {
                let name = format!("robot-{writer}-{n}");
                let create = CreateAccountRequest {
                    name: name.clone(),
                    account_type: AccountType::System.into(),
                    ..CreateAccountRequest::default()
                };
                if accounts.create_account(with(&token, create)).await.is_err() {
                    return;
                }
                done.lock().unwrap().0.insert(name.clone());
                let issue = IssueTokenRequest {
                    name,
                    ..IssueTokenRequest::default()
                };
                let Ok(issued) = accounts.issue_token(with(&token, issue)).await else {
                    return;
                };
                done.lock().unwrap().1.insert(issued.into_inner().id);
            }
        }));
    }
    mc_testkit::wait_for_async("half of the writes", async || {
        (acknowledged.lock().unwrap().1.len() > 200).then_some(())
    })
    .await
    .unwrap();
    process.kill9().unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let (accounts, tokens) = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert!(accounts.len() < 1000, "it was killed in the middle");
    let mut process = Process::start(&mut mcias(root.path(), "server")).unwrap();
    port(&mut process);
    let db = rusqlite::Connection::open(root.path().join("mcias.db")).unwrap();
    for (what, sql, wanted) in [
        ("accounts", "SELECT name FROM account", accounts),
        ("tokens", "SELECT id FROM token", tokens),
    ] {
        let mut found = db.prepare(sql).unwrap();
        let found: BTreeSet<String> = found
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let lost: Vec<_> = wanted.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "{what} that were acknowledged and are lost: {lost:?}"
        );
    }
    let verified = audit::verify(&db, None).unwrap();
    assert!(verified.rows > 400, "{verified:?}");
    process.terminate().unwrap();
}
