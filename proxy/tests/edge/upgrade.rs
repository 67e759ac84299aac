//! One daemon takes over from another: nobody is refused, nobody is cut, whatever becomes of the new one.

mod failures;
mod http;
mod load;
mod sockets;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{process::Process, wait_for};
use nix::unistd::Pid;

use self::load::Load;
use crate::world::{CLIENT, World};

const NAME: &str = "upgrade.example.org";
/// More than a test takes, however slow the machine.
const CONFIG: &str = "[server]\ndrain_timeout = \"300s\"\nupgrade_drain_timeout = \"300s\"\n";

/// A world whose daemon can be replaced.
fn installed(config: &str) -> Result<World> {
    let mut world = World::new(&format!("{config}{CONFIG}"))?;
    world.install()?;
    world.start()?;
    world.run("listener add 0.0.0.0:443")?;
    Ok(world)
}

/// The daemon that answers.
fn serving(world: &World) -> Result<Pid> {
    let pid = world.json(&["status"])?["pid"].as_i64().context("a pid")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

/// Upgrades; returns the new daemon.
fn upgrade(world: &World) -> Result<Pid> {
    let before = serving(world)?;
    let told = world.json(&["upgrade"])?;
    let now = serving(world)?;
    ensure!(told["pid"] == now.as_raw(), "{told}: {now} serves");
    ensure!(
        told["old_pid"] == before.as_raw(),
        "{told}: {before} served"
    );
    Ok(now)
}

/// Waits until this daemon is the only one.
fn alone(world: &World, pid: Pid) -> Result<()> {
    let only = || (world.pids() == [pid]).then_some(());
    wait_for("the end of every other daemon", only).with_context(|| world.log())
}

/// `mcproxyctl upgrade`, not waited for.
fn begin(world: &World) -> Result<Process> {
    Process::start(&mut world.ctl_command(&["upgrade"]))
}

/// A daemon to be installed that waits for the file `go` before it does anything.
fn waiting(world: &World) -> Result<String> {
    let path = world.dir.path().display();
    Ok(format!(
        "#!/bin/sh\n: > {path}/started\nwhile ! [ -e {path}/go ]; do sleep 0.01; done\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_mc-proxy")
    ))
}

fn started(world: &World) -> Result<()> {
    let path = world.dir.path().join("started");
    wait_for("the start of the new daemon", || {
        path.exists().then_some(())
    })
}

#[test]
fn three_upgrades_under_load_refuse_and_cut_nothing() -> Result<()> {
    let mut world = installed("")?;
    let load = Load::start(&world)?;
    for round in 0..3 {
        let flowing = load.transfers(&world)?;
        load.progress()?;
        world.install()?;
        upgrade(&world).with_context(|| format!("round {round}\n{}", world.log()))?;
        load.progress()?;
        flowing.progress()?;
    }
    ensure!(world.pids().len() == 4, "transfers keep every daemon");
    load.finish(&world).with_context(|| world.log())?;
    let last = serving(&world)?;
    alone(&world, last)?;
    ensure!(world.daemon().wait_exit()?.success(), "{}", world.log());
    for complaint in ["ERROR", "panicked", "were cut"] {
        ensure!(!world.log().contains(complaint), "{}", world.log());
    }
    world.verified()
}

#[test]
fn firewall_bans_and_counters_stay_in_place() -> Result<()> {
    let world = installed("")?;
    let hello = world.echo_route(NAME, "")?;
    let mut held = world.open(&hello)??;
    world.ctl(&["firewall", "ban", CLIENT, "--ttl", "1h"])?;
    ensure!(world.probe()? == "drop");
    let rules = |world: &World| world.json(&["firewall", "list"]);
    let before = rules(&world)?;
    upgrade(&world)?;
    let after = rules(&world)?;
    let dropped = |rules: &serde_json::Value| rules[0]["packets"].as_u64();
    ensure!(dropped(&before) > Some(0), "{before}");
    ensure!(dropped(&after) >= dropped(&before), "{before} then {after}");
    ensure!(before[0]["id"] == after[0]["id"], "{before} then {after}");
    ensure!(world.probe()? == "drop", "still banned");
    ensure!(dropped(&rules(&world)?) > dropped(&after), "and counted on");
    world.ctl(&["firewall", "unban", CLIENT])?;
    ensure!(world.probe()? == "pass");
    world.client_runtime.block_on(load::echoes(&mut held))?;
    ensure!(!world.log().contains("differed"), "{}", world.log());
    Ok(())
}

#[test]
fn who_waits_for_a_place_is_served() -> Result<()> {
    let world = installed("")?;
    let file = world.dir.path().join("mc-proxy.toml");
    let limited = fs::read_to_string(&file)?.replace("[server]", "[server]\nmax_connections = 1");
    fs::write(&file, limited)?;
    upgrade(&world)?;
    let hello = world.echo_route(NAME, "")?;
    let held = world.open(&hello)??;
    // Accepted, for the worker is idle, and then no place for it.
    let waiting = async move { crate::limits::open(&hello).await };
    let waiting = world.client_runtime.spawn(waiting);
    ensure!(world.probe()? == "pass");
    let new = upgrade(&world)?;
    drop(held);
    let served = world.client_runtime.block_on(waiting)?;
    let mut served = served.with_context(|| world.log())?;
    world.client_runtime.block_on(load::echoes(&mut served))?;
    drop(served);
    alone(&world, new)
}

