//! h2load: one thread of it in the client's namespace.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use mc_testkit::netns::Namespace;

use crate::command::output;

/// Not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// h2load that takes so much longer than it was told to hangs.
const GRACE: Duration = Duration::from_secs(20);
/// A client asks at most so often in a second: h2load looks every 10 ms what is due, and would send more than one at once.
const CLIENT_RATE: f64 = 90.0;
/// Clients, however high the rate.
const MAX_CLIENTS: usize = 512;
/// A relay that does less of the rate is full, and its latency is its queue's.
const KEPT_UP: f64 = 0.95;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    H1,
    H2,
}

/// A load.
pub(super) struct Load<'a> {
    pub(super) client: &'a Namespace,
    pub(super) address: SocketAddr,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) version: Version,
    pub(super) clients: usize,
    /// Requests under way on each connection.
    pub(super) streams: usize,
    pub(super) window: Duration,
}

/// What h2load says of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Report {
    pub(super) per_second: f64,
}

impl Load<'_> {
    /// As much as goes.
    pub(super) fn run(&self) -> Result<Report> {
        self.h2load(&[])
    }

    /// µs below which 99 % of the requests are, at `rate` per second over as many clients as it takes.
    pub(super) fn p99(&self, rate: f64) -> Result<f64> {
        let clients = ((rate / CLIENT_RATE).ceil() as usize).clamp(self.clients, MAX_CLIENTS);
        let log = tempfile::Builder::new()
            .prefix("mc-bench-h2load-")
            .tempfile()
            .context("cannot make a file")?;
        // It opens the file with O_EXCL.
        let path = log.into_temp_path();
        fs::remove_file(&path).context("cannot remove a file")?;
        let each = format!("--rps={:.3}", rate / clients as f64);
        let file = format!("--log-file={}", path.display());
        let report = Self { clients, ..*self }.h2load(&[each, file])?;
        if report.per_second < rate * KEPT_UP {
            eprintln!(
                "  {} requests per second is all that goes",
                report.per_second
            );
        }
        let text = fs::read_to_string(&path).context("cannot read h2load's log")?;
        p99(&text)
    }

    fn h2load(&self, more: &[String]) -> Result<Report> {
        let Self {
            address,
            host,
            path,
            clients,
            streams,
            ..
        } = self;
        let limit = self.window + WARM_UP + GRACE;
        let mut command = self.client.command("timeout");
        command
            .arg(limit.as_secs().to_string())
            .args(["h2load", "--threads=1"])
            .arg(format!("--clients={clients}"))
            .arg(format!("--max-concurrent-streams={streams}"))
            .arg(format!("--duration={}ms", self.window.as_millis()))
            .arg(format!("--warm-up-time={}ms", WARM_UP.as_millis()))
            .arg(format!("--connect-to={address}"));
        if self.version == Version::H1 {
            command.arg("--h1");
        }
        command
            .args(more)
            .arg(format!("https://{host}:{}{path}", address.port()));
        let said = output(&mut command)?;
        report(&said, self.version).with_context(|| format!("h2load said:\n{said}"))
    }
}

fn report(said: &str, version: Version) -> Result<Report> {
    let protocol = match version {
        Version::H1 => "http/1.1",
        Version::H2 => "h2",
    };
    let line = |start: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(start));
        line.with_context(|| format!("no line begins with {start:?}"))
    };
    let spoken = line("Application protocol: ")?;
    ensure!(spoken.trim() == protocol, "it spoke {spoken}");
    // "finished in 3.00s, 20831.00 req/s, 6.14MB/s"
    let per_second = line("finished in ")?
        .split(", ")
        .find_map(|part| part.strip_suffix(" req/s")?.parse().ok())
        .context("no rate")?;
    // "requests: 5 total, 5 started, 5 done, 5 succeeded, 0 failed, 0 errored, 0 timeout"
    let requests = line("requests: ")?;
    for bad in ["failed", "errored", "timeout"] {
        if count(requests, bad)? != 0 {
            bail!("requests are {bad}");
        }
    }
    let codes = line("status codes: ")?;
    for bad in ["3xx", "4xx", "5xx"] {
        ensure!(count(codes, bad)? == 0, "responses are {bad}");
    }
    Ok(Report { per_second })
}

/// The number before `what`.
fn count(line: &str, what: &str) -> Result<u64> {
    line.split(", ")
        .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
        .with_context(|| format!("{what:?} is not counted in {line:?}"))
}

/// Of the third column: µs until the end of the response.
fn p99(log: &str) -> Result<f64> {
    let mut micros = log
        .lines()
        .map(|line| line.split('\t').nth(2)?.parse::<u64>().ok())
        .collect::<Option<Vec<u64>>>()
        .context("h2load's log is not as it was")?;
    micros.sort_unstable();
    let value = micros.get(micros.len() * 99 / 100);
    Ok(*value.context("h2load's log is empty")? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "starting benchmark...\nApplication protocol: h2\n\nfinished in 3.00s, 20831.67 req/s, 6.14MB/s\n\
        requests: 62495 total, 62527 started, 62495 done, 62495 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 62495 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn reports() {
        let rows = [
            ("fine", SAID.to_owned(), Some(20831.67)),
            ("failed", SAID.replace("0 failed", "1 failed"), None),
            ("refused", SAID.replace("0 5xx", "7 5xx"), None),
            ("another protocol", SAID.replace(": h2", ": http/1.1"), None),
            ("nothing", String::new(), None),
        ];
        for (what, said, want) in rows {
            let got = report(&said, Version::H2).ok();
            assert_eq!(got.map(|report| report.per_second), want, "{what}");
        }
    }

    #[test]
    fn the_99th_of_100() {
        let log: String = (0..100).map(|i| format!("17\t200\t{i}\n")).collect();
        assert_eq!(p99(&log).unwrap(), 99.0);
        assert!(p99("").is_err());
    }
}
