//! Stub; helper bench writes this file.

use anyhow::{Result, bail};

use super::Row;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<Vec<Row>> {
    bail!("`bench edge` is not written yet")
}
