//! Connections of listeners that redirect: plain HTTP.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, time::timeout};

use super::{Context, ListenerContext, preface::identify, reset};
use crate::http;

/// Sends a client of plain HTTP to https.
pub(super) async fn redirect(
    context: Arc<Context>,
    listener: &ListenerContext,
    mut client: TcpStream,
    mut source: SocketAddr,
    to: u16,
) {
    let mut bytes = Vec::new();
    let identified = timeout(
        context.timeouts.client_hello,
        identify(&context, listener, &mut client, &mut source, &mut bytes),
    )
    .await
    .unwrap_or_else(|_| Err("proxy_header_timeout".into()));
    match identified {
        Ok((_, counted)) => {
            let asks = http::Asks {
                client: source,
                port: listener.port,
                to,
            };
            http::redirect(client, bytes, asks, &context).await;
            drop(counted);
        }
        Err(denied) => {
            context.count_denied(source, listener.port, &denied);
            reset(client);
        }
    }
}
