//! A dead daemon, divergence, stop.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{CLIENT, World};

const NAME: &str = "recovery.example.org";

#[test]
fn the_firewall_filters_while_the_daemon_is_dead_and_detach_needs_none() -> Result<()> {
    let mut world = World::started("")?;
    ensure!(world.probe()? == "pass", "unfiltered before");
    world.ctl(&["firewall", "block", CLIENT])?;
    ensure!(world.probe()? == "drop", "blocked");
    world.daemon().kill9()?;
    ensure!(
        world.probe()? == "drop",
        "still filtered with the daemon dead"
    );
    world.start()?;
    ensure!(
        world.probe()? == "drop",
        "still filtered after the take-over"
    );
    ensure!(!world.log().contains("differed"), "{}", world.log());
    world.daemon().terminate()?;
    ensure!(
        world.probe()? == "drop",
        "still filtered after a clean stop"
    );
    let detached = world.command().arg("detach").output()?;
    ensure!(detached.status.success(), "{detached:?}");
    ensure!(
        world.probe()? == "reset",
        "unfiltered after detach: the kernel answers that nothing listens"
    );
    ensure!(
        !world.pins().exists(),
        "no pin is left, nor their directory"
    );
    Ok(())
}

#[test]
fn a_divergence_is_found_reported_and_repaired() -> Result<()> {
    let mut world = World::started("")?;
    let hello = world.echo_route(NAME, "")?;
    world.verified()?;
    // Behind the daemon's back.
    let pin = world.pin("ROUTES");
    let map = aya::maps::MapData::from_pin(&pin)?;
    let mut routes: aya::maps::HashMap<
        _,
        mc_edge_common::route::RouteKey,
        mc_edge_common::route::RouteValue,
    > = aya::maps::Map::HashMap(map).try_into()?;
    let key = routes.keys().next().context("there is a route")??;
    routes.remove(&key)?;
    let found = world
        .json_even_if_it_fails(&["maps", "verify"])?
        .to_string();
    ensure!(found.contains(NAME), "{found}");
    ensure!(world.open(&hello)?.is_err(), "fails closed");
    world.ctl(&["maps", "verify", "--repair"])?;
    world.verified()?;
    world.open(&hello)?.context("routes again")?;
    // And at a start.
    routes.remove(&key)?;
    world.daemon().kill9()?;
    world.start()?;
    ensure!(
        world.log().contains("differed from the database"),
        "{}",
        world.log()
    );
    world.verified()?;
    Ok(())
}

#[test]
fn a_first_start_that_fails_seeds_nothing() -> Result<()> {
    let listener = |port: u16| format!("[[listeners]]\naddress = \"0.0.0.0:{port}\"\n");
    let mut world = World::new(&listener(443))?;
    std::fs::create_dir(world.admin_socket())?;
    let failed = world.command().arg("server").output()?;
    let complaint = String::from_utf8_lossy(&failed.stderr).into_owned();
    ensure!(
        !failed.status.success() && complaint.contains("cannot bind the admin socket"),
        "{complaint}"
    );
    std::fs::remove_dir(world.admin_socket())?;
    let file = world.dir.path().join("mc-proxy.toml");
    let mended = std::fs::read_to_string(&file)?.replace(&listener(443), &listener(8443));
    std::fs::write(&file, mended)?;
    world.start()?;
    let listeners = world.json(&["listener", "list"])?;
    ensure!(listeners[0]["address"] == "0.0.0.0:8443", "{listeners}");
    let warnings = world.warnings()?;
    ensure!(
        warnings.is_empty(),
        "the seed is the mended one: {warnings:?}"
    );
    Ok(())
}

#[test]
fn a_lost_database_takes_no_rule_out_of_force() -> Result<()> {
    let mut world = World::started("")?;
    world.echo_route(NAME, "")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    world.ctl(&["firewall", "rate", "set", "connections", "1000/s"])?;
    let database = world.dir.path().join("mc-proxy.db");
    let snapshot = world.dir.path().join("snapshot.db");
    let copied = world.command().arg("snapshot").arg(&snapshot).output()?;
    ensure!(copied.status.success(), "{copied:?}");
    world.daemon().terminate()?;
    for truncated in [true, false] {
        std::fs::remove_file(&database)?;
        if truncated {
            std::fs::File::create(&database)?;
        }
        for again in [false, true] {
            let refused = format!("{:#}", world.start().err().context("it starts")?);
            let held = "1 addresses and prefixes, rate limits, 1 routes";
            for part in ["mc-proxy.db is new", held, "`mc-proxy detach`"] {
                ensure!(refused.contains(part), "{again} {part}: {refused}");
            }
        }
        ensure!(world.probe()? == "drop", "still in force");
    }
    std::fs::copy(&snapshot, &database)?;
    world.start().context("from the snapshot")?;
    ensure!(world.probe()? == "drop", "and still");
    world.verified()?;
    world.daemon().terminate()?;
    std::fs::remove_file(&database)?;
    let detached = world.command().arg("detach").output()?;
    ensure!(detached.status.success(), "{detached:?}");
    world.start().context("anew")?;
    world.ctl(&["listener", "add", "0.0.0.0:443"])?;
    ensure!(world.probe()? == "pass", "anew");
    Ok(())
}

#[test]
fn sigterm_drains_and_the_deadline_cuts() -> Result<()> {
    let mut world = World::started("[server]\ndrain_timeout = \"3s\"\n")?;
    let hello = world.echo_route(NAME, "")?;
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
    let answer = world
        .client_runtime
        .block_on(world.client_runtime.spawn(work))??;
    ensure!(&answer == b"still here");
    ensure!(world.open(&hello)?.is_err(), "nothing new while draining");
    let cut =
        async move { tokio::time::timeout(Duration::from_secs(30), long.read(&mut [0; 1])).await };
    let cut = world
        .client_runtime
        .block_on(world.client_runtime.spawn(cut))??;
    ensure!(
        cut.is_err() || cut.is_ok_and(|n| n == 0),
        "the deadline cuts what is left"
    );
    let status = world.daemon().wait_exit()?;
    ensure!(status.success(), "{status}\n{}", world.log());
    Ok(())
}
