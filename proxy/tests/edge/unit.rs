//! The daemon as its systemd unit runs it: with the unit's capabilities and no others, and telling systemd its state.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    mmdb, wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{clients::client_hello, world::World};

const NAME: &str = "unit.example.org";
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mc-proxy.service");

/// The values of a setting.
fn setting(unit: &str, key: &str) -> Vec<String> {
    let values = unit
        .lines()
        .filter_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    values
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}

/// `setpriv` arguments that leave what the unit leaves.
fn restricted() -> Result<Vec<String>> {
    let unit = fs::read_to_string(UNIT)?;
    ensure!(
        setting(&unit, "User").is_empty() && setting(&unit, "AmbientCapabilities").is_empty(),
        "the unit runs it as root; this test would have to do otherwise"
    );
    ensure!(setting(&unit, "NoNewPrivileges") == ["yes"]);
    let capabilities: Vec<_> = setting(&unit, "CapabilityBoundingSet")
        .iter()
        .map(|c| format!("+{}", c.trim_start_matches("CAP_").to_ascii_lowercase()))
        .collect();
    ensure!(!capabilities.is_empty(), "the unit bounds capabilities");
    Ok(vec![
        format!("--bounding-set=-all,{}", capabilities.join(",")),
        "--inh-caps=-all".to_owned(),
        "--ambient-caps=-all".to_owned(),
        "--no-new-privs".to_owned(),
    ])
}

fn start(world: &mut World, env: &[(&str, &Path)]) -> Result<()> {
    let args = restricted()?;
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    world.start_under("setpriv", &args, env)
}

#[test]
fn the_units_capabilities_suffice() -> Result<()> {
    let mut world = World::new("[geoip]\ndatabase = \"geo.mmdb\"\n")?;
    let geo = world.dir.path().join("geo.mmdb");
    fs::write(&geo, mmdb::small(&[("10.9.1.0/24", "DE")]))?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let backend = world.echo(hello.len())?.to_string();
    start(&mut world, &[])?;
    let status = fs::read_to_string(format!("/proc/{}/status", world.pid()))?;
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.context("CapEff")?.trim(), 16)?;
    ensure!(
        effective.count_ones() as usize
            == setting(&fs::read_to_string(UNIT)?, "CapabilityBoundingSet").len(),
        "{effective:x}"
    );
    // A port below 1024.
    world.ctl(&["listener", "add", "0.0.0.0:443"])?;
    for engine in ["copy", "sockmap"] {
        let to = ["--engine", engine, "--replace", "--backend", &backend];
        world.ctl(&[&["route", "add", NAME], &to[..]].concat())?;
        drop(world.open(&hello)?.with_context(|| world.log())?);
        let label = format!("engine=\"{engine}\",fallback=\"\"");
        world.wait_metric("mc_proxy_engine_total", &[NAME, &label], 1.0)?;
    }
    world.ctl(&["firewall", "country", "block", "DE"])?;
    ensure!(world.probe()? == "drop", "XDP filters");
    // The next one takes over what is pinned.
    world.daemon().kill9()?;
    start(&mut world, &[])?;
    ensure!(world.probe()? == "drop", "and goes on");
    world.ctl(&["upgrade"])?;
    ensure!(world.daemon().wait_exit()?.success());
    ensure!(world.probe()? == "drop", "and under the one that took over");
    let interfaces = &world.json(&["status"])?["interfaces"];
    ensure!(interfaces[0]["mode"] == "native", "{interfaces}");
    world.ctl(&["maps", "verify"])?;
    world.ctl(&["firewall", "country", "clear"])?;
    ensure!(world.probe()? == "pass");
    world.ctl(&["detach", "--yes"])?;
    ensure!(!world.log().contains("ERROR"), "{}", world.log());
    Ok(())
}

#[test]
fn systemd_is_told() -> Result<()> {
    let mut world = World::new("")?;
    let path = world.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    let told = |wanted: &str| {
        let mut buffer = [0; 512];
        wait_for(wanted, || {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    };
    start(&mut world, &[("NOTIFY_SOCKET", &path)])?;
    ensure!(told("READY")?.trim() == "READY=1");
    world.daemon().signal(Signal::SIGHUP)?;
    let reloading = told("RELOADING")?;
    ensure!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    ensure!(told("READY again")?.trim() == "READY=1");
    // Both say who is the main process, in whatever order; the one that drains does not say that the service stops.
    let new = world.json(&["upgrade"])?["pid"].as_i64().context("a pid")?;
    let mut after = [told("MAINPID")?, told("MAINPID")?, told("READY")?];
    after.sort();
    let main = format!("MAINPID={new}\n");
    ensure!(
        after == [main.clone(), main, "READY=1\n".to_owned()],
        "{after:?}"
    );
    ensure!(world.daemon().wait_exit()?.success());
    kill(Pid::from_raw(i32::try_from(new)?), Signal::SIGTERM)?;
    ensure!(told("STOPPING")?.trim() == "STOPPING=1");
    wait_for("the end", || world.pids().is_empty().then_some(()))?;
    Ok(())
}
