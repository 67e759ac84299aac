//! PROXY protocol: believed from trusted sources only, and sent to backends.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use mc_proxy::proxy_protocol::{self, Header};
use mc_testkit::ca::{Ca, KeyExchange};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    clients::client_hello,
    world::{CLIENT, NODE, World},
};

const NAME: &str = "proxied.example.org";

/// A backend that parses the PROXY header, reports it and answers "!".
fn header_backend(world: &World, hello: usize) -> Result<(SocketAddr, mpsc::Receiver<Header>)> {
    let (report, reported) = mpsc::channel(64);
    let address = world.serve(move |mut stream| {
        let report = report.clone();
        async move {
            let mut bytes = Vec::new();
            while stream.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
                if let Ok(Some((header, consumed))) = proxy_protocol::parse(&bytes)
                    && bytes.len() - consumed >= hello
                {
                    let _ = report.send(header).await;
                    let _ = stream.write_all(b"!").await;
                    return;
                }
            }
        }
    })?;
    Ok((address, reported))
}

fn send(world: &World, port: u16, bytes: Vec<u8>) -> Result<io::Result<u8>> {
    let sent = async move {
        let mut stream = TcpStream::connect((NODE, port)).await?;
        stream.write_all(&bytes).await?;
        stream.read_u8().await
    };
    Ok(world
        .client_runtime
        .block_on(world.client_runtime.spawn(sent))?)
}

#[test]
fn the_clients_address_survives_both_hops() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::PostQuantum)?;
    world.run(&format!(
        "listener add 0.0.0.0:8443 --proxy-from {CLIENT}/32"
    ))?;
    world.run("listener add 0.0.0.0:9443 --proxy-from 192.0.2.0/24")?;
    let (backend, mut reported) = header_backend(&world, hello.len())?;
    for port in ["443", "8443", "9443"] {
        world.run(&format!(
            "route add {NAME} --port {port} --send-proxy --backend {backend}"
        ))?;
    }
    let mut header = move || world_recv(&mut reported);

    let answer = send(&world, 443, hello.clone())?;
    ensure!(
        answer.is_ok(),
        "without a header in: {answer:?}\n{}",
        world.log()
    );
    let Header::Proxied {
        source,
        destination,
        ..
    } = header()?
    else {
        anyhow::bail!("no addresses were sent")
    };
    ensure!(
        source.ip().to_string() == CLIENT && destination == format!("{NODE}:443").parse()?,
        "{source} {destination}"
    );

    let mut v2 = Vec::new();
    proxy_protocol::encode_v2(
        "203.0.113.9:4242".parse()?,
        "198.51.100.1:443".parse()?,
        None,
        None,
        &mut v2,
    );
    let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::8 1234 443\r\n".to_vec();
    for (description, head, wanted) in [
        ("v2", v2.clone(), "203.0.113.9:4242"),
        ("v1", v1, "[2001:db8::7]:1234"),
    ] {
        let answer = send(&world, 8443, [head, hello.clone()].concat())?;
        ensure!(answer.is_ok(), "{description}: {answer:?}\n{}", world.log());
        let header = header()?;
        let Header::Proxied {
            source,
            ref authority,
            ..
        } = header
        else {
            anyhow::bail!("{description}: {header:?}")
        };
        ensure!(source.to_string() == wanted, "{description}: {source}");
        ensure!(
            format!("{authority:?}").contains(NAME),
            "{description}: the SNI is sent as authority: {authority:?}"
        );
    }

    for (description, port, bytes) in [
        (
            "a header from a source that is not trusted",
            9443,
            [v2.clone(), hello.clone()].concat(),
        ),
        ("a missing header", 8443, hello.clone()),
        (
            "a broken header",
            8443,
            [b"PROXY TCP4 1.2.3.4 nonsense\r\n".to_vec(), hello.clone()].concat(),
        ),
        (
            "a header where none is expected",
            443,
            [v2.clone(), hello.clone()].concat(),
        ),
    ] {
        let answer = send(&world, port, bytes)?;
        let kind = answer.as_ref().map_err(io::Error::kind).copied();
        ensure!(
            kind == Err(io::ErrorKind::ConnectionReset),
            "{description}: {answer:?}"
        );
    }
    Ok(())
}

fn world_recv(reported: &mut mpsc::Receiver<Header>) -> Result<Header> {
    reported.blocking_recv().context("the backend saw a header")
}

#[test]
fn the_firewall_judges_the_client_in_the_header() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    world.run(&format!(
        "listener add 0.0.0.0:8443 --proxy-from {CLIENT}/32"
    ))?;
    let (backend, _reported) = header_backend(&world, hello.len())?;
    world.run(&format!(
        "route add {NAME} --port 8443 --send-proxy --backend {backend}"
    ))?;
    world.ctl(&["firewall", "block", "203.0.113.0/24"])?;
    world.ctl(&["firewall", "allow", "203.0.113.77"])?;
    world.ctl(&["firewall", "ban", "198.51.100.5", "--ttl", "10m"])?;
    world.run("firewall rate set connections 1/s --burst 2")?;
    let attempt = |source: &str| -> Result<bool> {
        let mut bytes = Vec::new();
        proxy_protocol::encode_v2(
            source.parse()?,
            "198.51.100.1:443".parse()?,
            None,
            None,
            &mut bytes,
        );
        bytes.extend_from_slice(&hello);
        Ok(send(&world, 8443, bytes)?.is_ok())
    };
    // The rate also holds in XDP for the proxy itself: allow it, as an operator would.
    world.ctl(&["firewall", "allow", CLIENT])?;
    for (description, source, passes) in [
        ("a client that no rule names", "192.0.2.1:1000", true),
        ("a blocked network", "203.0.113.9:1000", false),
        ("an allowed address within it", "203.0.113.77:1000", true),
        ("a banned address", "198.51.100.5:1000", false),
        (
            "an IPv4-mapped blocked address",
            "[::ffff:203.0.113.9]:1000",
            false,
        ),
        (
            "the first client again, within its burst",
            "192.0.2.1:1001",
            true,
        ),
    ] {
        ensure!(attempt(source)? == passes, "{description}\n{}", world.log());
    }
    let passed = (0..10)
        .map(|_| attempt("192.0.2.200:1000"))
        .collect::<Result<Vec<_>>>()?;
    let passed = passed.into_iter().filter(|p| *p).count();
    ensure!(
        (2..=9).contains(&passed),
        "of 10 connections at once {passed} pass a burst of 2"
    );
    Ok(())
}
