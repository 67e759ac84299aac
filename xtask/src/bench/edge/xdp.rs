//! The firewall half: `proxy/examples/xdp_bench` measures (it needs the daemon's code, see there), this makes rows of it. Besides, the
//! peer: xdp-filter, loaded on a link.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    Plan, build,
    net::{Net, XDP_FILTER_INTERFACE},
};
use crate::bench::{Better, Row};

/// Where xdp-filter pins its maps and programs.
const FILTER_PINS: &str = "/sys/fs/bpf/xdp-filter";
/// The program that it chooses for all features and the policy `allow`.
const FILTER_PROGRAM: &str = "xdpfilt_alw_all";
/// Bounds of a GeoIP load (464,000 + 310,000 networks).
const LOAD_MS: f64 = 5000.0;
/// The same, memory.
const LOAD_MIB: f64 = 128.0;

/// What the example reports.
#[derive(Deserialize)]
struct Report {
    packets: Vec<Figure>,
    geoip: GeoIp,
}

#[derive(Deserialize)]
struct Figure {
    name: String,
    ours: f64,
    filter: Option<f64>,
    empty: f64,
}

#[derive(Deserialize)]
struct GeoIp {
    milliseconds: f64,
    table_mib: f64,
    peak_mib: f64,
}

/// xdp-filter on [`XDP_FILTER_INTERFACE`]; unloaded when dropped.
pub(super) struct XdpFilter<'a> {
    net: &'a Net,
}

impl<'a> XdpFilter<'a> {
    /// All features, default policy.
    pub(super) fn load(net: &'a Net) -> Result<Self> {
        let loaded = Self { net };
        loaded.run(&["load", XDP_FILTER_INTERFACE, "-f", "all", "-p", "allow"])?;
        Ok(loaded)
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let mut command = self.net.node.command("xdp-filter");
        let output = command
            .args(args)
            .output()
            .context("cannot run xdp-filter; `cargo xtask setup` installs it")?;
        if !output.status.success() {
            bail!(
                "xdp-filter {args:?} failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    fn program() -> PathBuf {
        [
            FILTER_PINS,
            "programs",
            XDP_FILTER_INTERFACE,
            FILTER_PROGRAM,
        ]
        .iter()
        .collect()
    }
}

impl Drop for XdpFilter<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["unload", XDP_FILTER_INTERFACE]) {
            eprintln!("{error:#}");
        }
    }
}

/// bpffs directory of a run, removed when dropped.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// All rows of the firewall half.
pub(super) fn run(plan: Plan) -> Result<Vec<Row>> {
    build(&["--package", "mc-proxy", "--example", "xdp_bench"])?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let mmdb = directory.path().join("country.mmdb");
    eprintln!("making a GeoIP database of the real size");
    example(Command::new(program()).arg("mmdb").arg(&mmdb))?;

    let net = Net::new()?;
    let filter = XdpFilter::load(&net)?;
    // One entry, so that the flags of its kind can be copied to the 10,000 of the run.
    filter.run(&["ip", "-m", "src", "192.0.2.1"])?;
    let pins = Pins(format!("/sys/fs/bpf/mc-bench-{}-xdp", std::process::id()).into());
    eprintln!("running packets through the firewalls");
    let mut command = net.node.command(program());
    command
        .args(["run", "--repeat", &plan.repeat.to_string()])
        .arg("--mmdb")
        .arg(&mmdb)
        .arg("--pins")
        .arg(&pins.0)
        .arg("--filter")
        .arg(XdpFilter::program())
        .arg("--filter-ipv4")
        .arg(Path::new(FILTER_PINS).join("filter_ipv4"));
    let report =
        serde_json::from_slice(&example(&mut command)?).context("the report of xdp_bench")?;
    Ok(rows(&report, &filter_version()?))
}

fn program() -> PathBuf {
    crate::target_dir().join("release/examples/xdp_bench")
}

fn example(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    Ok(output.stdout)
}

/// xdp-filter does not say; its subcommands do: `xdp-filter load version 1.3.1 using …`.
fn filter_version() -> Result<String> {
    let output = Command::new("xdp-filter")
        .args(["load", "--version"])
        .output()
        .context("cannot run xdp-filter")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(format!("xdp-filter {}", number.unwrap_or_default()))
}

fn rows(report: &Report, filter: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for figure in &report.packets {
        let row = Row::alone(
            &format!("xdp.{}", figure.name),
            "ns",
            figure.ours,
            Better::Lower,
        );
        rows.push(match figure.filter {
            Some(theirs) => row.against(filter, theirs),
            None => row.against("empty program", figure.empty),
        });
    }
    if let Some(pass) = report.packets.iter().find(|figure| figure.name == "pass") {
        let row = Row::alone("xdp.pass_vs_empty", "ns", pass.ours, Better::Lower);
        rows.push(row.against("empty program", pass.empty));
    }
    let GeoIp {
        milliseconds,
        table_mib,
        peak_mib,
    } = report.geoip;
    let geoip = [
        ("geoip.load.time", "ms", milliseconds, "bound", LOAD_MS),
        (
            "geoip.load.memory",
            "MiB",
            peak_mib + table_mib,
            "bound",
            LOAD_MIB,
        ),
        ("geoip.table.memory", "MiB", table_mib, "bound", LOAD_MIB),
    ];
    rows.extend(geoip.map(|(name, unit, ours, peer, bound)| {
        Row::alone(name, unit, ours, Better::Lower).against(peer, bound)
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_rows() {
        let json = r#"{"packets":[{"name":"pass","ours":20.0,"filter":40.0,"empty":5.0},{"name":"reset","ours":90.0,"filter":null,"empty":5.0}],
            "geoip":{"milliseconds":1000.0,"table_mib":20.0,"peak_mib":44.0}}"#;
        let rows = rows(&serde_json::from_str(json).unwrap(), "xdp-filter 1");
        let got: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.ratio.unwrap()))
            .collect();
        assert_eq!(
            got,
            [
                ("xdp.pass", 0.5),
                ("xdp.reset", 18.0),
                ("xdp.pass_vs_empty", 4.0),
                ("geoip.load.time", 0.2),
                ("geoip.load.memory", 0.5),
                ("geoip.table.memory", 0.15625)
            ]
        );
    }
}