/// What the status says of the daemons before the one that serves: process id and connections.
fn predecessors(world: &World) -> Result<Vec<(i64, Option<u64>)>> {
    let status = world.json(&["status"])?;
    let list = status["predecessors"].as_array().context("a list")?;
    let one = |p: &serde_json::Value| Some((p["pid"].as_i64()?, p["connections"].as_u64()));
    list.iter().map(|p| one(p).context("a pid")).collect()
}

#[test]
fn what_still_drains_is_told() -> Result<()> {
    let world = installed("")?;
    let hello = world.echo_route(NAME, "")?;
    let told = |wanted: &[(Pid, u64)]| -> Result<()> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(pid, n)| (i64::from(pid.as_raw()), Some(*n)))
            .collect();
        wait_for(&format!("{wanted:?}"), || {
            (predecessors(&world).ok()? == wanted).then_some(())
        })
        .with_context(|| format!("{:?}\n{}", predecessors(&world), world.log()))?;
        let held: u64 = wanted.iter().filter_map(|(_, n)| *n).sum();
        world.wait_metric("mc_proxy_predecessors_draining", &[], wanted.len() as f64)?;
        world.wait_metric("mc_proxy_predecessors_connections_active", &[], held as f64)
    };
    told(&[])?;
    let (a, held) = (
        serving(&world)?,
        [world.open(&hello)??, world.open(&hello)??],
    );
    let first = world.json(&["upgrade"])?;
    ensure!(first["draining"] == 2, "{first}");
    told(&[(a, 2)])?;
    let b = serving(&world)?;
    let other = world.open(&hello)??;
    let [one, two] = held;
    drop(one);
    told(&[(a, 1)])?;
    let second = world.json(&["upgrade"])?;
    ensure!(second["draining"] == 2, "of both: {second}");
    let of = |daemon: usize| &second["predecessors"][daemon];
    ensure!(
        of(0)["pid"] == a.as_raw() && of(0)["connections"] == 1 && of(1)["pid"] == b.as_raw(),
        "{second}"
    );
    told(&[(a, 1), (b, 1)])?;
    let shown = world.ctl(&["status"])?;
    ensure!(
        shown.contains(&format!(
            "pid {a}, replaced by an upgrade, drains 1 connection\n"
        )),
        "{shown}"
    );
    // The one between waits for the oldest.
    drop(other);
    told(&[(a, 1), (b, 0)])?;
    drop(two);
    told(&[])?;
    let log = world.log();
    for said in [format!("replaced pid={a}"), format!("stopped pid={b}")] {
        ensure!(log.contains(&said), "{said}: {log}");
    }
    alone(&world, serving(&world)?)
}

#[test]
fn a_firewall_that_was_taken_off_stays_off() -> Result<()> {
    let world = installed("")?;
    world.run(&format!("firewall block {CLIENT}"))?;
    world.ctl(&["detach", "--yes"])?;
    ensure!(world.probe()? == "pass");
    for _ in 0..2 {
        let new = upgrade(&world)?;
        ensure!(world.probe()? == "pass", "{}", world.log());
        let warnings = world.warnings()?;
        ensure!(
            warnings
                .iter()
                .any(|w| w.contains("unfiltered since `mcproxyctl detach`")),
            "{warnings:?}"
        );
        alone(&world, new)?;
    }
    // Nor does one that fails attach it.
    world.install_script("#!/bin/sh\nexit 3\n")?;
    world.ctl_fails(&["upgrade"])?;
    ensure!(world.probe()? == "pass");
    nix::sys::signal::kill(serving(&world)?, nix::sys::signal::Signal::SIGHUP)?;
    wait_for("the firewall", || {
        (world.probe().ok()? == "drop").then_some(())
    })?;
    world.install()?;
    upgrade(&world)?;
    ensure!(world.probe()? == "drop");
    Ok(())
}

#[test]
fn of_two_upgrades_at_once_one_is_refused() -> Result<()> {
    let world = installed("")?;
    let old = serving(&world)?;
    world.install_script(&waiting(&world)?)?;
    let mut first = begin(&world)?;
    started(&world)?;
    let (code, complaint) = world.ctl_fails(&["upgrade"])?;
    ensure!(
        code == 5 && complaint.contains("in progress"),
        "{code}: {complaint}"
    );
    fs::write(world.dir.path().join("go"), "")?;
    ensure!(first.wait_exit()?.success(), "{}", first.output());
    let new = serving(&world)?;
    ensure!(new != old);
    alone(&world, new)?;
    // Those that drain are no obstacle; each waits for the one before it.
    let hello = world.echo_route(NAME, "")?;
    let held = world.open(&hello)??;
    upgrade(&world)?;
    let last = upgrade(&world)?;
    ensure!(world.pids().len() == 3, "{:?}", world.pids());
    drop(held);
    alone(&world, last)
}
