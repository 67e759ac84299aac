//! Attacks of HTTP/2: floods, bombs, and streams that nobody wants.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::{
    super::{NAME, Site, Speaks, uploads::Says},
    PATIENCE, connect,
    frames::{
        ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, INDEXED,
        NOT_INDEXED, Outcome, PING, RST_STREAM, SETTINGS, WINDOW, WINDOW_UPDATE, block, frame, get,
    },
    taken,
};

const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u32 = 11;
/// What an attack may cost, MiB.
const MEMORY: u64 = 64;

/// A request that ends with its headers.
pub(super) fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

impl Site {
    /// Works with a connection of HTTP/2.
    pub(super) fn http2<T, F>(
        &self,
        setting: Option<(u16, u32)>,
        work: impl FnOnce(Connection) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let config = self.config(&[b"h2"])?;
        self.client(async move { work(Connection::open(config, setting).await?).await })
    }

    /// It serves others as if nothing were.
    fn serves(&self) -> Result<()> {
        let got = self.curl("--http2", "/")?;
        ensure!(got.starts_with("hello"), "{got}");
        Ok(())
    }

    fn grown(&self, before: u64, description: &str) -> Result<()> {
        let now = self.memory()?;
        ensure!(
            now < before + MEMORY,
            "{description}: {before} MiB, then {now}"
        );
        Ok(())
    }
}

#[test]
fn rapid_reset_ends_the_connection() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    let before = site.memory()?;
    let burst: Vec<u8> = (0..5000)
        .map(|i| 2 * i + 1)
        .flat_map(|id| {
            [
                request(id, &get("/slow/600000")),
                frame(RST_STREAM, 0, id, &CANCEL),
            ]
            .concat()
        })
        .collect();
    let outcome = site.http2(None, |mut http2| async move {
        let _ = http2.send(&burst).await;
        Ok(http2.outcome().await)
    })?;
    ensure!(outcome == Outcome::GoAway(ENHANCE_YOUR_CALM), "{outcome:?}");
    let burst = taken(&seen).len();
    ensure!(burst < 500, "the backend saw {burst}");
    // Each request is on its way to a backend before it is taken back.
    let rounds = site.http2(None, |mut http2| async move {
        for round in 0..2000 {
            let id = 2 * round + 1;
            let _ = http2.send(&request(id, &get("/slow/600000"))).await;
            let ended = http2.ping().await;
            let _ = http2.send(&frame(RST_STREAM, 0, id, &CANCEL)).await;
            if let Some(outcome) = ended {
                ensure!(matches!(outcome, Outcome::GoAway(_)), "{outcome:?}");
                return Ok(round);
            }
        }
        bail!("nothing stops it")
    })?;
    let paced = taken(&seen).len();
    ensure!(
        paced < 500 && rounds < 500,
        "{rounds} rounds, the backend saw {paced}"
    );
    // Nor is one answered whose client takes nothing of it before it takes it back.
    let rounds = site.http2(Some((WINDOW, 0)), |mut http2| async move {
        for round in 0..2000 {
            let id = 2 * round + 1;
            let _ = http2.send(&request(id, &get("/bytes/100000"))).await;
            let outcome = http2.outcome().await;
            let _ = http2.send(&frame(RST_STREAM, 0, id, &CANCEL)).await;
            if outcome != Outcome::Status(200) {
                // What is asked before GOAWAY is there is refused.
                let refused = matches!(outcome, Outcome::GoAway(_) | Outcome::Status(421));
                ensure!(refused, "{outcome:?}");
                return Ok(round);
            }
        }
        bail!("nothing stops it")
    })?;
    ensure!(rounds < 500, "{rounds} rounds after their heads");
    // A call says when it is taken back, which costs less.
    let rounds = site.http2(None, |mut http2| async move {
        let mut call = get("/slow/600000");
        call.extend(block(
            &[("content-type", "application/grpc"), ("grpc-timeout", "1n")],
            NOT_INDEXED,
        ));
        for round in 0..2000 {
            let _ = http2.send(&request(2 * round + 1, &call)).await;
            let outcome = http2.outcome().await;
            if outcome != Outcome::Status(200) {
                ensure!(matches!(outcome, Outcome::GoAway(_)), "{outcome:?}");
                return Ok(round);
            }
        }
        bail!("nothing stops it")
    })?;
    ensure!(rounds < 1500, "{rounds} calls");
    site.grown(before, "rapid reset")?;
    site.serves()
}

