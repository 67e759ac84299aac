//! Real TLS clients reach the backend that their SNI names; everything else is reset.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::ca::{Ca, KeyExchange};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::world::{NODE, NODE6, World};

const NAMES: [&str; 3] = [
    "alpha.example.org",
    "beta.example.org",
    "deep.wild.example.net",
];

fn two_backends(world: &World) -> Result<Ca> {
    let ca = Ca::new()?;
    for (name, pattern) in NAMES.iter().zip([
        "alpha.example.org",
        "beta.example.org",
        "*.wild.example.net",
    ]) {
        let address = world.https(&ca, name)?.to_string();
        world.run(&format!(
            "route add {pattern} --port 443 --backend {address}"
        ))?;
    }
    std::fs::write(world.dir.path().join("ca.pem"), ca.pem())?;
    Ok(ca)
}

fn curl(world: &World, name: &str, node: &str) -> Result<std::process::Output> {
    let ca = world.dir.path().join("ca.pem");
    let resolve = format!("{name}:443:{node}");
    let url = format!("https://{name}/");
    let ca = ca.to_str().context("a temporary directory is UTF-8")?;
    world.client_command(
        "curl",
        &[
            "-sS",
            "-m",
            "10",
            "--cacert",
            ca,
            "--resolve",
            &resolve,
            &url,
        ],
    )
}

#[test]
fn curl_reaches_the_backend_that_sni_names() -> Result<()> {
    let world = World::started("")?;
    two_backends(&world)?;
    for name in NAMES {
        for node in [NODE, &format!("[{NODE6}]")] {
            let output = curl(&world, name, node)?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(
                text == format!("hello from {name}\n"),
                "{name} at {node}: {output:?}\n{}",
                world.log()
            );
        }
    }
    // curl says "reset by peer" or, when the RST overtakes its own write, "broken pipe" / SSL_ERROR_SYSCALL: exit 35.
    let output = curl(&world, "unknown.example.org", NODE)?;
    ensure!(
        output.status.code() == Some(35),
        "an unknown name is reset: {output:?}"
    );
    world.wait_metric("mc_proxy_denied_total", &["reason=\"unknown_sni\""], 1.0)?;
    world.wait_metric(
        "mc_proxy_connections_total",
        &["hostname=\"alpha.example.org\""],
        2.0,
    )?;
    Ok(())
}

#[test]
fn openssl_with_and_without_post_quantum_key_exchange() -> Result<()> {
    let world = World::started("")?;
    two_backends(&world)?;
    let groups = world.client_command("openssl", &["list", "-tls-groups"])?;
    let groups = String::from_utf8_lossy(&groups.stdout).into_owned();
    // Debian 12's OpenSSL 3.0 knows no ML-KEM; there rustls and curl's own tests carry that half.
    let mut choices = vec!["X25519", "P-256"];
    if groups.contains("X25519MLKEM768") {
        choices.push("X25519MLKEM768");
    }
    for group in choices {
        let ca = world.dir.path().join("ca.pem");
        let output = world.client_command("sh", &["-c", &format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 openssl s_client -quiet -no_ign_eof -ign_eof -groups {group} -connect {NODE}:443 -servername beta.example.org -CAfile {} -verify_return_error",
            ca.display()
        )])?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            text.contains("hello from beta.example.org"),
            "{group}: {output:?}"
        );
    }
    Ok(())
}

async fn tls_get(
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    name: &'static str,
) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut tls = TlsConnector::from(config)
        .connect(ServerName::try_from(name).unwrap(), stream)
        .await?;
    tls.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn rustls_with_and_without_post_quantum_key_exchange() -> Result<()> {
    let world = World::started("")?;
    let ca = two_backends(&world)?;
    for exchange in [KeyExchange::PostQuantum, KeyExchange::Classic] {
        for name in NAMES {
            let get = tls_get(
                ca.client_config(exchange)?,
                format!("{NODE}:443").parse()?,
                name,
            );
            let answer = world
                .client_runtime
                .block_on(world.client_runtime.spawn(get))??;
            ensure!(
                answer.ends_with(&format!("hello from {name}\n")),
                "{exchange:?} {name}: {answer}"
            );
        }
    }
    Ok(())
}

