//! Sockets that are open before the daemon is: systemd's.

use std::{net::TcpListener, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::wait_for;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::Signal,
};

use super::NAME;
use crate::world::World;

/// A socket as systemd holds it: of the node, and inherited by whoever is started.
fn held(world: &World, address: &str) -> Result<TcpListener> {
    let socket = world.node.run(|| TcpListener::bind(address))??;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(socket)
}

/// Starts the daemon with the sockets as systemd would.
fn activate(world: &mut World, sockets: [&TcpListener; 3]) -> Result<()> {
    let [a, b, c] = sockets.map(|s| s.as_raw_fd());
    let script = format!(
        "exec 3<&{a} 4<&{b} 5<&{c} {a}<&- {b}<&- {c}<&-; LISTEN_PID=$$ LISTEN_FDS=3 exec \"$@\""
    );
    world.start_under("bash", &["-c", &script, "bash"], &[])
}

#[test]
fn systemds_sockets_are_used_and_outlive_the_daemon() -> Result<()> {
    let mut world = World::new("[[listeners]]\naddress = \"0.0.0.0:443\"\n")?;
    let (declared, metrics, undeclared) = (
        held(&world, "0.0.0.0:443")?,
        held(&world, "127.0.0.1:9901")?,
        held(&world, "0.0.0.0:8443")?,
    );
    activate(&mut world, [&declared, &metrics, &undeclared])?;
    let hello = world.echo_route(NAME, "")?;
    drop(world.open(&hello)??);
    world.wait_metric("mc_proxy_connections_total", &[NAME], 1.0)?;
    let warned = "address=\"0.0.0.0:8443\"";
    ensure!(world.log().contains(warned), "{}", world.log());
    ensure!(
        world.log().contains("nothing is declared"),
        "{}",
        world.log()
    );
    // While no daemon runs, who comes waits.
    world.daemon().kill9()?;
    let mut waiting = world
        .client_runtime
        .spawn(async move { crate::limits::open(&hello).await });
    ensure!(world.probe()? == "pass");
    activate(&mut world, [&declared, &metrics, &undeclared])?;
    world.client_runtime.block_on(&mut waiting)??;
    Ok(())
}

#[test]
fn a_reload_tells_what_came_of_it() -> Result<()> {
    let mut world = World::new(
        "[geoip]\ndatabase = \"geo.mmdb\"\n[[listeners]]\naddress = \"0.0.0.0:8443\"\n",
    )?;
    let taken = world.node.run(|| TcpListener::bind("0.0.0.0:8443"))??;
    let file = world.dir.path().join("geo.mmdb");
    std::fs::write(&file, "no database")?;
    world.start()?;
    ensure!(world.json(&["status"])?["reload"].is_null(), "none yet");
    let reload = |world: &mut World, fine: bool| {
        world.daemon().signal(Signal::SIGHUP)?;
        wait_for("the reload", || {
            let status = world.json(&["status"]).ok()?;
            let problems = status["reload"]["problems"].as_array()?;
            (problems.is_empty() == fine).then_some(status)
        })
    };
    let status = reload(&mut world, false)?;
    let (problems, at) = (
        status["reload"]["problems"].to_string(),
        &status["reload"]["at_unix_s"],
    );
    let at = at.as_i64().context("a time")?;
    for wrong in ["geo.mmdb", "0.0.0.0:8443"] {
        ensure!(problems.contains(wrong), "{problems}");
    }
    ensure!(
        status["geoip"]["tried_unix_s"].as_i64() >= Some(at - 1),
        "{status}"
    );
    ensure!(status["configured_unix_s"].as_i64() <= Some(at), "{status}");
    drop(taken);
    std::fs::write(&file, mc_testkit::mmdb::small(&[("10.9.1.0/24", "DE")]))?;
    let status = reload(&mut world, true)?;
    ensure!(status["geoip"]["loaded"] == true, "{status}");
    Ok(())
}
