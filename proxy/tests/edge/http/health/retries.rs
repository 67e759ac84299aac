//! Which requests are sent again, and how many of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::{Context as _, Result, ensure};
use hyper::Response;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, sleep},
};

use super::{Site, Speaks, requests::whole_request};
use crate::world::World;

/// How an HTTP/2 server says that it has not begun with a request (RFC 9113 §8.7).
#[derive(Clone, Copy, Debug)]
enum No {
    RefusedStream,
    GoAway,
}

/// What a backend made of the requests that it saw.
#[derive(Default)]
struct Seen {
    refused: AtomicU64,
    /// The lengths of the bodies of those that it answered.
    answered: Mutex<Vec<usize>>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An HTTP/2 server that refuses so many requests and answers all others.
async fn refusing(
    mut stream: TcpStream,
    no: No,
    refusals: u64,
    seen: &Seen,
) -> std::io::Result<()> {
    const END_STREAM: u8 = 1;
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    let (mut length, mut refused) = (0, Vec::new());
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [_, a, b, kind, flags, id @ ..] = head;
        let id = u32::from_be_bytes(id);
        let size = usize::from(head[0]) << 16 | usize::from(a) << 8 | usize::from(b);
        let mut payload = vec![0; size];
        stream.read_exact(&mut payload).await?;
        let answer = match (kind, flags & END_STREAM) {
            // SETTINGS and PING are acknowledged.
            (4, 0) => frame(4, 1, 0, &[]),
            (6, 0) => frame(6, 1, 0, &payload),
            (1, _) if seen.refused.load(SeqCst) < refusals => {
                seen.refused.fetch_add(1, SeqCst);
                refused.push(id);
                match no {
                    No::RefusedStream => frame(3, 0, id, &7u32.to_be_bytes()),
                    No::GoAway => {
                        let last = id.saturating_sub(2).to_be_bytes();
                        frame(7, 0, 0, &[last, [0; 4]].concat())
                    }
                }
            }
            // What was under way when it was refused.
            (0, _) if refused.contains(&id) => continue,
            (0 | 1, end) => {
                if kind == 0 {
                    length += size;
                }
                if end == 0 {
                    continue;
                }
                let mut answered = seen.answered.lock().expect("no test panics with it");
                answered.push(std::mem::take(&mut length));
                // :status 200, of HPACK's static table.
                frame(1, 5, id, &[0x88])
            }
            _ => continue,
        };
        stream.write_all(&answer).await?;
    }
}

impl World {
    fn refuser(&self, no: No, refusals: u64) -> Result<(SocketAddr, Arc<Seen>)> {
        let seen = Arc::<Seen>::default();
        let notes = Arc::clone(&seen);
        let address = self.serve(move |stream| {
            let notes = Arc::clone(&notes);
            // Its end is the proxy's to choose.
            async move { drop(refusing(stream, no, refusals, &notes).await) }
        })?;
        Ok((address, seen))
    }
}

#[test]
fn what_an_http2_backend_has_not_begun_is_sent_again_whatever_it_is() -> Result<()> {
    let site = Site::bare()?;
    std::fs::write(site.path("body"), vec![b'x'; 30_000])?;
    let body = format!("--data-binary @{}", site.path("body"));
    for no in [No::RefusedStream, No::GoAway] {
        for (args, length) in [("", 0), ("-X POST", 0), (&*body, 30_000)] {
            let (address, seen) = site.world.refuser(no, 1)?;
            site.route(&format!("--backend {address} --protocol h2c"))?;
            let got = site.curl(&format!("{args} -o /dev/null -w %{{http_code}}"), "/")?;
            let answered = seen
                .answered
                .lock()
                .expect("no test panics with it")
                .clone();
            ensure!(
                got == "200" && answered == [length] && seen.refused.load(SeqCst) == 1,
                "{no:?} {args}: {got} {answered:?}\n{}",
                site.world.log()
            );
        }
        // Not for ever.
        let (address, seen) = site.world.refuser(no, u64::MAX)?;
        site.route(&format!("--backend {address} --protocol h2c"))?;
        let got = site.curl("-o /dev/null -w %{http_code}", "/")?;
        let refused = seen.refused.load(SeqCst);
        ensure!(
            got == "502" && refused <= 5,
            "{no:?}: {got} after {refused}"
        );
    }
    Ok(())
}

#[test]
fn retries_do_not_make_an_outage_worse() -> Result<()> {
    const REQUESTS: u64 = 400;
    let site = Site::bare()?;
    let seen = Arc::new(AtomicU64::new(0));
    let backend = || {
        let seen = Arc::clone(&seen);
        // Takes a request and goes away.
        site.world.serve(move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                if stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    seen.fetch_add(1, SeqCst);
                }
            }
        })
    };
    let (one, two, three) = (backend()?, backend()?, backend()?);
    site.route(&format!(
        "--backend {one} --backend {two} --backend {three}"
    ))?;
    let codes = site.gets(REQUESTS as usize)?;
    ensure!(codes.iter().all(|code| code == "502"), "{codes:?}");
    // A fifth of the requests, and what the route had in reserve.
    let seen = seen.load(SeqCst);
    let most = REQUESTS + REQUESTS / 5 + 100;
    ensure!(
        (REQUESTS + 50..=most).contains(&seen),
        "{seen} requests for {REQUESTS}"
    );
    let retries = site
        .world
        .metric("mc_proxy_retries_total", &["result=\"made\""])?;
    ensure!(retries == (seen - REQUESTS) as f64, "{retries} retries");
    let denied = site
        .world
        .metric("mc_proxy_retries_total", &["result=\"denied\""])?;
    ensure!(denied > 0.0, "{}", site.world.metrics()?);
    Ok(())
}

/// Answers the first request of a connection, and closes it so long after the second.
async fn closing(mut stream: TcpStream, speaks: Speaks, after: Duration) -> Result<()> {
    if speaks == Speaks::Http1 {
        whole_request(&mut stream).await?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await?;
        whole_request(&mut stream).await?;
        sleep(after).await;
        return Ok(());
    }
    let mut connection = h2::server::handshake(stream).await?;
    let (_, mut respond) = connection.accept().await.context("a request")??;
    respond.send_response(Response::new(()), true)?;
    let _second = connection.accept().await.context("another")??;
    // Its frames go on being read.
    tokio::select! {
        _ = connection.accept() => {}
        () = sleep(after) => {}
    }
    Ok(())
}

/// A kept connection may be dead, which says nothing of its backend: so it costs neither the request nor the backend. What dies with a
/// request that it has had for long is the backend's failure.
#[test]
fn only_what_fails_at_once_was_a_dead_connection() -> Result<()> {
    let site = Site::bare()?;
    for speaks in [Speaks::Http1, Speaks::H2c] {
        for (after, second) in [
            (Duration::ZERO, "200"),
            (Duration::from_millis(1500), "502"),
        ] {
            let address = site.world.serve(move |stream| async move {
                drop(closing(stream, speaks, after).await);
            })?;
            site.route(&format!("--backend {address} {}", site.protocol(speaks)))?;
            let codes = site.gets(2)?;
            ensure!(
                codes == ["200", second],
                "{speaks:?}, closed after {after:?}: {codes:?}\n{}",
                site.world.log()
            );
        }
    }
    Ok(())
}
