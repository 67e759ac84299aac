//! What the proxy answers itself: read by clients that still send, and by whom a route is not for.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn};
use hyper_util::rt::TokioIo;

use super::{NAME, Site, Speaks, requests::Client};

/// Its stream is reset once it is answered: clients that still send took that for a failure.
#[test]
fn a_refused_upload_over_http2_has_its_status() -> Result<()> {
    let mut site = Site::new(Speaks::Http1, "--max-body 1000")?;
    let data = site.path("data");
    std::fs::write(&data, vec![b'y'; 40_000])?;
    let gone = "--backend 10.9.2.2:9 --retries 0";
    for (description, options, args, status) in [
        ("too large", "", format!("--data-binary @{data}"), "413"),
        (
            "too large, of unknown length",
            "",
            format!("--data-binary @{data} -H Content-Length: -H Transfer-Encoding:chunked"),
            "413",
        ),
        (
            "for another host",
            "",
            "--data x=1 -H Host:other.example.org".to_owned(),
            "421",
        ),
        ("nobody to take it", gone, "--data x=1".to_owned(), "502"),
    ] {
        if !options.is_empty() {
            site.backend = options.to_owned();
            site.add_backend("")?;
        }
        for version in ["--http2", "--http1.1"] {
            for _ in 0..5 {
                let got = site
                    .curl(&format!("{version} {args} -w %{{http_code}}"), "/sum")
                    .with_context(|| format!("{description} {version}"))?;
                ensure!(got.ends_with(status), "{description} {version}: {got}");
            }
        }
    }
    Ok(())
}

#[test]
fn who_asks_for_another_host_is_told_so() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    for version in ["--http2", "--http1.1"] {
        let told = site.curl(&format!("{version} -H Host:other.example.org"), "/")?;
        let wanted = "this connection is for another host\n";
        ensure!(told == wanted, "{version}: {told}");
    }
    Ok(())
}

/// Over HTTP/2 clients take one for an error of the protocol (RFC 9113 §8.1.1).
#[test]
fn the_refusal_of_a_head_has_no_body() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    for version in ["--http2", "--http1.1"] {
        let told = site.curl(&format!("{version} -I -H Host:other.example.org"), "/")?;
        let told = told.to_lowercase();
        let length = format!(
            "content-length: {}",
            "this connection is for another host\n".len()
        );
        ensure!(
            told.contains(" 421") && told.contains(&length),
            "{version}: {told}"
        );
    }
    Ok(())
}

impl Site {
    /// The status of a request for `host` over an HTTP/1.1 connection.
    fn status(
        &self,
        sender: conn::http1::SendRequest<Empty<Bytes>>,
        host: &str,
    ) -> Result<(u16, conn::http1::SendRequest<Empty<Bytes>>)> {
        let request = Request::get("/").header("host", host);
        let request = request.body(Empty::new())?;
        self.run(async move {
            let mut sender = sender;
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            // To its end, or the next one waits.
            http_body_util::BodyExt::collect(response).await?;
            Ok((status, sender))
        })
    }

    pub(super) fn http1(&self, stream: Client) -> Result<conn::http1::SendRequest<Empty<Bytes>>> {
        self.run(async move {
            let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender)
        })
    }
}

#[test]
fn a_wildcards_connection_serves_no_name_with_a_route_of_its_own() -> Result<()> {
    const OTHER: &str = "other.example.org";
    let mut site = Site::bare()?;
    let backend = site.world.http("one", Speaks::Http1, &site.ca)?;
    site.backend = format!("--backend {backend}");
    let names = ["*.example.org", OTHER];
    site.ca.issue(&names)?.write(site.world.dir.path(), "web")?;
    let tls = format!(
        "--certificate {} --key {}",
        site.path("web.crt"),
        site.path("web.key")
    );
    let add = |name: &str, more: &str| {
        site.world
            .run(&format!("route add {name} {} {more}", site.backend))
    };
    add("*.example.org", &tls)?;
    let mut sender = site.http1(site.connect("http/1.1")?)?;
    let changes: [(&str, Option<String>, u16); 6] = [
        ("no route of its own", None, 200),
        (
            "one that is L7",
            Some(format!("route add {OTHER} {} {tls}", site.backend)),
            421,
        ),
        ("disabled", Some(format!("route disable {OTHER}")), 421),
        ("gone", Some(format!("route remove {OTHER}")), 200),
        (
            "one that is relayed",
            Some(format!("route add {OTHER} {}", site.backend)),
            421,
        ),
        ("gone again", Some(format!("route remove {OTHER}")), 200),
    ];
    for (description, change, wanted) in changes {
        if let Some(line) = change {
            site.world.run(&line)?;
        }
        // The last of each is the first of the next.
        for (host, wanted) in [(OTHER, wanted), (NAME, 200), (OTHER, wanted)] {
            let (status, same) = site
                .status(sender, host)
                .with_context(|| format!("{description}: {host}"))?;
            ensure!(status == wanted, "{description}: {host} {status}");
            // Who asked a misdirected request is told to close.
            sender = match wanted {
                200 => same,
                _ => site.http1(site.connect("http/1.1")?)?,
            };
        }
    }
    Ok(())
}
