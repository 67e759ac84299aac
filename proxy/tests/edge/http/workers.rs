//! Connections on the workers: spread evenly, and nothing of them left behind where they came from.

use anyhow::{Context as _, Result, ensure};
use mc_testkit::wait_for;

use super::{Site, Speaks, requests::Client};

const MOST: usize = 30;
const GAUGE: &str = "mc_proxy_worker_connections_active";

impl Site {
    fn loads(&self) -> Result<Vec<usize>> {
        let metrics = self.world.metrics()?;
        let samples = metrics.lines().filter(|l| l.starts_with(GAUGE));
        samples
            .map(|l| Ok(l.rsplit(' ').next().context("a value")?.parse()?))
            .collect()
    }

    /// One after the other: each has begun its TLS before the next.
    fn opened(&self, count: usize) -> Result<Vec<Client>> {
        (0..count).map(|_| self.connect("http/1.1")).collect()
    }

    fn spread(&self, total: usize) -> Result<()> {
        let loads = self.loads()?;
        let (fewest, most) = (loads.iter().min(), loads.iter().max());
        let apart = most.zip(fewest).map(|(most, fewest)| most - fewest);
        ensure!(loads.iter().sum::<usize>() == total, "{loads:?}");
        ensure!(apart.is_some_and(|apart| apart <= 1), "{loads:?}");
        Ok(())
    }

    /// Until nothing is left of all but `left` connections.
    fn ended(&self, left: usize) -> Result<()> {
        let ended = || (self.loads().ok()?.iter().sum::<usize>() == left).then_some(());
        wait_for("the end of connections", ended)?;
        for gauge in [
            "mc_proxy_connections_active",
            "mc_proxy_listener_connections_active",
        ] {
            self.world.wait_metric(gauge, &[], left as f64)?;
        }
        Ok(())
    }
}

#[test]
fn connections_are_spread_evenly_and_take_their_places_along() -> Result<()> {
    let mut site = Site::configured(&format!(
        "[server]\nmax_connections = {MOST}\nmax_connections_per_source = {MOST}\n"
    ))?;
    let backend = site.world.http("one", Speaks::Http1, &site.ca)?;
    site.backend = format!("--backend {backend}");
    site.add_backend("")?;
    for round in 0..3 {
        // All places: had the last round kept one, this would wait for it.
        let mut open = site.opened(MOST)?;
        site.spread(MOST)
            .with_context(|| format!("round {round}"))?;
        // Which worker's they are is nobody's choice, so what is left is uneven, and the next move.
        open.drain(..MOST / 2).for_each(drop);
        site.ended(MOST - MOST / 2)?;
        open.extend(site.opened(MOST / 2)?);
        site.spread(MOST)
            .with_context(|| format!("again, round {round}"))?;
        drop(open);
        site.ended(0)?;
    }
    let errors = site
        .world
        .metric("mc_proxy_errors_total", &["move_failed"])?;
    ensure!(errors < 0.5, "{}", site.world.log());
    let asked = site.curl("--http1.1", "/")?;
    ensure!(asked.starts_with("hello from one"), "{asked}");
    Ok(())
}
