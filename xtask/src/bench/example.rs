//! Suites that are made by an example of the service that they are of: it runs the service, measures, and prints a line of JSON for each figure.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Better, Row, edge};
use crate::setup::{self, Need};

/// A line of the example's.
#[derive(Deserialize)]
struct Line {
    name: String,
    unit: String,
    ours: f64,
    peer_name: Option<String>,
    peer: Option<f64>,
    /// What is asked of it, if anything is.
    asked: Option<f64>,
}

/// The rows of a package's example.
pub(crate) fn run(package: &str, example: &str) -> Result<Vec<Row>> {
    setup::ensure(&[Need::Build])?;
    edge::build(&["--package", package, "--example", example])?;
    let program = crate::target_dir().join("release/examples").join(example);
    let output = Command::new(&program)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} failed ({})", program.display(), output.status);
    }
    let text = String::from_utf8(output.stdout).context("its output")?;
    text.lines().map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let better = match line.unit.as_str() {
        "1/s" => Better::Higher,
        _ => Better::Lower,
    };
    let row = Row::alone(&line.name, &line.unit, line.ours, better);
    let row = match line.asked {
        Some(asked) => row.asked(asked),
        None => row,
    };
    Ok(match (line.peer_name, line.peer) {
        (Some(name), Some(peer)) => row.against(&name, peer),
        _ => row,
    })
}
