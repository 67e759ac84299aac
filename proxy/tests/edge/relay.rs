//! Bytes through the daemon, with both engines: exact, half-closed, reset.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::ca::{Ca, KeyExchange};
use sha2::{Digest as _, Sha256};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    clients::client_hello,
    world::{NODE, World},
};

const ENGINES: [&str; 2] = ["copy", "sockmap"];
const NAME: &str = "relay.example.org";

fn route(world: &World, engine: &str, backend: &str) -> Result<()> {
    world.run(&format!(
        "route add {NAME} --port 443 --replace --engine {engine} --backend {backend}"
    ))?;
    Ok(())
}

/// Deterministic bytes that differ by transfer.
fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends the hello and `upload`, half-closes, and returns the SHA-256 of what came back.
async fn transfer(hello: Vec<u8>, upload: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((NODE, 443)).await?;
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&hello).await?;
        write.write_all(&upload).await?;
        write.shutdown().await
    };
    let receive = async {
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; 65536]);
        loop {
            match read.read(&mut buffer).await? {
                0 => return io::Result::Ok(digest.finalize().to_vec()),
                n => digest.update(&buffer[..n]),
            }
        }
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.and(received)
}

#[test]
fn two_hundred_concurrent_transfers_are_exact_in_both_directions() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::PostQuantum)?;
    for engine in ENGINES {
        // The echo answers "!" and then all that was sent: both directions carry the same random bytes.
        route(&world, engine, &world.echo(hello.len())?.to_string())?;
        let mut transfers = JoinSet::new();
        for n in 0..200_u64 {
            let length = usize::try_from(
                payload(n, 8)
                    .iter()
                    .fold(0_u64, |a, b| a * 31 + u64::from(*b))
                    % 400_000,
            )?;
            let upload = payload(n + 1, length);
            let wanted = Sha256::digest([b"!", &upload[..]].concat()).to_vec();
            let hello = hello.clone();
            transfers.spawn_on(
                async move {
                    (
                        n,
                        length,
                        transfer(hello, upload).await.map(|got| got == wanted),
                    )
                },
                world.client_runtime.handle(),
            );
        }
        for (n, length, result) in world.client_runtime.block_on(transfers.join_all()) {
            let same = result.with_context(|| {
                format!("{engine}: transfer {n} of {length} bytes\n{}", world.log())
            })?;
            ensure!(
                same,
                "{engine}: transfer {n} of {length} bytes came back changed"
            );
        }
        world.wait_metric("mc_proxy_connections_active", &[], 0.0)?;
        let used = world.metric(
            "mc_proxy_engine_total",
            &[&format!("engine=\"{engine}\""), "fallback=\"\""],
        )?;
        // The kernel takes no socket whose client has finished already, as one with a short upload may have.
        let finished = world.metric("mc_proxy_engine_total", &["fallback=\"not_established\""])?;
        let short = if engine == "copy" { 0.0 } else { finished };
        ensure!(
            used >= 100.0 && used + short >= 200.0,
            "{engine} was used for {used} of 200 transfers\n{}",
            world.metrics()?
        );
    }
    Ok(())
}

#[test]
fn a_reset_reaches_the_other_side() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    for engine in ENGINES {
        // A backend that reads the hello, says "!" and then resets.
        let length = hello.len();
        let backend = world.serve(move |mut stream| async move {
            let mut preface = vec![0; length];
            if stream.read_exact(&mut preface).await.is_ok() && stream.write_all(b"!").await.is_ok()
            {
                let _ = stream.read(&mut preface).await;
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        })?;
        route(&world, engine, &backend.to_string())?;
        let hello_sent = hello.clone();
        let backend_resets = async move {
            let mut stream = TcpStream::connect((NODE, 443)).await?;
            stream.write_all(&hello_sent).await?;
            let mut answer = [0; 1];
            stream.read_exact(&mut answer).await?;
            stream.write_all(b"now").await?;
            stream.read(&mut answer).await
        };
        let result = world
            .client_runtime
            .block_on(world.client_runtime.spawn(backend_resets))?;
        let kind = result.as_ref().map_err(io::Error::kind).copied();
        ensure!(
            kind == Err(io::ErrorKind::ConnectionReset),
            "{engine}: backend's reset: {result:?}"
        );

        // A backend that reports how its client ended.
        let (report, mut reported) = tokio::sync::mpsc::channel(1);
        let backend = world.serve(move |mut stream| {
            let report = report.clone();
            async move {
                let mut buffer = vec![0; length];
                let _ = stream.read_exact(&mut buffer).await;
                let _ = stream.write_all(b"!").await;
                let _ = report.send(stream.read(&mut buffer).await).await;
            }
        })?;
        route(&world, engine, &backend.to_string())?;
        let hello_sent = hello.clone();
        let client_resets = async move {
            let mut stream = TcpStream::connect((NODE, 443)).await?;
            stream.write_all(&hello_sent).await?;
            stream.read_exact(&mut [0; 1]).await?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        };
        world
            .client_runtime
            .block_on(world.client_runtime.spawn(client_resets))??;
        let seen = async { tokio::time::timeout(Duration::from_secs(30), reported.recv()).await };
        let seen = world
            .client_runtime
            .block_on(seen)?
            .context("the backend has a connection")?;
        let kind = seen.as_ref().map_err(io::Error::kind).copied();
        ensure!(
            kind == Err(io::ErrorKind::ConnectionReset),
            "{engine}: client's reset: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn an_idle_connection_ends_and_a_busy_one_ends_at_its_age() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    for engine in ENGINES {
        let backend = world.echo(hello.len())?.to_string();
        for (description, limit, reason, busy) in [
            ("idle", ["--idle-timeout", "1s"], "idle", false),
            ("maximum age", ["--max-age", "2s"], "max_age", true),
        ] {
            let add = [
                "route",
                "add",
                NAME,
                "--port",
                "443",
                "--replace",
                "--engine",
                engine,
                "--backend",
                &backend,
            ];
            world.ctl(&[&add[..], &limit[..]].concat())?;
            let before = world.metric("mc_proxy_errors_total", &[reason])?;
            let hello = hello.clone();
            let attempt = async move {
                let mut stream = TcpStream::connect((NODE, 443)).await?;
                stream.write_all(&hello).await?;
                let mut byte = [0; 1];
                loop {
                    if stream.read(&mut byte).await? == 0 {
                        return io::Result::Ok(());
                    }
                    if busy {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        stream.write_all(b".").await?;
                    }
                }
            };
            let attempt = async { tokio::time::timeout(Duration::from_secs(30), attempt).await };
            // Whether it ends by FIN or RST is the engine's affair; that it ends is what counts.
            let _ended = world
                .client_runtime
                .block_on(world.client_runtime.spawn(attempt))?
                .context(description)?;
            world.wait_metric("mc_proxy_errors_total", &[reason], before + 1.0)?;
        }
    }
    Ok(())
}
