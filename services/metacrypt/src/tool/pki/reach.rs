//! Whether the address that certificates name is one where somebody answers: tried once, from here.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::Url;

/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Of an answer: as far as its status.
const HEAD: u64 = 64;

/// What is wrong with a base, as far as one sees from here; `None`: a service like this answers.
pub(super) async fn fault(base: &str, mount: &str) -> Option<String> {
    within(TIMEOUT, base, mount).await
}

async fn within(limit: Duration, base: &str, mount: &str) -> Option<String> {
    let why = match timeout(limit, status(base, mount)).await {
        // There may be no CA yet, or it is sealed.
        Ok(Ok(200 | 404 | 503)) => return None,
        Ok(Ok(status)) => format!("what answers there is not this service (status {status})"),
        Ok(Err(why)) => why,
        Err(_) => "nothing answers".to_owned(),
    };
    Some(format!(
        "{base}, tried from here: {why}; certificates name it for their whole life, and who checks them asks there"
    ))
}

async fn status(base: &str, mount: &str) -> Result<u16, String> {
    let url: Url = format!("{base}/v1/pki/{mount}/crl")
        .parse()
        .map_err(|_| "it is no address".to_owned())?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let failed = |error: std::io::Error| error.to_string();
    let mut tcp = TcpStream::connect(format!("{host}:{port}"))
        .await
        .map_err(failed)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n",
        url.path()
    );
    tcp.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    tcp.take(HEAD)
        .read_to_end(&mut head)
        .await
        .map_err(failed)?;
    let head = String::from_utf8_lossy(&head);
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    status.ok_or_else(|| "what answers there does not speak HTTP/1.1".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Of a machine that has much to do.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn where_nobody_answers_is_told() {
        for (description, answer, wanted) in [
            ("a CRL", Some("HTTP/1.1 200 OK\r\n\r\n"), None),
            ("no CA yet", Some("HTTP/1.1 404 Not Found\r\n\r\n"), None),
            (
                "a page",
                Some("HTTP/1.1 301 Moved\r\n\r\n"),
                Some("status 301"),
            ),
            ("no HTTP", Some("220 mail\r\n"), Some("HTTP/1.1")),
            ("nobody", None, Some("refused")),
        ] {
            // Nobody else is given it, also while nobody listens.
            let address = mc_testkit::port::free();
            let listener = match answer {
                Some(_) => Some(TcpListener::bind(address).await.unwrap()),
                None => None,
            };
            let base = format!("http://{address}");
            let serving = tokio::spawn(async move {
                let Some((listener, answer)) = listener.zip(answer) else {
                    return;
                };
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut asked = [0; 512];
                assert!(tcp.read(&mut asked).await.unwrap() > 0);
                tcp.write_all(answer.as_bytes()).await.unwrap();
            });
            let found = within(LONG, &base, "pki").await;
            match wanted {
                Some(part) => assert!(found.is_some_and(|why| why.contains(part)), "{description}"),
                None => assert_eq!(found, None, "{description}"),
            }
            serving.await.unwrap();
        }
    }
}