/// What backends send is held by the streams of who does not take it, and by nothing that others share.
#[test]
fn who_takes_nothing_keeps_nobody_from_the_backends_connection() -> Result<()> {
    const STREAMS: u32 = 8;
    let site = Site::new(Speaks::H2c, "")?;
    let config = site.config(&[b"h2"])?;
    let opened = site.client(async move {
        let mut all = Vec::new();
        // One for each worker, if there are two.
        for _ in 0..2 {
            let mut http2 = Connection::open(Arc::clone(&config), Some((WINDOW, 0))).await?;
            for stream in 0..STREAMS {
                let asked = get("/bytes/3000000");
                http2.send(&request(2 * stream + 1, &asked)).await?;
                let outcome = http2.outcome().await;
                ensure!(outcome == Outcome::Status(200), "{outcome:?}");
            }
            all.push(http2);
        }
        Ok(all)
    })?;
    for _ in 0..4 {
        let long = site.curl("--http2 -o /dev/null -w %{size_download}", "/bytes/3000000")?;
        ensure!(long == "3000000", "{long}");
    }
    drop(opened);
    Ok(())
}

#[test]
fn a_client_that_is_deaf_to_goaway_gets_no_further_request() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    site.http2(None, |mut http2| async move {
        for round in 0..2000 {
            let id = 2 * round + 1;
            http2.send(&request(id, &get("/slow/600000"))).await?;
            let ended = http2.ping().await;
            http2.send(&frame(RST_STREAM, 0, id, &CANCEL)).await?;
            if ended.is_some() {
                // The PING that comes with it is never answered, so that h2 still takes streams.
                http2.send(&request(id + 2, &get("/after"))).await?;
                while http2.next().await.is_some() {}
                return Ok(());
            }
        }
        bail!("nothing stops it")
    })?;
    let got = taken(&seen);
    ensure!(!got.iter().any(|r| r == "GET /after"), "{got:?}");
    site.serves()
}

#[test]
fn a_client_that_is_deaf_to_goaway_asks_for_nothing_by_a_route_that_is_gone() -> Result<()> {
    let (site, seen) = Site::recorded("--idle-timeout 1s")?;
    let config = site.config(&[b"h2"])?;
    let mut http2 = site.client(async move {
        let mut http2 = Connection::open(config, None).await?;
        http2.send(&request(1, &get("/"))).await?;
        let outcome = http2.outcome().await;
        ensure!(outcome == Outcome::Status(200), "{outcome:?}");
        Ok(http2)
    })?;
    site.world.run(&format!("route remove {NAME}"))?;
    let answered = site.client(async move {
        let mut answered = 0;
        // The PING that comes with GOAWAY is never answered, so that h2 still takes streams.
        for round in 1.. {
            let id = 2 * round + 1;
            http2.send(&request(id, &get("/slow/100"))).await?;
            let outcome = loop {
                match http2.outcome().await {
                    Outcome::GoAway(0) => {}
                    outcome => break outcome,
                }
            };
            match outcome {
                // What crosses with GOAWAY is served.
                Outcome::Status(200) => answered += 1,
                Outcome::Status(421) => break,
                outcome => bail!("{outcome:?}"),
            }
        }
        while http2.next().await.is_some() {}
        Ok(answered)
    })?;
    let got = taken(&seen);
    ensure!(
        got.len() == answered + 1,
        "{answered} were answered: {got:?}"
    );
    let log = site.world.log();
    let refused = |line: &str| line.contains("status=421") && line.contains("told_to_go");
    ensure!(log.lines().any(refused), "{log}");
    Ok(())
}

