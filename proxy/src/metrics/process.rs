//! This process, by the names that Prometheus' own clients give it.

use std::{fmt, fs};

use nix::sys::resource::{Resource, getrlimit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Of the times in `/proc`, a second (USER_HZ, which Linux has given out as 100 on each architecture that this runs on).
const TICKS: f64 = 100.0;

/// Reads `/proc/self` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

/// Of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    /// Seconds of CPU time.
    cpu: f64,
    threads: f64,
    /// Seconds from the boot to the start.
    started: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything.
        let (_, fields) = text.rsplit_once(") ")?;
        // The first is field 3.
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu: (number(14)? + number(15)?) / TICKS,
            threads: number(20)?,
            started: number(22)? / TICKS,
        })
    }
}

/// A number of a file with lines of a name and a number each, whatever stands between and behind them.
fn line(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = Stat::parse(&read("/proc/self/stat"));
        let booted = line(&read("/proc/stat"), "btime ");
        let status = read("/proc/self/status");
        let memory = |name| line(&status, name).map(|kib| kib * 1024.0);
        // Less the one by which it is counted.
        let open = fs::read_dir("/proc/self/fd").map(|fds| fds.count().saturating_sub(1) as f64);
        let most = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft as f64);
        if let Some(stat) = &stat {
            encoder
                .encode_descriptor(
                    "process_cpu_seconds",
                    "CPU time that the process has used, user and system",
                    None,
                    MetricType::Counter,
                )?
                .encode_counter::<NoLabelSet, _, f64>(&stat.cpu, None)?;
        }
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "When the process began, Unix time",
                stat.as_ref()
                    .zip(booted)
                    .map(|(s, booted)| booted + s.started),
            ),
            (
                "process_threads",
                "Threads of the process",
                stat.as_ref().map(|stat| stat.threads),
            ),
            ("process_open_fds", "Open file descriptors", open.ok()),
            (
                "process_max_fds",
                "File descriptors that may be open",
                most.ok(),
            ),
            (
                "process_resident_memory_bytes",
                "Memory that is in use",
                memory("VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "Memory that is mapped",
                memory("VmSize:"),
            ),
        ] {
            let Some(value) = value else { continue };
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_stat_may_hold_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 9 18 12345 20 21";
        let wanted = Stat {
            cpu: 2.0,
            threads: 9.0,
            started: 123.45,
        };
        for name in ["mc-proxy", "a b", ") S 7 (", ""] {
            let stat = Stat::parse(&format!("42 ({name}) {rest}"));
            assert_eq!(stat.as_ref(), Some(&wanted), "{name}");
        }
        for none in ["", "42", "42 (x) S 1 2"] {
            assert_eq!(Stat::parse(none), None, "{none}");
        }
    }

    #[test]
    fn lines_have_a_name_and_a_number() {
        let text = "VmSize:\t  2048 kB\nVmRSS:\t    7 kB\nbtime 1700000000\n";
        assert_eq!(line(text, "VmRSS:"), Some(7.0));
        assert_eq!(line(text, "btime "), Some(1.7e9));
        assert_eq!(line(text, "VmSwap:"), None);
    }
}
