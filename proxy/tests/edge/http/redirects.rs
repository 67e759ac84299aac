//! Plain HTTP: who is sent on to https, and what is told of it.

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{NAME, Site, Speaks};
use crate::world::NODE;

#[test]
fn plain_http_is_redirected_to_names_that_have_a_route() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    site.world.run("listener add 0.0.0.0:80 --redirect")?;
    let get = |host: &str, path: &str| -> Result<String> {
        let url = format!("http://{NODE}{path}");
        let host = format!("Host: {host}");
        let args = [
            "-sS",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-H",
            &host,
            "-w",
            "%{http_code} %{redirect_url}",
            &url,
        ];
        let output = site.world.client_command("curl", &args)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (description, host, path, wanted) in [
        (
            "a route",
            NAME,
            "/a?b=c",
            format!("308 https://{NAME}/a?b=c"),
        ),
        (
            "with a port",
            "web.example.org:80",
            "/",
            format!("308 https://{NAME}/"),
        ),
        ("nobody's name", "evil.example.org", "/", "404 ".to_owned()),
        ("no name", "10.9.1.1", "/", "404 ".to_owned()),
        ("a user", "x@web.example.org", "/", "404 ".to_owned()),
    ] {
        let got = get(host, path)?;
        ensure!(got == wanted, "{description}: {got}");
    }
    for (status, count) in [("308", 2.0), ("404", 3.0)] {
        let labels = ["port=\"80\"", &format!("status=\"{status}\"")];
        (site.world).wait_metric("mc_proxy_redirects_total", &labels, count)?;
    }
    let log = site.world.log();
    for wanted in [
        "port=80 method=\"GET\" host=\"web.example.org\" path=\"/a\" version=\"1.1\" status=308",
        "host=\"evil.example.org\" path=\"/\" version=\"1.1\" status=404 side=\"client\" reason=\"redirect_unknown_host\"",
    ] {
        let mut lines = log.lines().filter(|line| line.contains("mc_proxy::access"));
        ensure!(lines.any(|line| line.contains(wanted)), "{wanted} in {log}");
    }
    ensure!(!log.contains("b=c"), "a query is logged: {log}");
    Ok(())
}

#[test]
fn what_is_no_http_is_told_so() -> Result<()> {
    let site = Site::bare()?;
    site.world.run("listener add 0.0.0.0:80 --redirect")?;
    for (description, bytes) in [
        ("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("words", b"hello\r\n\r\n"),
        ("a field without a name", b"GET / HTTP/1.1\r\n: x\r\n\r\n"),
    ] {
        let answer = site.run(async move {
            let mut stream = TcpStream::connect((NODE, 80)).await?;
            stream.write_all(bytes).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        })?;
        ensure!(
            answer.starts_with("HTTP/1.1 400 "),
            "{description}: {answer}"
        );
    }
    let labels = ["port=\"80\"", "status=\"400\""];
    (site.world).wait_metric("mc_proxy_redirects_total", &labels, 3.0)?;
    let labels = ["reason=\"malformed_request\""];
    site.world
        .wait_metric("mc_proxy_denied_total", &labels, 3.0)?;
    let log = site.world.log();
    let wanted = "port=80 status=400 side=\"client\" reason=\"malformed_request\"";
    ensure!(log.matches(wanted).count() == 3, "{log}");
    Ok(())
}
