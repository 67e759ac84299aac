//! Heads of responses: what backends may say at length.

use std::convert::Infallible;

use anyhow::{Result, ensure};
use hyper::{Response, header::HeaderName, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{NAME, Site, Speaks};

/// So many fields of so many bytes.
fn fields(count: usize, size: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(move |n| (format!("x-{n}"), "v".repeat(size)))
}

#[test]
fn a_response_has_a_head_of_bounded_size() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::bare()?;
        // h2 does not tell a head that is too large from one that is wrong otherwise.
        let reason = match speaks {
            Speaks::Http1 => "backend_head_too_large",
            _ => "backend_malformed",
        };
        for (count, size, status) in [
            (10, 1000, "200"),
            (1, 40_000, "200"),
            (100, 10, "200"),
            (1, 100_000, "502"),
            (90, 1000, "502"),
            (2000, 60, "502"),
            (usize::MAX, 1000, "502"),
        ] {
            if speaks == Speaks::H2c && count == usize::MAX {
                continue;
            }
            let address = site.world.serve(move |mut stream| async move {
                if speaks == Speaks::H2c {
                    let service = service_fn(move |_| async move {
                        let mut response = Response::new(String::new());
                        for (name, value) in fields(count, size) {
                            let name: HeaderName = name.parse().expect("a name");
                            let value = value.parse().expect("a value");
                            response.headers_mut().insert(name, value);
                        }
                        Ok::<_, Infallible>(response)
                    });
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    return;
                }
                if !stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    return;
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n")
                    .await;
                for (name, value) in fields(count, size) {
                    let line = format!("{name}: {value}\r\n");
                    if stream.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"\r\n").await;
                // What is not read would be reset.
                let _ = stream.read(&mut [0; 1]).await;
            })?;
            site.route(&format!("--backend {address} {}", site.protocol(speaks)))?;
            let got = site.curl("--http2 -o /dev/null -w %{http_code}", "/")?;
            let described = format!("{speaks:?}, {count} of {size}: {got}");
            ensure!(got == status, "{described}\n{}", site.world.log());
            if status == "502" {
                let log = site.world.log();
                let last = log.lines().rfind(|line| line.contains("mc_proxy::access"));
                let named = last.is_some_and(|line| {
                    line.contains(&format!("backend={address} attempts=1"))
                        && line.contains(&format!("reason=\"{reason}\""))
                });
                ensure!(named, "{described}\n{log}");
            }
        }
        let labels = [NAME, reason];
        let counted = site.world.metric("mc_proxy_errors_total", &labels)?;
        ensure!(counted >= 3.0, "{speaks:?}: {counted}");
    }
    Ok(())
}
