//! Bodies on their way to HTTP/2 backends that do not read them.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::{Reason, client, server};
use hyper::{Request, Response};
use mc_testkit::wait_for;
use tokio::net::TcpStream;

use super::{NAME, Site};

/// More than all windows and buffers between a client and a backend hold.
const LARGE: usize = 4_000_000;
const ANSWER: &[u8] = b"answer";

/// What a backend says to a request whose body it does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    /// The head of an answer and a first part.
    Something,
    All,
}

/// How the streams of a backend were reset.
pub(super) type Resets = Arc<Mutex<Vec<Reason>>>;

async fn deaf(stream: TcpStream, says: Says, resets: Resets) -> Result<()> {
    let mut connection = server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let resets = Arc::clone(&resets);
        tokio::spawn(async move {
            let unread = request.into_body();
            let reason = if says == Says::Nothing {
                poll_fn(|cx| respond.poll_reset(cx)).await?
            } else {
                let mut sender = respond.send_response(Response::new(()), false)?;
                sender.send_data(Bytes::from_static(ANSWER), says == Says::All)?;
                poll_fn(|cx| sender.poll_reset(cx)).await?
            };
            drop(unread);
            resets.lock().expect("no test panics with it").push(reason);
            anyhow::Ok(())
        });
    }
    Ok(())
}

impl Site {
    /// An HTTP/2 backend that reads no body, and takes no extended CONNECT.
    pub(super) fn deaf(&self, says: Says) -> Result<(SocketAddr, Resets)> {
        let resets = Resets::default();
        let notes = Arc::clone(&resets);
        let address = self.world.serve(move |stream| {
            let notes = Arc::clone(&notes);
            // Its end is the proxy's to choose.
            async move { drop(deaf(stream, says, notes).await) }
        })?;
        Ok((address, resets))
    }

    /// Waits until the backend has been told that no more comes, and has no request.
    fn wait_let_go(&self, address: SocketAddr, resets: &Resets) -> Result<()> {
        let of = address.to_string();
        let told = || resets.lock().expect("no test panics with it").clone();
        wait_for("a backend without requests", || {
            let all = self.world.json(&["backend", "list", NAME]).ok()?;
            let backend = (all.as_array()?.iter()).find(|b| b["address"] == *of)?;
            (backend["active_connections"] == 0 && !told().is_empty()).then_some(())
        })
        .with_context(|| format!("{:?}\n{}", told(), self.world.log()))?;
        ensure!(told() == [Reason::CANCEL], "{:?}", told());
        Ok(())
    }
}

#[test]
fn what_an_http2_backend_does_not_read_is_let_go() -> Result<()> {
    let site = Site::bare()?;
    for (description, says) in [
        ("answered in full", Says::All),
        ("taken back while it is answered", Says::Something),
        ("taken back before it is answered", Says::Nothing),
    ] {
        let (address, resets) = site.deaf(says)?;
        site.route(&format!("--backend {address} --protocol h2c"))?;
        let stream = site.connect("h2")?;
        let client = site.run(async move {
            let (mut sender, connection) = client::handshake(stream).await?;
            tokio::spawn(connection);
            let request = Request::post(format!("https://{NAME}/")).body(())?;
            let (answer, mut body) = sender.send_request(request, false)?;
            body.send_data(Bytes::from(vec![b'x'; LARGE]), true)?;
            let answer = if says == Says::Nothing {
                None
            } else {
                let mut answer = answer.await?.into_body();
                let data = answer.data().await.context("a body")??;
                ensure!(data == ANSWER, "{data:?}");
                Some(answer)
            };
            Ok((sender, body, answer))
        });
        let (_sender, mut body, _answer) = client.context(description)?;
        if says != Says::All {
            wait_for("the request at its backend", || {
                let all = site.world.json(&["backend", "list", NAME]).ok()?;
                // One that waits for its connection is active as well.
                let connected = all[0]["connections"] == 1;
                (connected && all[0]["active_connections"] == 1).then_some(())
            })?;
            body.send_reset(Reason::CANCEL);
        }
        site.wait_let_go(address, &resets).context(description)?;
    }
    Ok(())
}

#[test]
fn a_backend_that_reads_nothing_is_slow() -> Result<()> {
    let site = Site::bare()?;
    let (address, resets) = site.deaf(Says::Nothing)?;
    site.route(&format!(
        "--backend {address} --protocol h2c --response-timeout 400ms"
    ))?;
    std::fs::write(site.path("large"), vec![b'x'; LARGE])?;
    let args = format!(
        "--http1.1 --data-binary @{} -o /dev/null -w %{{http_code}}",
        site.path("large")
    );
    let got = site.curl(&args, "/")?;
    ensure!(got == "504", "{got}");
    site.wait_let_go(address, &resets)
}