#[test]
fn a_client_that_asks_for_nothing_is_told_to_go() -> Result<()> {
    let (site, _) = Site::recorded("--idle-timeout 1s")?;
    for (description, requests) in [("nothing at all", 0), ("nothing more", 2)] {
        let outcome = site.http2(None, move |mut http2| async move {
            for n in 0..requests {
                http2.send(&request(2 * n + 1, &get("/"))).await?;
                let outcome = http2.outcome().await;
                ensure!(outcome == Outcome::Status(200), "{outcome:?}");
            }
            let told = http2.outcome().await;
            // It does not, and answers no PING either.
            while http2.next().await.is_some() {}
            Ok(told)
        });
        let outcome = outcome.context(description)?;
        ensure!(outcome == Outcome::GoAway(0), "{description}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_never_asked_is_not_waited_for() -> Result<()> {
    // Its idle timeout is beyond all patience.
    let (site, _) = Site::recorded("--max-age 1s")?;
    let config = site.config(&[b"h2"])?;
    site.client(async move {
        let mut no_preface = connect(config.clone()).await?;
        let mut half_a_head = Connection::open(config, None).await?;
        let head = frame(HEADERS, END_STREAM, 1, &get("/"));
        half_a_head.send(&head).await?;
        while half_a_head.next().await.is_some() {}
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = no_preface.read_to_end(&mut rest).await;
        Ok(())
    })
}

#[test]
fn floods_and_bombs_cost_little() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    let before = site.memory()?;
    let filler = block(&[("x", &"y".repeat(1000))], NOT_INDEXED);
    let continuations = [
        frame(HEADERS, END_STREAM, 1, &get("/")),
        frame(CONTINUATION, 0, 1, &filler).repeat(10_000),
    ];
    let empty = [
        frame(HEADERS, END_STREAM, 1, &get("/")),
        frame(CONTINUATION, 0, 1, b"").repeat(100_000),
    ];
    // One entry of the table, named 15,000 times: 60 MB.
    let entry = block(&[("x", &"y".repeat(4000))], INDEXED);
    let bomb = [get("/"), entry, vec![0xbe; 12_000]].concat();
    let list = [
        get("/"),
        block(&[("x", &"y".repeat(1000))], NOT_INDEXED).repeat(100),
    ]
    .concat();
    let split = |block: &[u8]| {
        let (first, rest) = block.split_at(block.len().min(16_000));
        let rest: Vec<u8> = (rest.chunks(16_000))
            .flat_map(|piece| frame(CONTINUATION, 0, 1, piece))
            .collect();
        [
            frame(HEADERS, END_STREAM, 1, first),
            rest,
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ]
        .concat()
    };
    for (description, bytes) in [
        ("CONTINUATION flood", continuations.concat()),
        ("empty CONTINUATIONs", empty.concat()),
        ("HPACK bomb", split(&bomb)),
        ("a large header list", split(&list)),
    ] {
        let outcome = site.http2(None, |mut http2| async move {
            let _ = http2.send(&bytes).await;
            Ok(http2.outcome().await)
        })?;
        ensure!(
            matches!(
                outcome,
                Outcome::GoAway(_) | Outcome::Status(431) | Outcome::Reset(_)
            ),
            "{description}: {outcome:?}"
        );
        ensure!(taken(&seen).is_empty(), "{description} reached the backend");
        site.grown(before, description)?;
    }
    site.serves()
}

#[test]
fn control_frames_wait_for_a_client_that_does_not_read() -> Result<()> {
    let (site, _) = Site::recorded("")?;
    let before = site.memory()?;
    for (description, flood) in [
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        (
            "requests that are refused",
            request(1, &block(&[("X", "y")], NOT_INDEXED)),
        ),
    ] {
        let bytes = flood.repeat(1000);
        site.http2(None, move |mut http2| async move {
            // 50 MB, or until nothing is taken any more.
            for _ in 0..3000 {
                let sent = timeout(PATIENCE / 10, http2.send(&bytes)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            Ok(())
        })?;
        site.grown(before, description)?;
        site.serves().context(description)?;
    }
    Ok(())
}

/// h2 counts what small frames cost beside their payload, and ends connections for it.
#[test]
fn small_messages_may_wait_for_a_slow_backend() -> Result<()> {
    const MESSAGE: &[u8] = &[b'm'; 32];
    // Of a stream's window of 256 KiB.
    const MESSAGES: usize = 7000;
    let site = Site::bare()?;
    let (backend, _) = site.deaf(Says::Nothing)?;
    site.route(&format!("--backend {backend} --protocol h2c"))?;
    let ended = site.http2(None, |mut http2| async move {
        // SETTINGS before it.
        while http2.next().await.context("a window")?.kind != WINDOW_UPDATE {}
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", NAME),
            (":path", "/"),
        ];
        let head = block(&fields, NOT_INDEXED);
        // Its windows hold once they are acknowledged.
        http2.send(&frame(SETTINGS, ACK, 0, &[])).await?;
        http2.send(&frame(HEADERS, END_HEADERS, 1, &head)).await?;
        let messages = frame(DATA, 0, 1, MESSAGE).repeat(MESSAGES);
        http2.send(&messages).await?;
        Ok(http2.ping().await)
    })?;
    ensure!(ended.is_none(), "{ended:?}");
    Ok(())
}

#[test]
fn closed_windows_hold_little_and_not_for_ever() -> Result<()> {
    const CONNECTIONS: usize = 4;
    const STREAMS: u32 = 128;
    let (site, _) = Site::recorded("--idle-timeout 2s")?;
    let before = site.memory()?;
    let config = site.config(&[b"h2"])?;
    let open = site.client(async move {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut http2 = Connection::open(config.clone(), Some((WINDOW, 0))).await?;
            for stream in 0..STREAMS {
                http2
                    .send(&request(2 * stream + 1, &get("/bytes/3000000")))
                    .await?;
            }
            for _ in 0..STREAMS {
                let outcome = http2.outcome().await;
                ensure!(outcome == Outcome::Status(200), "{outcome:?}");
            }
            open.push(http2);
        }
        Ok(open)
    })?;
    // 1.5 GB are asked for. What is held of each: hyper's buffer of its backend's connection.
    let held = site.memory()?.saturating_sub(before);
    ensure!(held < 128, "{held} MiB");
    site.serves()?;
    // Nothing is taken for longer than the route allows: the backends are free again.
    site.client(async move {
        for mut http2 in open {
            while http2.next().await.is_some() {}
        }
        Ok(())
    })?;
    site.serves()
}
