//! What an attacker, or an operator on a bad day, tried and must not achieve.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mc_proxy::workers;
use mc_testkit::wait_for;
use nix::sys::signal::Signal;

use crate::world::{CLIENT, World};

const NAME: &str = "attack.example.org";

#[test]
fn an_absurd_burst_does_not_keep_the_daemon_down() -> Result<()> {
    let mut world = World::started("")?;
    let burst = u32::MAX.to_string();
    let set = [
        "firewall",
        "rate",
        "set",
        "connections",
        "1/h",
        "--burst",
        &burst,
    ];
    world.ctl(&set)?;
    ensure!(world.probe()? == "pass", "a burst is far from used up");
    world.daemon().terminate()?;
    world.start().context("the next start")
}

#[test]
fn an_embedded_address_in_the_config_is_refused_before_it_is_stored() -> Result<()> {
    for cidr in ["64:ff9b::192.0.2.0/120", "64:ff9b::192.0.2.1"] {
        let rule = format!("[[rules]]\nkind = \"block\"\ncidr = \"{cidr}\"\n");
        let mut world = World::new(&rule)?;
        let checked = world.command().arg("check-config").output()?;
        ensure!(!checked.status.success(), "{cidr}: {checked:?}");
        ensure!(world.start().is_err(), "{cidr}");
        let file = world.dir.path().join("mc-proxy.toml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, text.replace(&rule, ""))?;
        world.start().context("with the rule gone")?;
    }
    Ok(())
}

#[test]
fn an_embedded_address_is_the_callers_mistake_and_never_reaches_the_database() -> Result<()> {
    let world = World::started("")?;
    let (_, told) = world.ctl_fails(&["firewall", "block", "64:ff9b::192.0.2.1"])?;
    ensure!(told.contains("IPv4"), "{told}");
    let audit = world.ctl(&["--json", "audit"])?;
    ensure!(!audit.contains("undo"), "{audit}");
    Ok(())
}

#[test]
fn a_listener_comes_back_at_once() -> Result<()> {
    let world = World::started("")?;
    for round in 0..40 {
        world.ctl(&["listener", "remove", "0.0.0.0:443"])?;
        world
            .ctl(&["listener", "add", "0.0.0.0:443"])
            .with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[test]
fn connections_never_take_the_descriptors_of_the_admin_api() -> Result<()> {
    // One client is to be enough to take them all.
    let mut world = World::new("[server]\nmax_connections_per_source = 1000\n")?;
    // Those of 36 connections; what workers and health checks need comes on top.
    let checks = mc_proxy::health::check::MAX_CHECKS as u64;
    let files = 128 + 36 * 2 + checks + workers::count() as u64 * workers::DESCRIPTORS;
    world.start_under("prlimit", &[&format!("--nofile={files}:{files}")], &[])?;
    world.ctl(&["listener", "add", "0.0.0.0:443"])?;
    let hello = world.echo_route(NAME, "")?;
    let mut open = Vec::new();
    for _ in 0..30 {
        if let Ok(stream) = world.open(&hello)? {
            open.push(stream);
        }
    }
    // Idle, but open: whatever is left of the table is theirs for the taking.
    let idle: Vec<_> = world.client.run(|| {
        (0..300)
            .filter_map(|_| std::net::TcpStream::connect((crate::world::NODE, 443)).ok())
            .collect()
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    world.ctl(&["status"]).context("while they are open")?;
    ensure!(
        asked.elapsed() < Duration::from_secs(2),
        "the admin API waited for {:?}",
        asked.elapsed()
    );
    drop(idle);
    drop(open);
    world.ctl(&["status"]).context("afterwards")?;
    let hello = hello.clone();
    wait_for("a connection", || world.open(&hello).ok()?.ok()).map(drop)
}

#[test]
fn an_interface_that_is_made_again_is_filtered_again() -> Result<()> {
    let world = World::started("")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    ensure!(world.probe()? == "drop", "blocked");
    world.node.ip(&["link", "del", "c0"])?;
    mc_testkit::netns::veth(
        mc_testkit::netns::End {
            namespace: &world.client,
            interface: "eth0",
            addresses: &["10.9.1.2/24", "fd09:1::2/64"],
        },
        mc_testkit::netns::End {
            namespace: &world.node,
            interface: "c0",
            addresses: &["10.9.1.1/24", "fd09:1::1/64"],
        },
    )?;
    wait_for("the filter to be back", || {
        (world.probe().ok()? == "drop").then_some(())
    })
    .with_context(|| world.log())?;
    Ok(())
}

#[test]
fn after_a_detach_sighup_filters_again() -> Result<()> {
    let mut world = World::started("")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    let pinned = |world: &World| -> Result<BTreeSet<PathBuf>> {
        let pins = std::fs::read_dir(world.pin(""))?;
        pins.map(|p| Ok(p?.path())).collect()
    };
    let before = pinned(&world)?;
    world.ctl(&["detach", "--yes"])?;
    ensure!(world.probe()? == "pass", "detached");
    world.daemon().signal(Signal::SIGHUP)?;
    wait_for("the filter to be back", || {
        (world.probe().ok()? == "drop").then_some(())
    })?;
    ensure!(
        pinned(&world)? == before,
        "all is pinned again, and outlives the daemon"
    );
    Ok(())
}

#[test]
fn an_interface_without_ethernet_frames_is_told_and_not_taken_for_filtered() -> Result<()> {
    let mut world = World::new("")?;
    let file = world.dir.path().join("mc-proxy.toml");
    let config = std::fs::read_to_string(&file)?;
    std::fs::write(&file, config.replace("[\"c0\"]", "[\"tun0\", \"c0\"]"))?;
    let tun = ["tuntap", "add", "dev", "tun0", "mode", "tun"];
    world.node.ip(&tun)?;
    let checked = world.command().arg("check-config").output()?;
    let told = String::from_utf8(checked.stderr)?;
    ensure!(told.contains("tun0 carries no Ethernet frames"), "{told}");
    world.start()?;
    ensure!(world.warnings()?.iter().any(|w| w.contains("tun0")));
    ensure!(world.log().contains("tun0 carries no Ethernet frames"));
    world.ctl(&["firewall", "block", CLIENT])?;
    ensure!(world.probe()? == "drop", "the others are filtered");
    Ok(())
}

#[test]
fn after_its_pins_were_removed_an_interface_is_filtered_again() -> Result<()> {
    let world = World::started("")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    std::fs::remove_dir_all(world.pin(""))?;
    wait_for("the filter to be back", || {
        (world.probe().ok()? == "drop").then_some(())
    })
    .with_context(|| world.log())?;
    ensure!(
        world.log().contains("its pin was removed"),
        "and it is told"
    );
    Ok(())
}

#[test]
fn a_route_back_to_the_daemon_is_refused() -> Result<()> {
    let mut world = World::started("")?;
    for backend in ["10.9.2.1:443", "127.0.0.1:443", "[fd09:1::1]:443"] {
        let add = ["route", "add", "a.example", "--backend", backend];
        let (_, told) = world.ctl_fails(&add)?;
        ensure!(told.contains("own listener"), "{backend}: {told}");
    }
    world.run("route add a.example --backend 10.9.2.2:443")?;
    world.run("route add b.example --backend 10.9.1.1:8443")?;
    for listener in ["0.0.0.0:8443", "10.9.1.1:8443"] {
        let (_, told) = world.ctl_fails(&["listener", "add", listener])?;
        ensure!(told.contains("b.example on port 443"), "{told}");
    }
    world.run("listener add [::]:8443")?;
    world.run("listener add 10.9.2.1:8443")?;
    // An address that moves here is told at the next start.
    world.run("route add c.example --backend 10.9.1.77:443")?;
    world.daemon().terminate()?;
    let address = ["addr", "add", "10.9.1.77/24", "dev", "c0"];
    world.node.ip(&address)?;
    world.start()?;
    let warnings = world.warnings()?;
    ensure!(
        warnings.iter().any(|w| w.contains("c.example")),
        "{warnings:?}"
    );
    Ok(())
}

#[test]
fn after_its_link_was_detached_an_interface_is_filtered_again() -> Result<()> {
    let world = World::started("")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    mc_testkit::xdp::detach_link(&world.pin("link-c0"))?;
    wait_for("the filter to be back", || {
        (world.probe().ok()? == "drop").then_some(())
    })
    .with_context(|| world.log())?;
    ensure!(world.log().contains("its link was detached"), "told");
    Ok(())
}

#[test]
fn a_database_that_was_removed_is_told_and_takes_no_change() -> Result<()> {
    let world = World::started("")?;
    world.ctl(&["firewall", "block", CLIENT])?;
    std::fs::remove_file(world.dir.path().join("mc-proxy.db"))?;
    let told = "was removed or replaced while the daemon has it open";
    let (_, error) = world.ctl_fails(&["firewall", "unblock", CLIENT])?;
    ensure!(error.contains(told), "{error}");
    ensure!(world.warnings()?.iter().any(|w| w.contains(told)));
    ensure!(world.probe()? == "drop", "what is in force stays");
    world.ctl(&["detach", "--yes"])?;
    ensure!(world.probe()? == "pass", "what needs no database is done");
    Ok(())
}

#[test]
fn the_admin_socket_is_never_somebody_elses_file() -> Result<()> {
    let mut world = World::new("")?;
    let file = world.dir.path().join("admin.sock");
    std::fs::File::create(&file)?.write_all(b"precious")?;
    ensure!(world.start().is_err(), "a file is in the way");
    ensure!(std::fs::read(&file)? == b"precious", "and stays");
    Ok(())
}

#[test]
fn a_listener_removed_while_it_waits_for_its_address_stays_removed() -> Result<()> {
    let mut world = World::started("")?;
    world.ctl(&["listener", "add", "0.0.0.0:444"])?;
    world.daemon().terminate()?;
    for _ in 0..3 {
        let taken = world.node.run(|| TcpListener::bind("0.0.0.0:444"))??;
        world.start()?;
        world.ctl(&["listener", "remove", "0.0.0.0:444"])?;
        drop(taken);
        std::thread::sleep(Duration::from_millis(1500));
        ensure!(
            world.node.run(|| TcpListener::bind("0.0.0.0:444"))?.is_ok(),
            "it listens"
        );
        world.ctl(&["listener", "add", "0.0.0.0:444"])?;
        world.daemon().terminate()?;
    }
    Ok(())
}

/// Pins an array of one value of so many bytes.
fn pin_array(world: &World, name: &str, value: u32) -> Result<()> {
    let dir = mc_proxy::kernel::pins(world.pins());
    std::fs::create_dir_all(&dir)?;
    let object = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    let map = aya_obj::maps::LegacyMap {
        def: aya_obj::maps::bpf_map_def {
            map_type: object,
            key_size: 4,
            value_size: value,
            max_entries: 1,
            ..Default::default()
        },
        inner_def: None,
        section_index: 0,
        section_kind: aya_obj::EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    };
    let data = aya::maps::MapData::create(aya_obj::Map::Legacy(map), name, None)?;
    Ok(data.pin(dir.join(name))?)
}

#[test]
fn pins_of_another_layout_are_refused() -> Result<()> {
    for value in [8, 4096] {
        let mut world = World::new("")?;
        pin_array(&world, "CONFIG", value)?;
        let error = format!("{:#}", world.start().err().context("it starts")?);
        ensure!(error.contains("another layout"), "{value}: {error}");
        let detached = world.command().arg("detach").output()?;
        ensure!(detached.status.success(), "{detached:?}");
        world.start().context("after the detach")?;
    }
    Ok(())
}
