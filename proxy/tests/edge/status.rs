//! What the operator is told without reading the log.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{ca::Ca, mmdb, wait_for};
use nix::sys::signal::Signal;

use crate::world::{CLIENT, NODE, World};

const NAME: &str = "status.example.org";

impl World {
    /// What the status warns of, but for connections that this machine's limit of open files does not allow.
    pub(crate) fn warnings(&self) -> Result<Vec<String>> {
        let warnings = self.json(&["status"])?["warnings"].take();
        let mut warnings: Vec<String> = serde_json::from_value(warnings)?;
        warnings.retain(|w| !w.starts_with("max_connections"));
        Ok(warnings)
    }
}

#[test]
fn what_did_not_come_as_configured_is_in_the_status() -> Result<()> {
    let config = "[geoip]\ndatabase = \"geo.mmdb\"\n[[listeners]]\naddress = \"10.9.1.77:443\"\n";
    let mut world = World::new(config)?;
    world.start_under("prlimit", &["--nofile=8192:8192"], &[])?;
    let told = world.json(&["status"])?["warnings"].to_string();
    for wanted in [
        "max_connections is ",
        "and not 100000",
        "listener 10.9.1.77:443: ",
        "GeoIP: cannot read the GeoIP database",
        "the country of every address is unknown",
    ] {
        ensure!(told.contains(wanted), "{wanted:?} in {told}");
    }
    ensure!(
        !world.log().contains("the table before it"),
        "{}",
        world.log()
    );
    let shown = world.ctl(&["status"])?;
    ensure!(shown.contains("reload       none since"), "{shown}");
    // All of it is mended, and the file changed.
    let file = world.dir.path().join("mc-proxy.toml");
    fs::write(
        world.dir.path().join("geo.mmdb"),
        mmdb::small(&[("10.9.1.0/24", "DE")]),
    )?;
    world
        .node
        .ip(&["addr", "add", "10.9.1.77/24", "dev", "c0"])?;
    fs::write(
        &file,
        fs::read_to_string(&file)? + "\n[log]\nlevel = \"debug\"\n",
    )?;
    world.daemon().signal(Signal::SIGHUP)?;
    let told = wait_for("the reload", || {
        let status = world.json(&["status"]).ok()?;
        (!status["reload"].is_null()).then_some(status)
    })?;
    let changed = "has changed since it was read; `mcproxyctl upgrade` applies it";
    let problems = told["reload"]["problems"].to_string();
    ensure!(problems.contains(changed), "{told}");
    let left = told["warnings"].as_array().context("a list")?;
    ensure!(
        left.len() == 2 && left[1].to_string().contains(changed),
        "{told}"
    );
    ensure!(told["geoip"]["ipv4_networks"] == 1, "{told}");
    Ok(())
}

#[test]
fn metrics_whose_address_is_taken_come_later() -> Result<()> {
    let mut world = World::new("")?;
    let bind = || std::net::TcpListener::bind("127.0.0.1:9901");
    let taken = world.node.run(bind)??;
    world.start()?;
    let told = world.warnings()?;
    let wanted =
        "no metrics: cannot listen on the metrics address 127.0.0.1:9901: Address already in use";
    ensure!(told.len() == 1 && told[0].starts_with(wanted), "{told:?}");
    ensure!(
        world.log().contains("metrics=\"not yet\""),
        "{}",
        world.log()
    );
    drop(taken);
    wait_for("the metrics", || world.metrics().ok())?;
    let told = world.warnings()?;
    ensure!(told.is_empty(), "{told:?}");
    ensure!(
        world.log().matches("no metrics").count() == 1,
        "{}",
        world.log()
    );
    // The next daemon gets the socket like any other.
    world.run("upgrade")?;
    world.metrics()?;
    Ok(())
}

#[test]
fn rules_for_countries_that_cannot_be_known_are_told() -> Result<()> {
    let world = World::started("")?;
    ensure!(world.warnings()?.is_empty());
    let told = "rules for countries are set, and without a GeoIP database";
    for (description, rule, warned) in [
        ("one is blocked", "firewall country block US", true),
        ("none any more", "firewall country allow US", false),
        ("all others are", "firewall country allow DE --only", true),
    ] {
        world.run(rule)?;
        let warnings = world.warnings()?;
        let found = warnings.iter().any(|w| w.starts_with(told));
        ensure!(found == warned, "{description}: {warnings:?}");
    }
    Ok(())
}

