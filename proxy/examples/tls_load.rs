//! New TLS 1.3 connections one after the other on each of some slots, for `cargo xtask bench edge`: connect, handshake, one GET,
//! read to the end.
//!
//! An example of this crate and not part of xtask, so that its TLS is compiled as the daemon's is (in release). It offers X25519 alone,
//! since the peers know nothing else, and checks no certificate: what the client does is done on the cores of those that are measured.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// One connection that takes so long hangs.
const STALL: Duration = Duration::from_secs(5);
/// Of the time, at the beginning; not counted.
const WARM_UP: u32 = 5;
/// More than a response of the benchmark.
const RESPONSE: usize = 4096;
/// Servers remembered by a slot.
const SERVERS: usize = 8;

#[derive(Clone, Parser)]
struct Cli {
    #[arg(long)]
    address: SocketAddr,
    /// The name to ask for
    #[arg(long)]
    name: String,
    #[arg(long)]
    concurrency: usize,
    #[arg(long)]
    milliseconds: u64,
    /// Present a ticket each time
    #[arg(long)]
    resume: bool,
}

#[derive(Serialize)]
struct Report {
    per_second: f64,
    p50: f64,
    p99: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let name = ServerName::try_from(cli.name.clone()).context("not a hostname")?;
    let window = Duration::from_millis(cli.milliseconds);
    let begin = Instant::now() + window / WARM_UP;
    let end = begin + window;
    let micros = Arc::<Mutex<Vec<u64>>>::default();
    let mut slots = JoinSet::new();
    for _ in 0..cli.concurrency {
        let (cli, name, micros) = (cli.clone(), name.clone(), Arc::clone(&micros));
        // Of its own, so that its tickets are: rustls keeps few for a server, and uses each once.
        let connector = TlsConnector::from(Arc::new(config(cli.resume)?));
        slots.spawn(async move {
            // The first has no ticket yet.
            once(&cli, &connector, &name, false).await?;
            while Instant::now() < end {
                let begun = Instant::now();
                once(&cli, &connector, &name, cli.resume).await?;
                let now = Instant::now();
                if now >= begin && now < end {
                    let took = (now - begun).as_micros() as u64;
                    micros.lock().unwrap_or_else(|e| e.into_inner()).push(took);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    let mut micros = std::mem::take(&mut *micros.lock().unwrap_or_else(|e| e.into_inner()));
    ensure!(!micros.is_empty(), "no connection came to its end");
    micros.sort_unstable();
    let percentile = |percent: usize| micros[micros.len() * percent / 100] as f64;
    let report = Report {
        per_second: micros.len() as f64 / window.as_secs_f64(),
        p50: percentile(50),
        p99: percentile(99),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// One connection; fails unless it was resumed as it should be.
async fn once(
    cli: &Cli,
    connector: &TlsConnector,
    name: &ServerName<'static>,
    resumed: bool,
) -> Result<()> {
    let exchange = async {
        let stream = TcpStream::connect(cli.address).await.context("connect")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let mut tls = connector
            .connect(name.clone(), stream)
            .await
            .context("handshake")?;
        let kind = tls.get_ref().1.handshake_kind();
        ensure!(
            !resumed || kind == Some(HandshakeKind::Resumed),
            "the handshake was {kind:?}, not resumed"
        );
        let request = format!(
            "GET /small HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            cli.name
        );
        tls.write_all(request.as_bytes()).await.context("request")?;
        let mut response = Vec::with_capacity(RESPONSE);
        tls.read_to_end(&mut response).await.context("response")?;
        ensure!(
            response.starts_with(b"HTTP/1.1 200"),
            "the response is {:?}",
            String::from_utf8_lossy(&response)
        );
        Ok(())
    };
    timeout(STALL, exchange)
        .await
        .with_context(|| format!("a connection to {} hangs", cli.address))?
        .with_context(|| format!("a connection to {}", cli.address))
}

fn config(resume: bool) -> Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::in_memory_sessions(SERVERS)
    } else {
        Resumption::disabled()
    };
    Ok(config)
}

/// Believes everything.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