/// The first flight of a real client.
pub(crate) fn client_hello(ca: &Ca, name: &'static str, exchange: KeyExchange) -> Result<Vec<u8>> {
    let mut client =
        rustls::ClientConnection::new(ca.client_config(exchange)?, ServerName::try_from(name)?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

/// The same handshake message in records of `size` bytes.
fn in_small_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    message
        .chunks(size)
        .flat_map(|chunk| {
            let length = u16::try_from(chunk.len()).unwrap().to_be_bytes();
            [&header[..3], &length, chunk].concat()
        })
        .collect()
}

#[test]
fn a_client_hello_arrives_in_any_pieces() -> Result<()> {
    let world = World::started("")?;
    let ca = Ca::new()?;
    for (description, exchange, record, piece) in [
        ("one byte at a time", KeyExchange::PostQuantum, None, 1),
        (
            "split across records of 100 bytes",
            KeyExchange::PostQuantum,
            Some(100),
            4096,
        ),
        (
            "records of 7 bytes, 11 bytes at a time",
            KeyExchange::Classic,
            Some(7),
            11,
        ),
    ] {
        let hello = client_hello(&ca, "pieces.example.org", exchange)?;
        let hello = record.map_or(hello.clone(), |size| in_small_records(&hello, size));
        let backend = world.echo(hello.len())?.to_string();
        world.run(&format!(
            "route add pieces.example.org --port 443 --replace --backend {backend}"
        ))?;
        let sent = async move {
            let mut stream = TcpStream::connect((NODE, 443)).await?;
            stream.set_nodelay(true)?;
            for piece in hello.chunks(piece) {
                stream.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            stream.write_all(b"after").await?;
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = world
            .client_runtime
            .block_on(world.client_runtime.spawn(sent))?
            .context(description)?;
        ensure!(&answer == b"!after", "{description}: {answer:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_a_client_hello_with_a_known_name_is_reset() -> Result<()> {
    let world = World::started("[relay]\nclient_hello_timeout = \"1s\"\n")?;
    let ca = Ca::new()?;
    let mut ip_literal = client_hello(&ca, "known.example.org", KeyExchange::Classic)?;
    let at = ip_literal
        .windows(17)
        .position(|w| w == b"known.example.org")
        .context("the hello has its name")?;
    ip_literal[at..at + 17].copy_from_slice(b"010.010.010.01010");
    let hello = client_hello(&ca, "known.example.org", KeyExchange::Classic)?;
    let half = hello[..hello.len() / 2].to_vec();
    for (description, bytes) in [
        (
            "plain HTTP",
            b"GET / HTTP/1.1\r\nhost: known.example.org\r\n\r\n".to_vec(),
        ),
        ("a TLS alert", vec![0x15, 3, 1, 0, 2, 2, 40]),
        ("zeros", vec![0; 64]),
        ("a record that is too long", vec![0x16, 3, 1, 0xff, 0xff, 1]),
        ("a name that is no hostname", ip_literal),
        (
            "an unknown name",
            client_hello(&ca, "unknown.example.org", KeyExchange::PostQuantum)?,
        ),
        ("half a ClientHello and silence", half),
        ("silence", Vec::new()),
    ] {
        let attempt = async move {
            let mut stream = TcpStream::connect((NODE, 443)).await?;
            stream.write_all(&bytes).await?;
            stream.read(&mut [0; 16]).await
        };
        let attempt = async { tokio::time::timeout(Duration::from_secs(30), attempt).await };
        let answer = world
            .client_runtime
            .block_on(world.client_runtime.spawn(attempt))?
            .context(description)?;
        let kind = answer.as_ref().map_err(io::Error::kind).copied();
        ensure!(
            kind == Err(io::ErrorKind::ConnectionReset),
            "{description}: {answer:?}"
        );
    }
    world.wait_metric("mc_proxy_denied_total", &[], 8.0)?;
    world.wait_metric(
        "mc_proxy_denied_total",
        &["reason=\"client_hello_timeout\""],
        2.0,
    )?;
    Ok(())
}
