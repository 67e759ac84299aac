//! CAs that change under open connections: of clients, and of backends.

use std::{convert::Infallible, fs, net::SocketAddr, sync::Arc};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{Request, Response, StatusCode, client::conn, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::{ca::Ca, wait_for};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use super::{NAME, Site, Speaks, requests::get};
use crate::world::NODE;

async fn connect(config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((NODE, 443)).await?;
    let name = ServerName::try_from(NAME)?;
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

impl Site {
    /// One request over a connection of its own: how that began, and what came back.
    fn asks(&self, config: &Arc<ClientConfig>) -> Result<(Option<HandshakeKind>, String)> {
        let config = Arc::clone(config);
        self.run(async move {
            let mut stream = connect(config).await?;
            let kind = stream.get_ref().1.handshake_kind();
            let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok((kind, answer))
        })
    }

    /// What is shown of the certificates in force.
    fn loaded(&self) -> Result<serde_json::Value> {
        let shown = self.world.json(&["route", "show", NAME, "--port", "443"])?;
        Ok(shown["l7"]["certificate_not_after_unix_s"].clone())
    }
}

#[test]
fn clients_of_a_withdrawn_ca_are_let_go_and_not_let_in_again() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let (staff, people) = (Ca::new()?, Ca::new()?);
    let file = site.path("clients.pem");
    fs::write(&file, staff.pem())?;
    site.add_backend(&format!("--client-ca {file}"))?;
    let alice = site.ca.client_config_as(&staff.issue_client("alice")?)?;
    let bob = site.ca.client_config_as(&people.issue_client("bob")?)?;
    let begins = |config, wanted| -> Result<()> {
        let (kind, answer) = site.asks(config)?;
        ensure!(
            kind == Some(wanted) && answer.contains("hello from one"),
            "{kind:?}: {answer}"
        );
        Ok(())
    };
    let refused = |config| {
        let asked = site.asks(config);
        let answered = matches!(&asked, Ok((_, answer)) if !answer.is_empty());
        ensure!(!answered, "{asked:?}");
        Ok(())
    };
    begins(&alice, HandshakeKind::Full)?;
    refused(&bob)?;

    // Another certificate of the site, and one more CA: nobody is withdrawn.
    let before = site.loaded()?;
    fs::write(&file, staff.pem() + people.pem().as_str())?;
    let longer = site.ca.issue_until(&[NAME], 30 * 86_400)?;
    longer.write(site.world.dir.path(), "web")?;
    wait_for("the new certificate to be in force", || {
        (site.loaded().ok()? != before).then_some(())
    })?;
    begins(&alice, HandshakeKind::Resumed)?;
    begins(&bob, HandshakeKind::Full)?;
    begins(&bob, HandshakeKind::Resumed)?;

    let mut config = (*bob).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connection, _sender) = site.run(async move {
        let stream = TokioIo::new(connect(config.into()).await?);
        let (mut sender, connection) =
            conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("https://{NAME}/")).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        Ok((connection, sender))
    })?;
    fs::write(&file, staff.pem())?;
    wait_for("his connection to be told to go", || {
        connection.is_finished().then_some(())
    })?;
    refused(&bob)?;
    begins(&alice, HandshakeKind::Full)
}

#[test]
fn a_refused_certificate_keeps_no_withdrawn_ca() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let (staff, people) = (Ca::new()?, Ca::new()?);
    let file = site.path("clients.pem");
    fs::write(&file, staff.pem() + people.pem().as_str())?;
    site.add_backend(&format!("--client-ca {file}"))?;
    let alice = site.ca.client_config_as(&staff.issue_client("alice")?)?;
    let bob = site.ca.client_config_as(&people.issue_client("bob")?)?;
    for config in [&alice, &bob] {
        let (_, answer) = site.asks(config)?;
        ensure!(answer.contains("hello from one"), "{answer}");
    }
    fs::write(site.world.dir.path().join("web.crt"), "no certificate")?;
    fs::write(&file, staff.pem())?;
    wait_for("one of them to be let in no more", || {
        let asked = site.asks(&bob);
        (!matches!(&asked, Ok((_, answer)) if !answer.is_empty())).then_some(())
    })?;
    let (_, answer) = site.asks(&alice)?;
    ensure!(
        answer.contains("hello from one"),
        "the certificate before it: {answer}"
    );
    let shown = (site.world).json(&["route", "show", NAME, "--port", "443"])?;
    let error = shown["l7"]["certificate_error"].as_str().unwrap_or("");
    ensure!(error.contains("web.crt"), "{shown}");
    Ok(())
}

/// A backend over HTTP/2 whose certificate changes: then its connections end.
fn rotating(site: &Site, config: &watch::Receiver<Arc<ServerConfig>>) -> Result<SocketAddr> {
    let config = config.clone();
    site.world.serve(move |stream| {
        let mut config = config.clone();
        async move {
            let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow_and_update()));
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|_| async {
                let body = Full::new(Bytes::from_static(b"hello"));
                Ok::<_, Infallible>(Response::new(body))
            });
            let serving = server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // The proxy's end of it is no failure of the test.
                _ = serving => {}
                _ = config.changed() => {}
            }
        }
    })
}

#[test]
fn open_clients_reach_backends_that_another_ca_certifies() -> Result<()> {
    const BACKEND: &str = "backend.example.org";
    let site = Site::bare()?;
    let issued = |ca: &Ca| -> Result<Arc<ServerConfig>> {
        let mut config = (*ca.issue(&[BACKEND])?.server_config()?).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    };
    let (one, two, file) = (Ca::new()?, Ca::new()?, site.path("backends.pem"));
    let (certificate, receiver) = watch::channel(issued(&one)?);
    let backend = rotating(&site, &receiver)?;
    fs::write(&file, one.pem())?;
    site.route(&format!(
        "--backend {backend} --protocol h2 --backend-name {BACKEND} --backend-ca {file}"
    ))?;
    let stream = site.connect("http/1.1")?;
    let mut client = site.run(async move {
        let (mut client, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = client
            .send_request(get("/").body(Empty::<Bytes>::new())?)
            .await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        response.collect().await?;
        client.ready().await?;
        Ok(client)
    })?;
    certificate.send(issued(&two)?)?;
    fs::write(&file, two.pem())?;
    wait_for("a new client to be served", || {
        site.curl("", "/").ok().filter(|got| got == "hello")
    })?;
    site.run(async move {
        let response = client.send_request(get("/").body(Empty::new())?).await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        Ok(())
    })
}
