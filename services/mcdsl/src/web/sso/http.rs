//! A client of one HTTPS server: TLS 1.3, one request a connection. Logins and refreshes are rare; a pool would be more than they need.

use std::{path::Path, pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::SsoError;
use crate::{
    certificate,
    dial::{Dialer, Protocol},
};

/// For a whole exchange: name, connection, handshake, answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer: tokens are a few KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// The client.
pub(super) struct Http {
    dialer: Dialer,
    authority: String,
}

impl Http {
    /// Of the server at `origin` (`https://host` or `https://host:port`), whose certificate leads to a CA in the file `ca`.
    pub(super) fn new(origin: &Uri, ca: &Path) -> Result<Self, SsoError> {
        let roots = certificate::anchors(ca)?;
        let host = origin.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| SsoError::Host(origin.to_string()))?;
        let port = origin.port_u16().unwrap_or(443);
        let authority = origin.authority();
        Ok(Self {
            dialer: Dialer::new(name, port, roots, Protocol::Http1)?,
            authority: authority.map_or_else(String::new, ToString::to_string),
        })
    }

    /// The answer to a request for a path. Redirects are not followed.
    ///
    /// # Errors
    /// In words, for the log.
    pub(super) async fn send(
        &self,
        request: axum::http::request::Builder,
        body: String,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = request
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let answer = timeout(TIMEOUT, self.exchange(request)).await;
        answer.map_err(|_| "it does not answer".to_owned())?
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(StatusCode, Bytes), String> {
        let tls = self.dialer.dial().await;
        let tls = tls.map_err(|error| error.to_string())?;
        let made = http1::handshake(TokioIo::new(tls)).await;
        let (mut sender, connection) = made.map_err(|error| error.to_string())?;
        let answer = async {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| error.to_string())?.into_parts();
            let body = to_bytes(Body::new(body), MAX_ANSWER).await;
            Ok((head.status, body.map_err(|error| error.to_string())?))
        };
        // The connection moves only while it is polled; what it has read when it ends is still to be taken.
        let (mut answer, mut connection, mut open) = (pin!(answer), pin!(connection), true);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                _ = &mut connection, if open => open = false,
            }
        }
    }
}
