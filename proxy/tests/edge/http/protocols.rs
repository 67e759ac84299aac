//! A route whose backends speak something else than it says: the operator is told what, and what to set.

use anyhow::{Context as _, Result, ensure};
use mc_testkit::wait_for;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{NAME, Site, Speaks};

#[test]
fn a_backend_that_speaks_another_protocol_is_known() -> Result<()> {
    let site = Site::bare()?;
    let raw = |answer: &'static [u8]| {
        site.world.serve(move |mut stream| async move {
            // All that comes at once.
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 4096]).await;
        })
    };
    let h2c = site.world.http("h2c", Speaks::H2c, &site.ca)?;
    let http1 = raw(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    let tls = raw(b"\x15\x03\x03\x00\x02\x02\x16")?;
    let not_http2 =
        "it does not answer in HTTP/2: if it speaks HTTP/1.1, set the route's protocol to http1";
    for (description, backend, protocol, wanted) in [
        (
            "HTTP/2 for HTTP/1.1",
            h2c,
            "http1",
            "it seems to speak HTTP/2, and the route's protocol is HTTP/1.1: set it to h2c (`--protocol h2c`",
        ),
        (
            "TLS for HTTP/1.1",
            tls,
            "http1",
            "it seems to speak TLS, and the route's protocol is HTTP/1.1",
        ),
        ("HTTP/1.1 for HTTP/2", http1, "h2c", not_http2),
        ("TLS for HTTP/2", tls, "h2c", not_http2),
    ] {
        let options = format!("--backend {backend} --protocol {protocol}");
        site.route(&options)?;
        let labels = [NAME, "reason=\"backend_protocol\""];
        let before = site.world.metric("mc_proxy_errors_total", &labels)?;
        let got = site.curl("-o /dev/null -w %{http_code}", "/")?;
        ensure!(got == "502", "{description}: {got}\n{}", site.world.log());
        site.world
            .wait_metric("mc_proxy_errors_total", &labels, before + 1.0)?;
        wait_for("a line in the log", || {
            let log = site.world.log();
            let failed = |l: &&str| l.contains("a backend failed") && l.contains(wanted);
            log.lines().find(failed).map(drop)
        })
        .with_context(|| format!("{description}: {}", site.world.log()))?;
        // And where nobody asks, by its check.
        site.route(&format!("{options} --health http --health-interval 100ms"))?;
        let down = site.wait_health(backend, "down")?;
        let reason = down["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(wanted), "{description}: {down}");
    }
    Ok(())
}
