//! A new daemon that fails, and daemons that are killed: what is left serves, or can be started.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{process::Process, wait_for};
use nix::{
    fcntl::OFlag,
    sys::{signal::Signal, stat::Mode},
    unistd::{Pid, mkfifo},
};

use super::{
    NAME, alone, begin, installed,
    load::{Load, echoes},
    serving, started, upgrade, waiting,
};
use crate::world::{CLIENT, World};

/// Changes and reloads work, and so does the next upgrade.
fn unharmed(world: &mut World) -> Result<()> {
    world.verified()?;
    let status = world.json(&["status"])?;
    let mut warnings = world.warnings()?;
    // What the tests themselves did to the files of a daemon that went on.
    warnings.retain(|w| !w.contains("has changed since") && !w.starts_with("GeoIP"));
    ensure!(warnings.is_empty(), "{warnings:?}");
    ensure!(status["interfaces"][0]["mode"] == "native", "{status}");
    world.ctl(&["firewall", "ban", CLIENT, "--ttl", "1h"])?;
    ensure!(world.probe()? == "drop", "its maps are those in force");
    world.ctl(&["firewall", "unban", CLIENT])?;
    ensure!(world.probe()? == "pass");
    let copy = world.dir.path().join("mc-proxy.db.before-upgrade");
    ensure!(!copy.exists(), "the copy of the database is removed");
    world.install()?;
    let new = upgrade(world).with_context(|| world.log())?;
    ensure!(!world.log().contains("differed"), "{}", world.log());
    alone(world, new)
}

/// What fails, and how it is made to.
type Failure = (&'static str, fn(&World) -> Result<()>, &'static str);

const BEFORE: [Failure; 5] = [
    (
        "no binary",
        |world| Ok(fs::remove_file(world.installed())?),
        "cannot start",
    ),
    (
        "a file that is none",
        |world| world.install_script("\0\0\0\0"),
        "cannot start",
    ),
    (
        "a binary that ends",
        |world| world.install_script("#!/bin/sh\nexit 3\n"),
        "the new daemon ended (exit status: 3)",
    ),
    (
        "a binary that speaks otherwise",
        |world| world.install_script("#!/bin/sh\necho '{}' >&0\nexec sleep 1000\n"),
        "protocol; it said \"{}",
    ),
    (
        "a configuration that is refused",
        |world| {
            let file = world.dir.path().join("mc-proxy.toml");
            Ok(fs::write(file, "[server]\nnonsense = 1\n")?)
        },
        "nonsense",
    ),
];

const AFTER: [Failure; 5] = [
    (
        "a start that fails",
        |world| {
            let file = world.dir.path().join("mc-proxy.toml");
            fs::create_dir_all(world.dir.path().join("taken"))?;
            let here = "[server]\n";
            let elsewhere = format!("{here}admin_socket = \"taken\"\n");
            let elsewhere = fs::read_to_string(&file)?.replace(here, &elsewhere);
            Ok(fs::write(file, elsewhere)?)
        },
        "cannot bind the admin socket",
    ),
    (
        "a later version that migrates the database and fails",
        |world| {
            let later = world.dir.path().join("later.db");
            let taken = world.command().arg("snapshot").arg(&later).output()?;
            ensure!(taken.status.success(), "{taken:?}");
            let db = rusqlite::Connection::open(&later)?;
            db.execute_batch(
                "INSERT INTO migrations (version, name, sql) VALUES (999, 'later', '')",
            )?;
            drop(db);
            world.install_script(&taking_over(&format!(
                "cp {} {}\nexit 4\n",
                later.display(),
                world.dir.path().join("mc-proxy.db").display(),
            )))
        },
        "exit status: 4",
    ),
    (
        "a later version that removes the pins of this one and fails",
        |world| {
            let remove = format!("rm -r {}/v*\nexit 5\n", world.pins().display());
            world.install_script(&taking_over(&remove))
        },
        "exit status: 5",
    ),
    (
        "one that ends when it is told to serve",
        |world| world.install_script(&told_to_serve("exit 6\n")),
        "exit status: 6",
    ),
    (
        "one that hangs when it is told to serve",
        |world| world.install_script(&told_to_serve("exec sleep 1000\n")),
        "was not ready within 10s",
    ),
];