#[test]
fn why_a_listener_fails_is_what_it_fails_for_now() -> Result<()> {
    let config =
        "[[listeners]]\naddress = \"10.9.1.77:443\"\n[[listeners]]\naddress = \"0.0.0.0:443\"\n";
    let mut world = World::new(config)?;
    let checked = world.command().arg("check-config").output()?;
    let told = String::from_utf8(checked.stderr)?;
    ensure!(
        told.contains("0.0.0.0:443 and 10.9.1.77:443 cannot both"),
        "{told}"
    );
    world.start()?;
    let told = world.ctl(&["listener", "list"])?;
    ensure!(told.contains("Cannot assign requested address"), "{told}");
    world
        .node
        .ip(&["addr", "add", "10.9.1.77/24", "dev", "c0"])?;
    world.daemon().signal(Signal::SIGHUP)?;
    let told = wait_for("the reload", || {
        let status = world.json(&["status"]).ok()?;
        (!status["reload"].is_null()).then_some(status)
    })?;
    for said in [
        &told["reload"]["problems"],
        &told["warnings"],
        &world.json(&["listener", "list"])?,
    ] {
        let said = said.to_string();
        ensure!(
            said.contains("Address already in use") && !said.contains("Cannot assign"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn a_daemon_that_drains_says_so() -> Result<()> {
    let mut world = World::started("")?;
    let hello = world.echo_route(NAME, "")?;
    let answers = |world: &World| -> Result<(bool, String)> {
        let output = world.command().arg("status").output()?;
        Ok((output.status.success(), String::from_utf8(output.stdout)?))
    };
    ensure!(answers(&world)? == (true, "serving\n".to_owned()));
    let held = world.open(&hello)??;
    world.daemon().signal(Signal::SIGTERM)?;
    let status = wait_for("it to drain", || {
        let status = world.json(&["status"]).ok()?;
        (!status["draining"].is_null()).then_some(status)
    })?;
    let (since, until) = (
        &status["draining"]["since_unix_s"],
        &status["draining"]["until_unix_s"],
    );
    ensure!(until.as_i64() > since.as_i64(), "{status}");
    ensure!(status["active_connections"] == 1, "{status}");
    let warnings = world.warnings()?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    let shown = world.ctl(&["status"])?;
    ensure!(shown.contains("state        draining since"), "{shown}");
    let listeners = world.ctl(&["listener", "list"])?;
    ensure!(listeners.matches("draining").count() == 2, "{listeners}");
    let said = world.ctl(&["explain", CLIENT])?;
    ensure!(
        said.contains("is not listening: the daemon drains"),
        "{said}"
    );
    let (up, told) = answers(&world)?;
    ensure!(!up && told.starts_with("draining"), "{told}");
    for refused in [
        format!("listener add {NODE}:8443"),
        "listener remove 0.0.0.0:443".to_owned(),
        format!("route disable {NAME}"),
        format!("route add b.example.org --backend {NODE}:1"),
        "upgrade".to_owned(),
    ] {
        let words: Vec<_> = refused.split_whitespace().collect();
        let (code, told) = world.ctl_fails(&words)?;
        ensure!(
            code == 4 && told.contains("the daemon drains"),
            "{refused}: {told}"
        );
    }
    world
        .ctl(&["firewall", "block", "203.0.113.0/24"])
        .context("the firewall goes on without the daemon")?;
    drop(held);
    ensure!(world.daemon().wait_exit()?.success());
    world.start()?;
    let rules = world.ctl(&["firewall", "list"])?;
    ensure!(rules.contains("203.0.113.0/24"), "{rules}");
    world.verified()
}

#[test]
fn a_configuration_is_checked_against_its_machine() -> Result<()> {
    let config = "[geoip]\ndatabase = \"none.mmdb\"\n";
    let world = World::new(config)?;
    let file = world.dir.path().join("mc-proxy.toml");
    let text = fs::read_to_string(&file)?;
    let pins = format!("{:?}", world.pins());
    fs::write(world.dir.path().join("ca.pem"), Ca::new()?.pem())?;
    fs::write(world.dir.path().join("node.token"), "abc")?;
    let mcias = |ca: &str, token: &str| {
        format!(
            "[mcias]\nserver_url = \"https://localhost:1\"\nca_cert = {ca:?}\ntoken_file = {token:?}\n"
        )
    };
    let route = |backend: &str, port: u16| {
        format!(
            "[[listeners]]\naddress = \"0.0.0.0:443\"\n[[routes]]\nhostname = {NAME:?}\nport = {port}\nbackends = [{backend:?}]\n"
        )
    };
    for (description, text, wanted) in [
        (
            "no GeoIP database",
            text.clone(),
            "geoip.database: cannot read",
        ),
        (
            "pins on a disk",
            text.replace(&pins, "\"/tmp/pins\""),
            "firewall.pin_path: /tmp/pins is not on",
        ),
        (
            "no interface",
            text.replace("\"c0\"", "\"c9\""),
            "there is no interface c9",
        ),
        (
            "no CA of MCIAS",
            text.clone() + mcias("none.pem", "node.token").as_str(),
            "[mcias] ca_cert",
        ),
        (
            "no token for MCIAS",
            text.clone() + mcias("ca.pem", "none.token").as_str(),
            "[mcias] token_file: there is no file",
        ),
        (
            "a token that all may read",
            text.clone() + mcias("ca.pem", "node.token").as_str(),
            "[mcias] token_file: others have access",
        ),
        (
            "a route that nobody comes by",
            text.clone() + route("10.9.9.9:443", 8443).as_str(),
            "routes[0].port: no listener is on port 8443",
        ),
        (
            "a certificate that is not there",
            text.clone()
                + route("10.9.9.9:443", 443).as_str()
                + "[routes.l7]\ncertificate = \"none.pem\"\nkey = \"none.key\"\n",
            "routes[0].l7.certificate: ",
        ),
        (
            "a route to the daemon itself",
            text.clone() + route("127.0.0.1:443", 443).as_str(),
            "127.0.0.1:443 is the own listener 0.0.0.0:443",
        ),
        (
            "a level that is none",
            text.clone() + "[log]\nlevel = \"loud\"\n",
            "log.level: \"loud\"",
        ),
        (
            "a duration without a unit",
            text.clone() + "[relay]\nidle_timeout = \"30\"\n",
            "relay.idle_timeout: \"30\": write a duration",
        ),
        (
            "a listener without a port",
            text.clone() + "[[listeners]]\naddress = \"10.9.1.1\"\n",
            "listeners[0].address: \"10.9.1.1\": write an IP address and a port",
        ),
    ] {
        fs::write(&file, text)?;
        let output = world.command().arg("check-config").output()?;
        let told = String::from_utf8(output.stderr)?;
        ensure!(
            !output.status.success() && told.contains(wanted),
            "{description}: {told}"
        );
    }
    fs::write(&file, text.replace(config, ""))?;
    ensure!(world.command().arg("check-config").status()?.success());
    Ok(())
}

#[test]
fn a_backend_that_fails_is_named() -> Result<()> {
    let mut world = World::started("")?;
    let hello = world.echo_route(NAME, "")?;
    // Nobody listens there.
    world.run(&format!("route add {NAME} --backend 10.9.2.2:9 --replace"))?;
    ensure!(world.open(&hello)?.is_err());
    world.daemon().wait_for_output("backend=10.9.2.2:9")?;
    let hint = world.run(&format!(
        "route add {NAME} --port 9443 --backend 10.9.2.2:9"
    ))?;
    ensure!(hint.contains("nothing listens on port 9443"), "{hint}");
    let told = world.warnings()?;
    ensure!(
        told[0].contains("1 route has no listener on port 9443"),
        "{told:?}"
    );
    world.run("listener remove [::]:443")?;
    let told = world.run("listener remove 0.0.0.0:443")?;
    ensure!(told.contains("warning: 1 route has no listener"), "{told}");
    ensure!(world.warnings()?.len() == 2);
    // It is there, elsewhere: a port was forgotten.
    for command in ["remove", "show", "disable"] {
        let (code, told) = world.ctl_fails(&["route", command, NAME, "--port", "444"])?;
        ensure!(
            code == 3 && told.contains("there is one with --port 443, --port 9443"),
            "{command}: {told}"
        );
    }
    Ok(())
}

#[test]
fn the_kernel_is_shown_in_words() -> Result<()> {
    let world = World::started("")?;
    world.run("firewall ban 192.0.2.7 --ttl 1h --action reset")?;
    world.run("firewall block 198.51.100.0/24 --comment noisy")?;
    world.run("firewall rate set connections 50/s --burst 100")?;
    let dump = world.ctl(&["maps", "dump"])?;
    for wanted in [
        "ban by rule 16: reset, 59m",
        "rule 17, a /24: drop",
        "50/s, burst 100: drop",
    ] {
        ensure!(dump.contains(wanted), "{wanted:?} in {dump}");
    }
    ensure!(!dump.contains(" { "), "{dump}");
    let said = world.ctl(&["explain", CLIENT])?;
    ensure!(
        said.contains("below the limit of 50/s, burst 100 per source"),
        "{said}"
    );
    let status = world.json(&["status"])?;
    ensure!(
        status["rules"]["used"] == 2 && status["rules"]["capacity"] == 32_752,
        "{status}"
    );
    let audit = world.ctl(&["audit"])?;
    for wanted in [
        "ban 192.0.2.7/32 reset for 1h",
        "block 198.51.100.0/24 drop \"noisy\"",
    ] {
        ensure!(audit.contains(wanted), "{wanted:?} in {audit}");
    }
    // Its number does not become another's at once.
    world.run("firewall unban 192.0.2.7")?;
    world.run("firewall ban 192.0.2.8")?;
    let rules = world.json(&["firewall", "list", "--kind", "ban"])?;
    ensure!(rules[0]["id"] == 18, "{rules}");
    // And where nothing is filtered, explain says so.
    ensure!(world.json(&["explain", CLIENT])?["unfiltered_interfaces"] == serde_json::json!([]));
    world.ctl(&["detach", "--yes"])?;
    ensure!(world.json(&["explain", CLIENT])?["unfiltered_interfaces"][0] == "c0");
    let warnings = world.warnings()?;
    ensure!(
        warnings
            .iter()
            .any(|w| w.starts_with("interface c0: unfiltered")),
        "{warnings:?}"
    );
    Ok(())
}
