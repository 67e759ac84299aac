//! What is public by what it is, over HTTP/1.1 without TLS: who checks a certificate of TLS asks here whether it is revoked, and would have to check
//! another one first if it were over TLS (RFC 5280 §8). Nothing else is there: no method, no page, no token is looked at.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{StartError, accept::Door, api, places::Places, serve};
use crate::shutdown::Shutdown;

/// Connections at once; of one source a fourth of them.
const MAX_CONNECTIONS: usize = 512;

/// Serves `routes` at `address`, which is told, until `shutdown`. Of `proxies` a PROXY header is demanded, as at the other ports. Bodies are 64 KiB at most, heads 32 KiB,
/// and waited for as at the other ports.
///
/// # Errors
/// [`StartError::Listen`].
pub async fn public(
    address: SocketAddr,
    proxies: &[IpNet],
    routes: Router,
    shutdown: &Shutdown,
) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let door = Door {
        places: Places::new(MAX_CONNECTIONS),
        proxies: Arc::from(proxies),
    };
    let draining: CancellationToken = shutdown.token().clone();
    let server = axum_server::Server::<SocketAddr>::from_listener(listener)
        .acceptor(door)
        .http1_only();
    serve(server, api::without_tls(routes), draining, shutdown);
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// What comes of bytes that somebody sends.
    async fn answer(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        // It may be reset where it is refused.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn what_is_public_is_answered_without_tls_and_nothing_else_is() {
        let shutdown = Shutdown::new();
        let routes = Router::new()
            .route("/crl", get(async || "list"))
            .route("/ocsp", post(async |body: String| body));
        let here = "127.0.0.1:0".parse().unwrap();
        let address = public(here, &[], routes, &shutdown).await.unwrap();
        let head = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let long = "a".repeat(65 << 10);
        for (description, request, wanted) in [
            ("a list", format!("GET /crl {head}\r\n"), "HTTP/1.1 200"),
            (
                "a question",
                format!("POST /ocsp {head}Content-Length: 2\r\n\r\nok"),
                "HTTP/1.1 200",
            ),
            (
                "a long one",
                format!(
                    "POST /ocsp {head}Content-Length: {}\r\n\r\n{long}",
                    long.len()
                ),
                "HTTP/1.1 400",
            ),
            (
                "anything else",
                format!("GET /v1/seal {head}\r\n"),
                "HTTP/1.1 404",
            ),
            (
                "another verb",
                format!("DELETE /crl {head}\r\n"),
                "HTTP/1.1 405",
            ),
            (
                "no host",
                "GET /crl HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
                "HTTP/1.1 400",
            ),
        ] {
            let got = answer(address, &request).await;
            let got = got.lines().next().unwrap_or_default().to_owned();
            assert!(got.starts_with(wanted), "{description}: {got}");
        }
        assert!(
            answer(address, &format!("GET /crl {head}\r\n"))
                .await
                .ends_with("list")
        );
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert_eq!(answer(address, preface).await, "", "HTTP/2");
        shutdown.token().cancel();
    }
}