/// A daemon of another version, up to the hand-over; `head` waits for the descriptors, and drops them.
fn taking_over(then: &str) -> String {
    let hello = r#"echo '{"hello":{"version":"9"}}' >&0"#;
    format!("#!/bin/sh\n{hello}\nhead -c 1 >/dev/null\n{then}")
}

/// The same, up to where it would accept connections.
fn told_to_serve(then: &str) -> String {
    taking_over(&format!(
        "echo '{{\"ready\":{{}}}}' >&0\nhead -c 1 >/dev/null\n{then}"
    ))
}

#[test]
fn a_new_daemon_that_fails_before_the_hand_over_changes_nothing() -> Result<()> {
    changes_nothing(1, &BEFORE)
}

#[test]
fn a_new_daemon_that_fails_after_the_hand_over_changes_nothing() -> Result<()> {
    changes_nothing(1, &AFTER)
}

#[test]
fn a_new_daemon_that_could_load_fewer_certificates_changes_nothing() -> Result<()> {
    let fewer: Failure = (
        "one that could load fewer certificates",
        |world| {
            let ready = r#"echo '{"ready":{"bare":1}}' >&0"#;
            world.install_script(&taking_over(&format!("{ready}\nexec sleep 1000\n")))
        },
        "could load no certificate for 1 of the routes, this one for all but 0",
    );
    changes_nothing(5, &[fewer])
}

/// `exits`: with what `mcproxyctl upgrade` ends.
fn changes_nothing(exits: i32, failures: &[Failure]) -> Result<()> {
    for &(description, fails, reason) in failures {
        let mut world = installed("")?;
        let config = fs::read(world.dir.path().join("mc-proxy.toml"))?;
        let old = serving(&world)?;
        let load = Load::start(&world)?;
        let flowing = load.transfers(&world)?;
        fails(&world).context(description)?;
        let (code, complaint) = world.ctl_fails(&["upgrade"])?;
        ensure!(
            code == exits && complaint.contains(reason),
            "{description}: {code}: {complaint}"
        );
        load.progress().context(description)?;
        flowing.progress().context(description)?;
        ensure!(world.pids() == [old], "{description}: {:?}", world.pids());
        let audit = world.json(&["audit", "-n", "1"])?;
        ensure!(
            audit[0]["action"] == "upgrade" && audit[0]["result"] != "ok",
            "{description}: {audit}"
        );
        load.finish(&world).context(description)?;
        fs::write(world.dir.path().join("mc-proxy.toml"), config)?;
        unharmed(&mut world).with_context(|| format!("{description}\n{}", world.log()))?;
    }
    Ok(())
}

/// A GeoIP database that is a pipe, in which a new daemon waits between taking over and being ready.
fn gate(world: &World) -> Result<PathBuf> {
    let pipe = world.dir.path().join("geo.mmdb");
    mkfifo(&pipe, Mode::S_IRWXU)?;
    let file = world.dir.path().join("mc-proxy.toml");
    let gated = format!(
        "{}[geoip]\ndatabase = \"geo.mmdb\"\n",
        fs::read_to_string(&file)?
    );
    fs::write(&file, gated)?;
    Ok(pipe)
}

/// Waits until a new daemon waits in the gate; returns it and what keeps the gate shut.
fn in_the_gate(world: &World, gate: &Path, old: Pid) -> Result<(Pid, File)> {
    let shut = wait_for("the new daemon to take over", || {
        // ENXIO until somebody reads.
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(nonblocking)
            .open(gate)
            .ok()
    });
    let shut = shut.with_context(|| world.log())?;
    let new = world.pids().into_iter().find(|pid| *pid != old);
    Ok((new.context("it runs")?, shut))
}

fn mended(world: &World, config: &[u8]) -> Result<()> {
    fs::write(world.dir.path().join("mc-proxy.toml"), config)?;
    let _ = fs::remove_file(world.dir.path().join("geo.mmdb"));
    Ok(())
}

