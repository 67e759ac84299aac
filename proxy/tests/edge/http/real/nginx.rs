//! curl and nginx with a proxy between them: Expect, ranges, bodies of 100 MB, and what neither side takes.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{process::Process, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

use super::{NAME, Site, memory};
use crate::world::{BACKEND, NODE};

const LARGE: usize = 100_000_000;
/// What the proxy and the sockets on both sides of it may hold of a body that nobody takes. The kernel's send buffers grow to 4 MB and
/// its receive buffers to 6 MB: for both connections, 20 MB.
const HELD: f64 = 24e6;
/// How much more memory a body of 100 MB may need than none, KiB.
const GROWTH: u64 = 24 * 1024;

/// A route to nginx, which serves files and takes them (PUT), with a file of [`LARGE`].
fn site(options: &str) -> Result<(Site, Process)> {
    let site = Site::bare()?;
    let files = site.world.dir.path().join("files");
    fs::create_dir(&files)?;
    fs::write(files.join("large"), pattern())?;
    let directory = site.world.dir.path().display().to_string();
    // Readable for nginx's worker, which is root with `user root`.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    let config = format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n  access_log off;\n\
         {temporary}  client_max_body_size 0;\n  server {{\n    listen {BACKEND}:8080;\n    root {directory}/files;\n    \
         dav_methods PUT;\n  }}\n}}\n"
    );
    let path = site.path("nginx.conf");
    fs::write(&path, config)?;
    let mut command = site.world.backend.command("nginx");
    command.args(["-e", "stderr", "-c", &path]);
    let mut nginx = Process::start(&mut command)?;
    let address = format!("{BACKEND}:8080");
    nginx.wait_for("nginx answers", || {
        let connect = || std::net::TcpStream::connect(&address);
        site.world.backend.run(connect).ok()?.ok()
    })?;
    site.route(&format!("--backend {address} {options}"))?;
    Ok((site, nginx))
}

/// No two places of it look alike.
fn pattern() -> Vec<u8> {
    let words = (0..LARGE as u32 / 4).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes());
    words.collect()
}

#[test]
fn large_bodies_pass_whole_in_little_memory() -> Result<()> {
    let (site, _nginx) = site("")?;
    let pid = site.world.pid();
    let (up, down) = (site.path("files/large"), site.path("down"));
    for version in ["--http1.1", "--http2"] {
        site.curl(version, "/none").context("warm up")?;
        let before = memory(pid, "VmRSS")?;
        // VmHWM begins anew (proc(5), clear_refs).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        site.curl(&format!("{version} -m 60 -o {down}"), "/large")?;
        let same = || -> Result<bool> { Ok(fs::read(&up)? == fs::read(&down)?) };
        ensure!(same()?, "{version}: another file came");
        let put = format!("{version} -m 60 -o /dev/null -w %{{http_code}} -T {up}");
        let status = site.curl(&put, "/put")?;
        ensure!(status == "201" || status == "204", "{version}: {status}");
        let stored = fs::read(site.path("files/put"))?;
        ensure!(stored == pattern(), "{version}: another file was stored");
        let grown = memory(pid, "VmHWM")?.saturating_sub(before);
        ensure!(grown < GROWTH, "{version}: {grown} KiB more");
    }
    Ok(())
}

#[test]
fn ranges_and_conditions_are_answered_by_the_backend() -> Result<()> {
    let (site, _nginx) = site("")?;
    fs::write(site.path("files/small"), "0123456789")?;
    for version in ["--http1.1", "--http2"] {
        let shown = "-w |%{http_code}|%header{content-range}";
        for (args, wanted) in [
            ("-r 2-4", "234|206|bytes 2-4/10"),
            ("-r -2", "89|206|bytes 8-9/10"),
            ("-r 20-30", "|416|bytes */10"),
            ("", "0123456789|200|"),
        ] {
            let got = site.curl(&format!("{version} {args} {shown}"), "/small")?;
            let got = if wanted.starts_with("|416") {
                // nginx has a page for it.
                got.find("|416").map_or("", |at| &got[at..]).to_owned()
            } else {
                got
            };
            ensure!(got == wanted, "{version} {args}: {got}");
        }
        let tag = site.curl(
            &format!("{version} -o /dev/null -w %header{{etag}}"),
            "/small",
        )?;
        let asked = format!("{version} -H If-None-Match:{tag} -w %{{http_code}}");
        let got = site.curl(&asked, "/small")?;
        ensure!(got == "304", "{version}: {got}");
        let head = site.curl(&format!("{version} -I"), "/small")?;
        ensure!(
            head.to_ascii_lowercase().contains("content-length: 10"),
            "{version}: {head}"
        );
    }
    Ok(())
}

