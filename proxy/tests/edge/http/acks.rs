//! Peers that write in small pieces with Nagle's algorithm on: each piece but the first waits for the acknowledgement of the one before,
//! and none is to wait for the timer of a delayed one.

use anyhow::{Context as _, Result, ensure};
use mc_testkit::ca::{Ca, KeyExchange};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{NAME, Site, requests::get};
use crate::{
    clients::client_hello,
    world::{NODE, World},
};

/// Exchanges of each kind. On a busy machine one of them may have to wait, for a CPU, as long as the timer runs.
const ROUNDS: u64 = 20;

impl World {
    /// Acknowledgements that the node's kernel has sent only when the timer for them was over.
    fn delayed_acks(&self) -> Result<u64> {
        let output = self.node.command("cat").arg("/proc/net/netstat").output()?;
        let text = String::from_utf8(output.stdout)?;
        let mut lines = text.lines().filter(|l| l.starts_with("TcpExt:"));
        let (names, values) = lines.next().zip(lines.next()).context("TcpExt")?;
        let mut counters = names.split(' ').zip(values.split(' '));
        let found = counters.find(|(name, _)| *name == "DelayedACKs");
        Ok(found.context("DelayedACKs")?.1.parse()?)
    }

    /// Whether nobody had to wait for most of what `work` does.
    fn undelayed(&self, description: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.delayed_acks()?;
        work()?;
        let delayed = self.delayed_acks()? - before;
        ensure!(delayed < ROUNDS / 2, "{description}: {delayed} of {ROUNDS}");
        Ok(())
    }
}

/// Writes in two pieces, with Nagle's algorithm as every socket begins.
async fn in_two(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    assert!(!stream.nodelay()?, "it is on");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    stream.write_all(first).await?;
    stream.write_all(second).await
}

#[test]
fn a_backend_that_writes_in_pieces_waits_for_no_timer() -> Result<()> {
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
    let site = Site::bare()?;
    let backend = site.world.serve(|mut stream| async move {
        let mut request = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                if in_two(&mut stream, RESPONSE).await.is_err() {
                    return;
                }
            }
        }
    })?;
    site.route(&format!("--backend {backend}"))?;
    let mut sender = site.http1(site.connect("http/1.1")?)?;
    site.world.undelayed("requests", || {
        for _ in 0..ROUNDS {
            let request = get("/").body(http_body_util::Empty::new())?;
            sender = site.run(async move {
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let body = http_body_util::BodyExt::collect(response).await?;
                ensure!(body.to_bytes().len() == 4);
                Ok(sender)
            })?;
        }
        Ok(())
    })
}

#[test]
fn a_relayed_connection_begins_without_a_timer() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let length = hello.len();
    let backend = world.serve(move |mut stream| async move {
        if stream.read_exact(&mut vec![0; length]).await.is_ok() {
            let _ = in_two(&mut stream, b"!?").await;
            let _ = stream.read(&mut [0]).await;
        }
    })?;
    world.run(&format!("route add {NAME} --backend {backend}"))?;
    let exchange = |in_pieces: bool| {
        let hello = hello.clone();
        let runtime = &world.client_runtime;
        runtime.block_on(runtime.spawn(async move {
            let mut stream = TcpStream::connect((NODE, 443)).await?;
            if in_pieces {
                in_two(&mut stream, &hello).await?;
            } else {
                stream.set_nodelay(true)?;
                stream.write_all(&hello).await?;
            }
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await?;
            anyhow::Ok(answer)
        }))?
    };
    for (description, in_pieces) in [
        ("a backend that writes in pieces", false),
        ("a client that writes in pieces as well", true),
    ] {
        world.undelayed(description, || {
            for _ in 0..ROUNDS {
                ensure!(exchange(in_pieces)? == *b"!?");
            }
            Ok(())
        })?;
    }
    Ok(())
}
