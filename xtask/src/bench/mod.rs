//! `cargo xtask bench <suite>`: each suite measures ours against a peer on the same machine, in the same run, and gives rows;
//! this module shows and stores them. `edge` and `identity` assert nothing: figures are read by people. `crypto` and `soak` do.

mod edge;
mod example;
mod soak;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde::Serialize;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// Firewall and relay against HAProxy, nginx and xdp-filter
    Edge(edge::Args),
    /// MCIAS: tokens verified, logins, questions; beside the cryptography alone
    Identity,
    /// Metacrypt: transit through REST beside `openssl speed` on the same core, leaves, ACME orders, memory; fails if a figure is not what is asked of it
    Crypto,
    /// mc-proxy at half load, replaced again and again; fails if a request does or memory grows
    Soak(soak::Args),
}

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Rates.
    Higher,
    /// Times, costs.
    Lower,
}

/// One measurement, ours beside a peer's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) name: String,
    /// Of `ours` and `peer`.
    pub(crate) unit: String,
    /// Our figure.
    pub(crate) ours: f64,
    /// The peer's; `None` where there is no peer.
    pub(crate) peer: Option<f64>,
    /// Who the peer is, with version.
    pub(crate) peer_name: Option<String>,
    /// `ours / peer`.
    pub(crate) ratio: Option<f64>,
    /// Which way is good.
    pub(crate) better: Better,
    /// What the requirements ask of `ours`; `None` where they ask nothing.
    pub(crate) asked: Option<f64>,
    /// Whether it is that.
    pub(crate) held: Option<bool>,
}

impl Row {
    /// A row without a peer.
    pub(crate) fn alone(name: &str, unit: &str, ours: f64, better: Better) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self {
            name,
            unit,
            ours,
            peer: None,
            peer_name: None,
            ratio: None,
            better,
            asked: None,
            held: None,
        }
    }

    /// Adds what is asked of it.
    pub(crate) fn asked(mut self, asked: f64) -> Self {
        self.asked = Some(asked);
        self.held = Some(match self.better {
            Better::Higher => self.ours >= asked,
            Better::Lower => self.ours <= asked,
        });
        self
    }

    /// Adds the peer.
    pub(crate) fn against(mut self, peer_name: &str, peer: f64) -> Self {
        self.peer_name = Some(peer_name.to_owned());
        self.peer = Some(peer);
        self.ratio = (peer != 0.0).then_some(self.ours / peer);
        self
    }
}

/// Runs a suite, prints its table and writes `target/bench/<suite>.json`.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let (name, (rows, complaints)) = match suite {
        Suite::Edge(args) => ("edge", (edge::run(args)?, Vec::new())),
        Suite::Identity => {
            let rows = example::run("mcias", "identity_load")?;
            ("identity", (rows, Vec::new()))
        }
        Suite::Crypto => {
            let rows = example::run("metacrypt", "crypto_load")?;
            let complaints = missed(&rows);
            ("crypto", (rows, complaints))
        }
        Suite::Soak(args) => ("soak", soak::run(args)?),
    };
    print!("{}", table(&rows));
    let path = write(name, &rows)?;
    println!("\nwritten to {}", path.display());
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// What is not as it is asked.
fn missed(rows: &[Row]) -> Vec<String> {
    let missed = rows.iter().filter(|row| row.held == Some(false));
    let told = missed.map(|row| {
        let than = match row.better {
            Better::Higher => "less",
            Better::Lower => "more",
        };
        let (name, unit) = (&row.name, &row.unit);
        let (ours, asked) = (figure(row.ours), row.asked.map_or_else(String::new, figure));
        format!("{name} is {ours} {unit}, {than} than {asked}")
    });
    told.collect()
}

fn write(suite: &str, rows: &[Row]) -> Result<PathBuf> {
    let path = crate::target_dir()
        .join("bench")
        .join(format!("{suite}.json"));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let json = serde_json::to_string_pretty(rows).context("rows are plain data")?;
    fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn table(rows: &[Row]) -> String {
    let dash = || "-".to_owned();
    let head = [
        "measurement",
        "unit",
        "ours",
        "peer",
        "ratio",
        "better",
        "asked",
        "held",
        "peer is",
    ]
    .map(str::to_owned);
    let body = rows.iter().map(|row| {
        [
            row.name.clone(),
            row.unit.clone(),
            figure(row.ours),
            row.peer.map_or_else(dash, figure),
            row.ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            format!("{:?}", row.better).to_lowercase(),
            row.asked.map_or_else(dash, figure),
            row.held
                .map_or_else(dash, |held| if held { "yes" } else { "no" }.to_owned()),
            row.peer_name.clone().unwrap_or_else(dash),
        ]
    });
    let lines: Vec<[String; 9]> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells =
            line.iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| match column {
                    2..=4 | 6 => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Three significant digits or whole numbers, whichever says more.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table_and_json() {
        let rows = [
            Row::alone("drop", "ns", 41.25, Better::Lower).asked(40.0),
            Row::alone("relay", "req/s", 32_000.0, Better::Higher).against("HAProxy 2.6", 16_000.0),
        ];
        let text = table(&rows);
        assert!(text.contains("drop         ns      41.2"), "{text}");
        assert!(text.contains("lower    40.0  no    -"), "{text}");
        assert!(
            text.contains("2.00  higher      -  -     HAProxy 2.6"),
            "{text}"
        );
        assert_eq!(missed(&rows), ["drop is 41.2 ns, more than 40.0"]);
        let json = serde_json::to_value(&rows[1]).unwrap();
        assert_eq!(json["better"], "higher");
        assert_eq!(json["ratio"], 2.0);
    }
}
