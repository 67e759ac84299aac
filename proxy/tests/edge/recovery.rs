//! kill -9, divergence, stop.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    process::Process,
};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    clients::client_hello,
    world::{CLIENT, World},
};

const NAME: &str = "recovery.example.org";

fn blocked(world: &World) -> Result<BTreeSet<String>> {
    let rules = world.json(&["firewall", "list"])?;
    let rules = rules.as_array().or_else(|| rules["rules"].as_array()).context("a list of rules")?.clone();
    Ok(rules.iter().filter_map(|r| Some(r["cidr"].as_str()?.to_owned())).collect())
}

fn no_difference(world: &World) -> Result<()> {
    let verified = world.json(&["maps", "verify"])?;
    ensure!(verified["differences"].as_array().is_none_or(Vec::is_empty), "{verified}");
    Ok(())
}

#[test]
fn kill_nine_at_any_point_keeps_exactly_what_was_acknowledged() -> Result<()> {
    let mut world = World::started("")?;
    let (mut acknowledged, mut attempted) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..8_u32 {
        // A writer that the kill interrupts somewhere: in SQLite, between SQLite and the maps, before the answer.
        let socket = world.dir.path().join("admin.sock");
        let script = format!(
            "for i in $(seq 0 60); do {ctl} --socket {socket} firewall block 198.18.{round}.$i >/dev/null 2>&1 && echo ok $i || break; done",
            ctl = env!("CARGO_BIN_EXE_mcproxyctl"),
            socket = socket.display(),
        );
        let mut writer = Process::start(std::process::Command::new("sh").args(["-c", &script]))?;
        writer.wait_for_output(&format!("ok {}", round * 3))?;
        world.daemon().kill9()?;
        writer.wait_exit()?;
        let done: Vec<u32> =
            writer.output().lines().filter_map(|l| l.strip_prefix("ok ")?.parse().ok()).collect();
        let last = *done.last().context("some were acknowledged")?;
        acknowledged.extend(done.iter().map(|i| format!("198.18.{round}.{i}/32")));
        attempted.extend((0..=last + 1).map(|i| format!("198.18.{round}.{i}/32")));

        world.start().with_context(|| format!("start after kill {round}"))?;
        let found = blocked(&world)?;
        ensure!(acknowledged.is_subset(&found), "lost: {:?}", acknowledged.difference(&found));
        ensure!(found.is_subset(&attempted), "invented: {:?}", found.difference(&attempted));
        acknowledged = found;
        no_difference(&world)?;
    }
    Ok(())
}

#[test]
fn the_firewall_filters_while_the_daemon_is_dead_and_detach_needs_none() -> Result<()> {
    let mut world = World::started("")?;
    ensure!(world.probe()? == "pass", "unfiltered before");
    world.ctl(&["firewall", "block", CLIENT])?;
    ensure!(world.probe()? == "drop", "blocked");
    world.daemon().kill9()?;
    ensure!(world.probe()? == "drop", "still filtered with the daemon dead");
    world.start()?;
    ensure!(world.probe()? == "drop", "still filtered after the take-over");
    ensure!(!world.log().contains("differed"), "{}", world.log());
    world.daemon().terminate()?;
    ensure!(world.probe()? == "drop", "still filtered after a clean stop");
    let detached = world.command().arg("detach").output()?;
    ensure!(detached.status.success(), "{detached:?}");
    ensure!(world.probe()? == "reset", "unfiltered after detach: the kernel answers that nothing listens");
    ensure!(!world.pins().exists() || std::fs::read_dir(world.pins())?.next().is_none(), "no pin is left");
    Ok(())
}

#[test]
fn a_divergence_is_found_reported_and_repaired() -> Result<()> {
    let mut world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let backend = world.echo(hello.len())?.to_string();
    world.ctl(&["route", "add", NAME, "--port", "443", "--backend", &backend])?;
    no_difference(&world)?;
    // Behind the daemon's back.
    let pin = world.pins().join(format!("v{}", mc_edge_common::LAYOUT_VERSION)).join("ROUTES");
    let map = aya::maps::MapData::from_pin(&pin)?;
    let mut routes: aya::maps::HashMap<_, mc_edge_common::route::RouteKey, mc_edge_common::route::RouteValue> =
        aya::maps::Map::HashMap(map).try_into()?;
    let key = routes.keys().next().context("there is a route")??;
    routes.remove(&key)?;
    let found = world.json_even_if_it_fails(&["maps", "verify"])?.to_string();
    ensure!(found.contains(NAME), "{found}");
    ensure!(world.open(&hello)?.is_err(), "fails closed");
    world.ctl(&["maps", "verify", "--repair"])?;
    no_difference(&world)?;
    world.open(&hello)?.context("routes again")?;
    // And at a start.
    routes.remove(&key)?;
    world.daemon().kill9()?;
    world.start()?;
    ensure!(world.log().contains("differed from the database"), "{}", world.log());
    no_difference(&world)?;
    Ok(())
}

#[test]
fn sigterm_drains_and_the_deadline_cuts() -> Result<()> {
    let mut world = World::started("[server]\ndrain_timeout = \"3s\"\n")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let backend = world.echo(hello.len())?.to_string();
    world.ctl(&["route", "add", NAME, "--port", "443", "--backend", &backend])?;
    let (mut short, mut long) = (world.open(&hello)??, world.open(&hello)??);
    world.daemon().signal(Signal::SIGTERM)?;
    world.daemon().wait_for_output("draining")?;
    // While it drains: no new connection, and the open ones work.
    let work = async move {
        short.write_all(b"still here").await?;
        let mut answer = [0; 10];
        short.read_exact(&mut answer).await?;
        drop(short);
        anyhow::Ok(answer)
    };
    let answer = world.client_runtime.block_on(world.client_runtime.spawn(work))??;
    ensure!(&answer == b"still here");
    ensure!(world.open(&hello)?.is_err(), "nothing new while draining");
    let cut = async move { tokio::time::timeout(Duration::from_secs(30), long.read(&mut [0; 1])).await };
    let cut = world.client_runtime.block_on(world.client_runtime.spawn(cut))??;
    ensure!(cut.is_err() || cut.is_ok_and(|n| n == 0), "the deadline cuts what is left");
    let status = world.daemon().wait_exit()?;
    ensure!(status.success(), "{status}\n{}", world.log());
    Ok(())
}