/// The complaint of an upgrade that fails.
fn failed(upgrade: &mut Process) -> Result<String> {
    ensure!(!upgrade.wait_exit()?.success(), "{}", upgrade.output());
    Ok(upgrade.output())
}

#[test]
fn the_new_daemon_is_killed_before_it_says_a_word() -> Result<()> {
    let mut world = installed("")?;
    let load = Load::start(&world)?;
    world.install_script(&waiting(&world)?)?;
    let old = serving(&world)?;
    let mut upgrading = begin(&world)?;
    started(&world)?;
    // Until its first word the old daemon is wholly there.
    world.run("route add other.example.org --backend 10.9.2.2:1")?;
    let new = world.pids().into_iter().find(|pid| *pid != old);
    world.kill9(new.context("it runs")?)?;
    let complaint = failed(&mut upgrading)?;
    ensure!(complaint.contains("SIGKILL"), "{complaint}");
    load.progress()?;
    load.finish(&world)?;
    unharmed(&mut world)
}

#[test]
fn the_new_daemon_is_killed_before_it_is_ready() -> Result<()> {
    let mut world = installed("")?;
    let config = fs::read(world.dir.path().join("mc-proxy.toml"))?;
    let load = Load::start(&world)?;
    let flowing = load.transfers(&world)?;
    let gate = gate(&world)?;
    let old = serving(&world)?;
    let mut upgrading = begin(&world)?;
    let (new, _shut) = in_the_gate(&world, &gate, old)?;
    load.progress().context("the old one goes on accepting")?;
    let (code, complaint) = world.ctl_fails(&["firewall", "ban", CLIENT, "--ttl", "1h"])?;
    ensure!(
        code == 4 && complaint.contains("upgrade of the daemon is in progress"),
        "{code}: {complaint}"
    );
    world.kill9(new)?;
    let complaint = failed(&mut upgrading)?;
    ensure!(complaint.contains("SIGKILL"), "{complaint}");
    ensure!(serving(&world)? == old);
    load.progress()?;
    flowing.progress()?;
    load.finish(&world)?;
    mended(&world, &config)?;
    unharmed(&mut world)
}

#[test]
fn the_old_daemon_is_killed_before_the_new_one_says_a_word() -> Result<()> {
    let mut world = installed("")?;
    world.install_script(&waiting(&world)?)?;
    let mut upgrading = begin(&world)?;
    started(&world)?;
    world.daemon().kill9()?;
    failed(&mut upgrading)?;
    fs::write(world.dir.path().join("go"), "")?;
    wait_for("the end of the new daemon", || {
        world.pids().is_empty().then_some(())
    })?;
    world.install()?;
    world.start()?;
    unharmed(&mut world)
}

#[test]
fn the_old_daemon_is_killed_before_the_new_one_is_ready() -> Result<()> {
    let mut world = installed("")?;
    let config = fs::read(world.dir.path().join("mc-proxy.toml"))?;
    let hello = world.echo_route(NAME, "")?;
    let gate = gate(&world)?;
    let old = serving(&world)?;
    let mut upgrading = begin(&world)?;
    let (new, shut) = in_the_gate(&world, &gate, old)?;
    world.daemon().kill9()?;
    failed(&mut upgrading)?;
    ensure!(world.probe()? == "pass", "who comes waits in the queue");
    // What it reads is no database, and it goes on without; the gate is gone, or it would wait there again.
    mended(&world, &config)?;
    drop(shut);
    wait_for("the new daemon to serve", || {
        serving(&world).ok().filter(|pid| *pid == new)
    })?;
    world.open(&hello)?.context("it serves")?;
    unharmed(&mut world)
}

