//! What the operator sees and changes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{mmdb, wait_for};
use serde_json::Value;

use crate::world::{CLIENT, World};

const NAME: &str = "control.example.org";

#[test]
fn the_exposition_passes_a_parser_and_has_every_family() -> Result<()> {
    let world = World::started("")?;
    let hello = world.echo_route(NAME, "")?;
    world.ctl(&["firewall", "block", "203.0.113.0/24"])?;
    drop(world.open(&hello)??);
    world.wait_metric("mc_proxy_engine_total", &[NAME], 1.0)?;
    let text = world.metrics()?;
    let parsed = prometheus_parse::Scrape::parse(text.lines().map(|l| Ok(l.to_owned())))?;
    for wanted in [
        "mc_proxy_connections_total",
        "mc_proxy_connections_active",
        "mc_proxy_bytes_total",
        "mc_proxy_client_hello_seconds",
        "mc_proxy_backend_connect_seconds",
        "mc_proxy_engine_total",
        "mc_proxy_backend_connections_total",
        "mc_proxy_firewall_packets_total",
        "mc_proxy_firewall_rule_packets_total",
        "mc_proxy_map_entries",
        "mc_proxy_map_capacity",
        "mc_proxy_listener_up",
        "mc_proxy_scrape_part_up",
    ] {
        ensure!(
            parsed.samples.iter().any(|s| s.metric == wanted),
            "{wanted} is not in\n{text}"
        );
    }
    ensure!(text.contains("le=\"+Inf\""), "{text}");
    ensure!(
        text.trim_end().ends_with("# EOF"),
        "OpenMetrics ends with # EOF"
    );
    Ok(())
}

