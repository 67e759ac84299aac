//! The dashboard that is shipped asks for metrics that exist.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::world::World;

const DASHBOARD: &str = include_str!("../../grafana-dashboard.json");

/// Names of metrics as queries write them.
fn names(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("mc_proxy_") || word.starts_with("process_"))
}

#[test]
fn every_query_of_the_dashboard_names_a_metric() -> Result<()> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().filter_map(|p| p["targets"].as_array());
    let queries = targets.flatten().filter_map(|t| t["expr"].as_str());
    let asked: BTreeSet<&str> = queries.flat_map(names).collect();
    ensure!(asked.len() > 20, "{asked:?}");
    let world = World::started("")?;
    let scrape = world.metrics()?;
    let known: BTreeSet<&str> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let of = |name: &str| {
        let name = name.trim_end_matches("_total");
        known.contains(name.trim_end_matches("_bucket"))
    };
    let unknown: Vec<_> = asked.iter().filter(|name| !of(name)).collect();
    ensure!(unknown.is_empty(), "{unknown:?} of {known:?}");
    let version = format!(
        "mc_proxy_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    ensure!(scrape.contains(&version), "{scrape}");
    // By the names of Prometheus' own clients.
    for name in [
        "cpu_seconds_total",
        "max_fds",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
        "threads",
        "virtual_memory_bytes",
    ] {
        let value = world.metric(&format!("process_{name} "), &[])?;
        ensure!(value > 0.0 || name.starts_with("cpu"), "{name}: {value}");
    }
    ensure!(scrape.matches("# EOF").count() == 1, "{scrape}");
    Ok(())
}