#[test]
fn either_daemon_is_killed_while_the_old_one_drains() -> Result<()> {
    let mut world = installed("")?;
    let hello = world.echo_route(NAME, "")?;
    let mut held = world.open(&hello)??;
    let new = upgrade(&world)?;
    world.kill9(new)?;
    world
        .client_runtime
        .block_on(echoes(&mut held))
        .context("the old one drains on")?;
    let mut old = world.take_daemon();
    world.start().context("a third one starts beside it")?;
    let _other = world.open(&hello)??;
    world.client_runtime.block_on(echoes(&mut held))?;
    drop(held);
    ensure!(old.wait_exit()?.success(), "{}", old.output());
    let mut held = world.open(&hello)??;
    let new = upgrade(&world)?;
    world.daemon().kill9()?;
    let cut = world.client_runtime.block_on(echoes(&mut held));
    ensure!(cut.is_err(), "its daemon is gone");
    ensure!(serving(&world)? == new);
    world.open(&hello)?.context("the new one serves on")?;
    Ok(())
}

#[test]
fn sigterm_ends_whichever_it_meets() -> Result<()> {
    let mut world = installed("")?;
    let hello = world.echo_route(NAME, "")?;
    // In the middle of an upgrade: both end.
    world.install_script(&waiting(&world)?)?;
    let mut upgrading = begin(&world)?;
    started(&world)?;
    world.daemon().terminate()?;
    let complaint = failed(&mut upgrading)?;
    ensure!(complaint.contains("drains and will end"), "{complaint}");
    let log = world.log();
    ensure!(
        log.contains("the upgrade failed: this daemon is stopping")
            && !log.contains("this daemon goes on"),
        "{log}"
    );
    ensure!(world.pids().is_empty(), "{:?}", world.pids());
    fs::write(world.dir.path().join("go"), "")?;
    world.install()?;
    world.start()?;
    // While the old one drains, it goes on draining; the new one ends after it.
    let mut held = world.open(&hello)??;
    let new = upgrade(&world)?;
    world.daemon().signal(Signal::SIGTERM)?;
    world.client_runtime.block_on(echoes(&mut held))?;
    nix::sys::signal::kill(new, Signal::SIGTERM)?;
    wait_for("the new daemon to stop accepting", || {
        world.open(&hello).ok()?.err()
    })?;
    world
        .client_runtime
        .block_on(echoes(&mut held))
        .context("both drain")?;
    ensure!(world.pids().len() == 2);
    drop(held);
    ensure!(world.daemon().wait_exit()?.success());
    wait_for("the end of both", || world.pids().is_empty().then_some(()))?;
    ensure!(!world.log().contains("were cut"), "{}", world.log());
    Ok(())
}

#[test]
fn sigterm_shortens_the_patience_of_a_replaced_daemon() -> Result<()> {
    let mut world = World::new("[server]\ndrain_timeout = \"100ms\"\n")?;
    world.install()?;
    world.start()?;
    world.run("listener add 0.0.0.0:443")?;
    let hello = world.echo_route(NAME, "")?;
    let mut held = world.open(&hello)??;
    let new = upgrade(&world)?;
    ensure!(world.pids().len() == 2, "it goes on for what is open");
    world.client_runtime.block_on(echoes(&mut held))?;
    world.daemon().signal(Signal::SIGTERM)?;
    ensure!(world.daemon().wait_exit()?.success());
    alone(&world, new)?;
    ensure!(world.log().contains("were cut"), "{}", world.log());
    drop(held);
    Ok(())
}

/// With one descriptor more each time, until it can serve: whichever it lacks.
#[test]
fn a_new_daemon_without_descriptors_changes_nothing() -> Result<()> {
    let world = installed("")?;
    let old = serving(&world)?;
    let load = Load::start(&world)?;
    let mut limit = 60;
    loop {
        world.install_script(&format!(
            "#!/bin/sh\nulimit -n {limit}\nexec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_mc-proxy")
        ))?;
        let output = world.ctl_command(&["upgrade"]).output()?;
        if output.status.success() {
            // It has descriptors for itself, and too few for the load.
            return Ok(());
        }
        let complaint = String::from_utf8(output.stderr)?;
        ensure!(
            complaint.contains("Too many open files"),
            "{limit}: {complaint}"
        );
        load.progress().with_context(|| complaint.clone())?;
        ensure!(world.pids() == [old], "{complaint}: {:?}", world.pids());
        // Nothing is decided among its many maps.
        limit += if complaint.contains("pinned map") {
            6
        } else {
            1
        };
        ensure!(limit < 200, "{complaint}");
    }
}
