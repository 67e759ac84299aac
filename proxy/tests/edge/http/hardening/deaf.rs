//! Clients that ask, and take nothing of what they asked for: TCP stays closed, whatever HTTP allows.

use anyhow::{Result, ensure};
use mc_testkit::wait_for;
use tokio::io::AsyncWriteExt as _;

use super::{
    super::{NAME, Site},
    connect,
    frames::{Connection, WINDOW, WINDOW_UPDATE, frame, get},
    http2::request,
};

/// More than any setting of HTTP/2 holds back.
const OPEN: u32 = (1 << 31) - 1;

impl Site {
    fn connections(&self) -> Result<u64> {
        let status = self.world.json(&["status"])?;
        Ok(status["active_connections"].as_u64().unwrap_or(u64::MAX))
    }

    /// The most memory that it has until no connection is left.
    fn memory_until_free(&self) -> Result<u64> {
        let mut most = 0;
        wait_for("the end of every connection", || {
            most = most.max(self.memory().unwrap_or(u64::MAX));
            matches!(self.connections(), Ok(0)).then_some(())
        })?;
        Ok(most)
    }
}

#[test]
fn http2_with_open_windows_holds_little_and_not_for_ever() -> Result<()> {
    const CONNECTIONS: usize = 4;
    const STREAMS: u32 = 128;
    let (site, _) = Site::recorded("--idle-timeout 2s")?;
    let before = site.memory()?;
    let config = site.config(&[b"h2"])?;
    let open = site.client(async move {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut http2 = Connection::open(config.clone(), Some((WINDOW, OPEN))).await?;
            let wider = (OPEN - 65_535).to_be_bytes();
            http2.send(&frame(WINDOW_UPDATE, 0, 0, &wider)).await?;
            for stream in 0..STREAMS {
                let get = get("/bytes/390000");
                http2.send(&request(2 * stream + 1, &get)).await?;
            }
            open.push(http2);
        }
        Ok(open)
    })?;
    // 200 MB are asked for.
    let held = site.memory_until_free()?.saturating_sub(before);
    drop(open);
    ensure!(held < 100, "{held} MiB");
    Ok(())
}

/// Responses of many sizes: of some, all but the last bytes are in the kernel, and hyper has long done with them.
#[test]
fn http1_responses_of_any_size_end_if_nobody_takes_them() -> Result<()> {
    let (site, _) = Site::recorded("--idle-timeout 2s")?;
    let config = site.config(&[b"http/1.1"])?;
    let open = site.client(async move {
        let mut open = Vec::new();
        for step in 1..=100 {
            let mut stream = connect(config.clone()).await?;
            let size = step * 64_000;
            let head =
                format!("GET /bytes/{size} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            open.push(stream);
        }
        Ok(open)
    })?;
    site.memory_until_free()?;
    drop(open);
    Ok(())
}
