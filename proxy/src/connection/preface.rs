//! What a client says before it is routed: who it is, where it wants to go.

use std::net::SocketAddr;

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{Context, Denied, ListenerContext, backend::acknowledge};
use crate::{
    client_hello::{self, ClientHello},
    proxy_protocol::{self, Header},
    sources::Counted,
};

/// First read: a post-quantum ClientHello and what comes with it. One that is not filled needs no second read to learn
/// that there is no more.
const FIRST_READ: usize = 4096;
/// Bytes that a client may send before it is routed: PROXY header and ClientHello, each with its own bound.
const MAX_PREFACE: usize = proxy_protocol::MAX_HEADER + client_hello::MAX_CLIENT_HELLO;

/// What the client said before it was routed.
pub(super) struct Preface {
    pub(super) hello: ClientHello,
    /// Of the client itself, from the PROXY header where there is one.
    pub(super) source: SocketAddr,
    /// From the PROXY header.
    pub(super) destination: Option<SocketAddr>,
    /// ClientHello and whatever came with it, unchanged.
    pub(super) bytes: Vec<u8>,
}

/// Who the client is: the peer, or whom a trusted proxy's header names. What came behind the header stays in `bytes`.
pub(super) async fn identify(
    context: &Context,
    listener: &ListenerContext,
    client: &mut TcpStream,
    source: &mut SocketAddr,
    bytes: &mut Vec<u8>,
) -> Result<(Option<SocketAddr>, Counted), Denied> {
    let (mut destination, mut counted) = (None, None);
    *source = canonical(*source);
    if listener.trusted_proxies.is_empty() {
        counted = Some(count(context, *source)?);
    } else {
        if !listener
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&source.ip()))
        {
            return Err("proxy_untrusted".into());
        }
        let header = loop {
            match proxy_protocol::parse(bytes) {
                Ok(Some((header, consumed))) => {
                    bytes.drain(..consumed);
                    break header;
                }
                Ok(None) => read_more(client, bytes).await?,
                Err(e) => return Err(e.reason().into()),
            }
        };
        if let Header::Proxied {
            source: of_client,
            destination: to,
            ..
        } = header
        {
            (*source, destination) = (canonical(of_client), Some(to));
            context.admit(source.ip(), listener.port)?;
        }
    }
    let counted = match counted {
        Some(counted) => counted,
        None => count(context, *source)?,
    };
    Ok((destination, counted))
}

/// Reads until the ClientHello is whole.
pub(super) async fn read_preface(
    context: &Context,
    listener: &ListenerContext,
    client: &mut TcpStream,
    source: &mut SocketAddr,
) -> Result<(Preface, Counted), Denied> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    let (destination, counted) = identify(context, listener, client, source, &mut bytes).await?;
    let mut reader = client_hello::Reader::default();
    let hello = loop {
        match reader.advance(&bytes) {
            Ok(Some(hello)) => break hello,
            Ok(None) => read_more(client, &mut bytes).await?,
            Err(e) => return Err(e.reason().into()),
        }
    };
    let preface = Preface {
        hello,
        source: *source,
        destination,
        bytes,
    };
    Ok((preface, counted))
}

fn count(context: &Context, source: SocketAddr) -> Result<Counted, Denied> {
    let counted = context.sources.count(source.ip());
    counted.ok_or_else(|| "max_connections_per_source".into())
}

async fn read_more(client: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Denied> {
    if bytes.len() >= MAX_PREFACE {
        return Err("client_hello_too_large".into());
    }
    if bytes.capacity() - bytes.len() < FIRST_READ / 2 {
        bytes.reserve(FIRST_READ);
    }
    if !bytes.is_empty() {
        acknowledge(client);
    }
    match client.read_buf(bytes).await {
        Ok(0) => Err("closed_before_client_hello".into()),
        Ok(_) => Ok(()),
        Err(_) => Err("client_reset".into()),
    }
}

/// An IPv4 client of a dual-stack peer is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