#[test]
fn expect_is_answered_before_the_body_is_sent() -> Result<()> {
    let (site, _nginx) = site("--max-body 1000")?;
    let (small, large) = (site.path("small"), site.path("files/large"));
    fs::write(&small, "some")?;
    // A curl that waits for 100 longer than it may run.
    let expect = "--http1.1 -H Expect:100-continue --expect100-timeout 60 -o /dev/null";
    let shown = "-w %{http_code}|%{size_upload}";
    let got = site.curl(&format!("{expect} {shown} -T {small}"), "/put")?;
    ensure!(got == "201|4", "{got}");
    let got = site.curl(&format!("{expect} {shown} -T {large}"), "/put")?;
    ensure!(got == "413|0", "refused without the body: {got}");
    Ok(())
}

impl Site {
    /// Waits until a count of the route's bytes stands still, and says where.
    fn standstill(&self, direction: &str) -> Result<f64> {
        let (mut last, mut times) = (-1.0, 0);
        let (route, direction) = (
            format!("hostname=\"{NAME}\""),
            format!("direction=\"{direction}\""),
        );
        wait_for("a standstill", || {
            let now = (self.world)
                .metric("mc_proxy_bytes_total", &[&route, &direction])
                .ok()?;
            times = if now == last { times + 1 } else { 0 };
            last = now;
            (now > 0.0 && times > 30).then_some(now)
        })
    }
}

#[test]
fn a_client_that_does_not_read_holds_its_backend_back() -> Result<()> {
    let (site, _nginx) = site("")?;
    let stream = site.connect("http/1.1")?;
    let request = format!("GET /large HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let mut stream = site.run(async move {
        let mut stream = stream;
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    })?;
    let held = site.standstill("to_client")?;
    ensure!(held < HELD, "{held} bytes for a client that reads nothing");
    let read = site.run(async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        Ok(all)
    })?;
    ensure!(read.ends_with(&pattern()), "the rest: {}", read.len());
    Ok(())
}

#[test]
fn a_backend_that_does_not_read_holds_its_client_back() -> Result<()> {
    for version in ["--http1.1", "--http2"] {
        let site = Site::bare()?;
        let reads = Arc::new(Semaphore::new(0));
        let until = Arc::clone(&reads);
        let address = site.world.serve(move |mut stream| {
            let until = Arc::clone(&until);
            async move {
                let _permit = until.acquire().await;
                let mut left = LARGE;
                let mut buffer = vec![0; 1 << 16];
                // The head is what is more than the body.
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    left = left.saturating_sub(n);
                    if left == 0 {
                        let _ = stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                            .await;
                    }
                }
            }
        })?;
        site.route(&format!("--backend {address}"))?;
        fs::write(site.path("large"), vec![b'x'; LARGE])?;
        let put = format!(
            "{version} -m 60 -o /dev/null -w %{{http_code}}|%{{size_upload}} -T {}",
            site.path("large")
        );
        let got = std::thread::scope(|scope| -> Result<String> {
            let curl = scope.spawn(|| site.curl(&put, "/put"));
            let held = site.standstill("from_client");
            reads.add_permits(1);
            let got = curl.join().expect("it does not panic");
            let held = held?;
            ensure!(held < HELD, "{held} bytes for a backend that reads nothing");
            got
        })
        .with_context(|| format!("{version} by {NODE}"))?;
        ensure!(got == format!("200|{LARGE}"), "{version}: {got}");
    }
    Ok(())
}
