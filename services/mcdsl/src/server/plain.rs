//! Plain HTTP at a port of HTTPS: whoever forgot the "s" is told so, once, in the only words that he reads, instead of a connection that ends.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// For the first byte to come: what axum-server gives a handshake.
const FIRST: Duration = Duration::from_secs(10);
/// For the answer to be taken and the rest of the request to come.
const LAST: Duration = Duration::from_secs(1);
/// Of that rest, so much is read: a close with bytes unread would take the answer along (RFC 9112 §9.6).
const REST: u64 = 16 * 1024;

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: write https:// in place of http://.\n";

/// Leaves a connection that may be TLS as it is; answers one that begins as a request does, and is an error then.
pub(super) async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let mut first = [0];
    let seen = timeout(FIRST, stream.peek(&mut first)).await;
    let seen = seen.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // A method begins with a letter (RFC 9110 §9.1), TLS with the byte 22 (RFC 8446 §5.1).
    if seen == 0 || !first[0].is_ascii_uppercase() {
        return Ok(());
    }
    // Who does not take it is not waited for.
    let _ = timeout(LAST, answer(stream)).await;
    Err(io::Error::other("plain HTTP, and this is HTTPS"))
}

async fn answer(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(REST);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
