//! Interim responses of backends (RFC 9110 §15.2): clients get what follows them.

use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper::{HeaderMap, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{NAME, Site, Speaks};

/// Before each response.
const INTERIM: [u16; 3] = [100, 102, 103];

async fn http1(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await? > 0 {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            for status in INTERIM {
                let head = format!("HTTP/1.1 {status} X\r\nlink: </a.css>; rel=preload\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.flush().await?;
            }
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-final: yes\r\n\r\nbody";
            stream.write_all(response).await?;
        }
    }
    Ok(())
}

async fn h2c(stream: TcpStream) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        for status in INTERIM {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::from_u16(status)?;
            let hint = "</a.css>; rel=preload".parse()?;
            interim.headers_mut().insert("link", hint);
            respond.send_informational(interim)?;
        }
        let mut response = Response::new(());
        *response.headers_mut() = HeaderMap::from_iter([("x-final".parse()?, "yes".parse()?)]);
        let mut body = respond.send_response(response, false)?;
        body.send_data(Bytes::from_static(b"body"), true)?;
    }
    Ok(())
}

#[test]
fn interim_responses_are_not_handed_on() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::bare()?;
        let backend = site.world.serve(move |stream| async move {
            // The end of a connection is no failure of the test.
            match speaks {
                Speaks::Http1 => drop(http1(stream).await),
                _ => drop(h2c(stream).await),
            }
        })?;
        site.route(&format!("--backend {backend} {}", site.protocol(speaks)))?;
        for version in ["--http1.1", "--http2"] {
            // Twice over one connection of the client's, and of the backend's.
            let again = format!("{version} -D - -o /dev/null https://{NAME}/again");
            let got = site.curl(&format!("{again} -o -"), "/")?;
            let heads = got.matches("HTTP/").count();
            let whole = got.matches("x-final: yes").count();
            ensure!(
                (heads, whole) == (2, 2) && got.ends_with("body") && !got.contains("link:"),
                "{version} to {speaks:?}: {got}"
            );
        }
        let made = site
            .world
            .metric("mc_proxy_backend_connections_total", &[NAME])?;
        ensure!(made <= 2.0, "{speaks:?}: kept connections are used: {made}");
    }
    Ok(())
}
