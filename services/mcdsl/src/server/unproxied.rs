//! TLS without a PROXY header, from an address that a proxy comes from: most often a tool on the proxy's own machine. It is told by the one word
//! that TLS has for it, instead of by a connection that ends.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// For the answer to be taken and the rest of the hello to come.
const LAST: Duration = Duration::from_secs(1);
/// Of that rest, so much is read: a close with bytes unread would take the answer along.
const REST: u64 = 16 * 1024;
/// A fatal alert, `access_denied`, in a record of its own (RFC 8446 §5.1, §6.2).
const ANSWER: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// What a record of a handshake begins with.
const HANDSHAKE: u8 = 22;

/// Answers a connection that begins as TLS does, as far as bytes `seen` tell.
pub(super) async fn refuse(stream: &mut TcpStream, seen: &[u8]) {
    if seen.first() == Some(&HANDSHAKE) {
        // Who does not take it is not waited for.
        let _ = timeout(LAST, answer(stream)).await;
    }
}

async fn answer(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&ANSWER).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(REST);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