#[test]
fn rest_over_the_socket_is_grpc_in_another_form() -> Result<()> {
    let world = World::started("")?;
    let socket = world.admin_socket();
    let curl = |more: &[&str], path: &str| -> Result<(u16, Value)> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--write-out", "\n%{http_code}", "--unix-socket"])
            .arg(&socket)
            .args(more)
            .arg(format!("http://mc-proxy{path}"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let (body, status) = text.rsplit_once('\n').context("no status")?;
        Ok((
            status.parse()?,
            serde_json::from_str(body).with_context(|| text.clone())?,
        ))
    };
    let json = ["-H", "Content-Type: application/json", "-d"];
    let route = r#"{"route": {"port": 443, "hostname": "rest.example.org", "mode": "ROUTE_MODE_L4", "enabled": true, "backends": [{"address": "127.0.0.1:9"}]}}"#;
    let (status, made) = curl(&[&json[..], &[route]].concat(), "/v1/routes")?;
    ensure!(
        status == 200 && made["hostname"] == "rest.example.org",
        "{made}"
    );
    let (status, got) = curl(&[], "/v1/routes/443/rest.example.org")?;
    ensure!(status == 200 && got == made, "{got}");
    ensure!(world.ctl(&["route", "list"])?.contains("rest.example.org"));
    let (status, error) = curl(&[&json[..], &[route]].concat(), "/v1/routes")?;
    ensure!(
        status == 409 && error["status"] == "ALREADY_EXISTS",
        "{error}"
    );
    let (status, _) = curl(&["-X", "DELETE"], "/v1/routes/443/rest.example.org")?;
    ensure!(status == 200);
    let (status, error) = curl(&[], "/v1/routes/443/rest.example.org")?;
    ensure!(status == 404 && error["status"] == "NOT_FOUND", "{error}");
    let (status, document) = curl(&[], "/openapi.json")?;
    ensure!(
        status == 200 && document["paths"]["/v1/status"]["get"].is_object(),
        "{document}"
    );
    Ok(())
}

#[test]
fn a_part_that_cannot_be_read_does_not_take_the_others_along() -> Result<()> {
    let world = World::started("")?;
    let part = ["part=\"interfaces\""];
    world.wait_metric("mc_proxy_scrape_part_up", &part, 1.0)?;
    // Where a link should be pinned is a map.
    let map = aya::maps::MapData::from_pin(world.pin("ROUTES"))?;
    map.pin(world.pin("link-lo"))?;
    world.wait_metric("mc_proxy_scrape_part_up", &part, 0.0)?;
    let text = world.metrics()?;
    ensure!(!text.contains("mc_proxy_interface_attached{"), "{text}");
    ensure!(text.contains("mc_proxy_map_entries{"), "{text}");
    ensure!(text.trim_end().ends_with("# EOF"), "{text}");
    ensure!(
        world.log().contains("part=\"interfaces\""),
        "{}",
        world.log()
    );
    Ok(())
}

#[test]
fn the_fill_of_the_sockmap_is_told() -> Result<()> {
    let world = World::started("")?;
    let hello = world.echo_route(NAME, "--engine sockmap")?;
    let used = |n| world.wait_metric("mc_proxy_map_entries", &["map=\"RELAY_DST\""], n);
    used(0.0)?;
    let held = world.open(&hello)??;
    used(2.0)?;
    ensure!(world.ctl(&["status"])?.contains("RELAY_DST"));
    drop(held);
    used(0.0)
}

fn explain(world: &World, args: &[&str]) -> Result<Value> {
    world.json(&[&["explain"], args].concat())
}

/// What `explain` says is what happens.
#[test]
fn explain_agrees_with_what_happens() -> Result<()> {
    let world = World::started("")?;
    world.echo_route(NAME, "")?;
    let check = |description: &str, verdict: &str| -> Result<()> {
        let said = explain(&world, &[CLIENT, "--sni", NAME])?;
        ensure!(said["verdict"] == verdict, "{description}: {said}");
        let happened = world.probe()?;
        ensure!(
            happened == verdict,
            "{description}: {happened}, explain said {verdict}"
        );
        Ok(())
    };
    check("no rule", "pass")?;
    world.ctl(&["firewall", "block", "10.9.0.0/16", "--action", "reset"])?;
    check("a block that resets", "reset")?;
    world.ctl(&["firewall", "unblock", "10.9.0.0/16"])?;
    world.ctl(&["firewall", "block", "10.9.0.0/16", "--action", "drop"])?;
    check("a block that drops", "drop")?;
    world.ctl(&["firewall", "allow", CLIENT])?;
    check("allow wins over block", "pass")?;
    world.ctl(&["firewall", "ban", CLIENT, "--ttl", "1h"])?;
    check("allow wins over ban", "pass")?;
    world.ctl(&["firewall", "disallow", CLIENT])?;
    world.ctl(&["firewall", "unblock", "10.9.0.0/16"])?;
    check("the ban alone", "drop")?;
    world.ctl(&["firewall", "unban", CLIENT])?;
    world.ctl(&["firewall", "block", CLIENT, "--action", "observe"])?;
    check("observed only", "pass")?;
    let rules = world.json(&["firewall", "list"])?.to_string();
    ensure!(
        rules.contains(CLIENT) && rules.contains("observe"),
        "{rules}"
    );
    world.ctl(&["firewall", "unblock", CLIENT])?;
    world.ctl(&["firewall", "block", "203.0.113.0/24", "--action", "observe"])?;
    let rules = world.json(&["firewall", "list"])?.to_string();
    ensure!(!rules.contains(CLIENT), "{rules}");
    Ok(())
}

#[test]
fn a_ban_ends_by_itself() -> Result<()> {
    let world = World::started("")?;
    world.ctl(&["firewall", "ban", CLIENT, "--ttl", "2s"])?;
    ensure!(explain(&world, &[CLIENT])?["verdict"] == "drop");
    wait_for("the ban to end", || {
        (explain(&world, &[CLIENT]).ok()?["verdict"] == "pass").then_some(())
    })?;
    wait_for("the rule to be swept", || {
        (!world.ctl(&["firewall", "list"]).ok()?.contains(CLIENT)).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_country_is_blocked_by_one_command_and_the_database_reloads() -> Result<()> {
    let mut world = World::new("[geoip]\ndatabase = \"geo.mmdb\"\n")?;
    let path = world.dir.path().join("geo.mmdb");
    std::fs::write(
        &path,
        mmdb::small(&[("10.9.1.0/24", "DE"), ("fd09:1::/32", "US")]),
    )?;
    world.start()?;
    world.ctl(&["listener", "add", "0.0.0.0:443"])?;
    let verdict = |args: &[&str]| -> Result<Value> { explain(&world, args) };
    let said = verdict(&[CLIENT])?;
    ensure!(
        said["country"] == "DE" && said["verdict"] == "pass",
        "{said}"
    );
    world.ctl(&["firewall", "country", "block", "DE", "--action", "reset"])?;
    ensure!(verdict(&[CLIENT])?["verdict"] == "reset");
    ensure!(
        world.probe()? == "reset",
        "the kernel looks the country up alike"
    );
    world.ctl(&["firewall", "country", "allow", "DE"])?;
    ensure!(verdict(&[CLIENT])?["verdict"] == "pass");
    world.ctl(&["firewall", "country", "allow", "AT", "--only"])?;
    ensure!(verdict(&[CLIENT])?["verdict"] == "drop", "only Austria may");
    ensure!(
        verdict(&["192.0.2.1"])?["verdict"] == "drop",
        "and the unknown may not"
    );
    std::fs::write(&path, b"no database at all")?;
    wait_for("the broken file to be refused", || {
        let status = world.json(&["status"]).ok()?;
        (!status["geoip"]["error"].as_str()?.is_empty()).then_some(())
    })?;
    ensure!(
        verdict(&[CLIENT])?["country"] == "DE",
        "the table before it stays in force"
    );
    std::fs::write(&path, mmdb::small(&[("10.9.1.0/24", "AT")]))?;
    wait_for("the new file to be loaded", || {
        (verdict(&[CLIENT]).ok()?["verdict"] == "pass").then_some(())
    })?;
    Ok(())
}

/// `maps dump` without the counters: packets of the kernel's own, such as neighbour discovery, come at any time.
fn rules_in_kernel(world: &World) -> Result<Vec<Value>> {
    // As JSON: the columns of a table are as wide as their widest row.
    let mut rows = world.json(&["maps", "dump"])?;
    let rows = rows.as_array_mut().context("a list")?;
    rows.retain(|row| row["map"] != "VERDICTS");
    Ok(std::mem::take(rows))
}

#[test]
fn bad_requests_say_what_and_change_nothing() -> Result<()> {
    let world = World::started("")?;
    let before = rules_in_kernel(&world)?;
    for (description, args, code, wanted) in [
        (
            "a route that is not there",
            vec!["route", "remove", "nobody.example.org", "--port", "443"],
            3,
            "nobody.example.org",
        ),
        (
            "a route without a backend",
            vec!["route", "add", "a.example.org", "--port", "443"],
            2,
            "backend",
        ),
        (
            "a hostname that is none",
            vec![
                "route",
                "add",
                "bad-.example.org",
                "--port",
                "443",
                "--backend",
                "10.0.0.1:1",
            ],
            2,
            "bad-.example.org",
        ),
        (
            "an address in use",
            vec!["listener", "add", "0.0.0.0:443"],
            5,
            "443",
        ),
        (
            "an address of another machine",
            vec!["listener", "add", "192.0.2.1:443"],
            5,
            "192.0.2.1:443",
        ),
        (
            "a ban of a network",
            vec!["firewall", "ban", "192.0.2.0/24", "--ttl", "1m"],
            2,
            "192.0.2.0/24",
        ),
        (
            "a map that is not there",
            vec!["maps", "dump", "nope"],
            2,
            "ROUTES, HOSTS4",
        ),
        (
            "no country",
            vec!["firewall", "country", "block", "QZ"],
            2,
            "QZ",
        ),
        (
            "a rule that is not there",
            vec!["firewall", "unblock", "192.0.2.1"],
            3,
            "192.0.2.1",
        ),
    ] {
        let (got, complaint) = world.ctl_fails(&args)?;
        ensure!(complaint.contains(wanted), "{description}: {complaint}");
        ensure!(got == code, "{description}: exit {got}, {complaint}");
    }
    ensure!(rules_in_kernel(&world)? == before, "nothing changed");
    world.verified()
}

#[test]
fn the_socket_is_the_owners_alone_and_a_root_has_one_daemon() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::started("")?;
    let mode = std::fs::metadata(world.dir.path().join("admin.sock"))?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let second = world
        .command()
        .arg("server")
        .output()
        .context("mc-proxy runs")?;
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(
        !second.status.success() && complaint.contains("another mc-proxy runs"),
        "{complaint}"
    );
    world.json(&["status"]).context("the first goes on")?;
    // Somebody else, even with the socket's permissions opened, is refused by peer credentials.
    let socket = world.dir.path().join("admin.sock");
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o755))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
    let ctl = world.dir.path().join("mcproxyctl");
    std::fs::copy(env!("CARGO_BIN_EXE_mcproxyctl"), &ctl)?;
    std::fs::set_permissions(&ctl, std::fs::Permissions::from_mode(0o755))?;
    let other = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&ctl)
        .arg("--socket")
        .arg(&socket)
        .arg("status")
        .output()?;
    ensure!(!other.status.success(), "nobody was let in: {other:?}");
    world.daemon().wait_for_output("admin connection refused")?;
    Ok(())
}
