//! `explain` beyond the firewall: listeners, PROXY headers, routes that are full.

use anyhow::{Context as _, Result, ensure};

use crate::world::{CLIENT, NODE, World};

const NAME: &str = "explain.example.org";

/// What is asked, and the verdict, the reason and some of the text that must come.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a str, &'a str);

fn check(world: &World, rows: &[Row<'_>]) -> Result<()> {
    for (description, args, verdict, reason, text) in rows {
        let said = world.json(&[&["explain"], *args].concat())?;
        ensure!(
            said["verdict"] == *verdict
                && said["reason"] == *reason
                && said.to_string().contains(text),
            "{description}: {said}"
        );
        let shown = world.ctl(&[&["explain"], *args].concat())?;
        ensure!(
            shown.contains(&format!("verdict: {verdict} ({reason})")),
            "{description}: {shown}"
        );
    }
    Ok(())
}

#[test]
fn proxies_and_ports_without_a_listener() -> Result<()> {
    let world = World::started("")?;
    let proxies = format!("{CLIENT}/32");
    world.ctl(&["listener", "add", "0.0.0.0:8443", "--proxy-from", &proxies])?;
    let route = ["route", "add", NAME, "--backend", "10.9.2.2:1", "--port"];
    for port in ["443", "8443"] {
        world.ctl(&[&route[..], &[port]].concat())?;
    }
    world.ctl(&["firewall", "block", "203.0.113.0/24"])?;
    let here = ["--port", "8443", "--sni", NAME];
    let ask = |args: &[&'static str]| [args, &here[..]].concat();
    check(
        &world,
        &[
            (
                "not a proxy",
                &ask(&["192.0.2.1"]),
                "reset",
                "proxy_untrusted",
                &proxies,
            ),
            (
                "a proxy itself",
                &ask(&[CLIENT]),
                "pass",
                "no-match",
                "10.9.2.2:1",
            ),
            (
                "its client",
                &ask(&["192.0.2.1", "--via", CLIENT]),
                "pass",
                "no-match",
                "names 192.0.2.1",
            ),
            (
                "its blocked client",
                &ask(&["203.0.113.1", "--via", CLIENT]),
                "drop",
                "block",
                "203.0.113.1",
            ),
            (
                "through a blocked one",
                &ask(&["192.0.2.1", "--via", "203.0.113.1"]),
                "drop",
                "block",
                "a /24",
            ),
            (
                "through another",
                &ask(&["192.0.2.1", "--via", "192.0.2.2"]),
                "reset",
                "proxy_untrusted",
                &proxies,
            ),
            (
                "a header for no one",
                &["192.0.2.1", "--via", CLIENT],
                "reset",
                "not_tls",
                "no PROXY header",
            ),
            (
                "no listener",
                &["192.0.2.1", "--port", "444"],
                "reset",
                "connection_refused",
                "none on port 444",
            ),
            (
                "only IPv4",
                &["2001:db8::1", "--port", "8443"],
                "reset",
                "connection_refused",
                "other family",
            ),
            ("no name", &["192.0.2.1"], "pass", "no-match", "--sni"),
            (
                "no route",
                &["192.0.2.1", "--sni", "a.example.org"],
                "reset",
                "unknown_sni",
                "no route on port 443",
            ),
        ],
    )?;
    // The client's rules hold behind a proxy, where XDP does not judge by country and rate.
    world.ctl(&["firewall", "country", "block", "??", "--action", "reset"])?;
    let asked = ask(&["192.0.2.1", "--via", CLIENT]);
    check(
        &world,
        &[("its country", &asked, "reset", "country", "??: reset")],
    )?;
    world.ctl(&["listener", "remove", "0.0.0.0:8443"])?;
    check(
        &world,
        &[(
            "removed",
            &ask(&[CLIENT]),
            "reset",
            "connection_refused",
            "none on port 8443",
        )],
    )
}

#[test]
fn a_full_route() -> Result<()> {
    let world = World::started("")?;
    let hello = world.echo_route(NAME, "--max-connections 1")?;
    let asked = [CLIENT, "--sni", NAME];
    check(
        &world,
        &[("room", &asked, "pass", "no-match", "0 of 1 are open")],
    )?;
    let held = world.open(&hello)??;
    check(
        &world,
        &[(
            "full",
            &asked,
            "reset",
            "max_connections",
            "1 of 1 connections",
        )],
    )?;
    ensure!(world.open(&hello)?.is_err(), "and so it is");
    drop(held);
    world.wait_metric("mc_proxy_connections_active", &[NAME], 0.0)?;
    check(
        &world,
        &[("room again", &asked, "pass", "no-match", "0 of 1 are open")],
    )?;
    world.ctl(&["route", "disable", NAME])?;
    check(
        &world,
        &[("disabled", &asked, "reset", "route_disabled", "is disabled")],
    )
}

#[test]
fn a_source_that_holds_its_share() -> Result<()> {
    let world = World::started("[server]\nmax_connections_per_source = 1\n")?;
    let hello = world.echo_route(NAME, "")?;
    let proxied = ["listener", "add", "0.0.0.0:8443", "--proxy-from"];
    world.ctl(&[&proxied[..], &[CLIENT]].concat())?;
    let ask = [CLIENT, "--sni", NAME];
    let free: Row<'_> = ("none open", &ask, "pass", "no-match", "0 of 1");
    check(&world, &[free])?;
    let open = world.open(&hello)?.context("it is served")?;
    let full = "its source holds 1 of 1";
    let name = "max_connections_per_source";
    let via = [CLIENT, "--via", CLIENT, "--port", "8443"];
    let other = ["192.0.2.1", "--via", CLIENT, "--port", "8443"];
    check(
        &world,
        &[
            ("one open", &ask, "reset", name, full),
            ("behind a proxy", &via, "reset", name, full),
            ("another behind it", &other, "pass", "no-match", "0 of 1"),
        ],
    )?;
    drop(open);
    world.wait_metric(
        "mc_proxy_listener_connections_active",
        &["0.0.0.0:443"],
        0.0,
    )?;
    check(&world, &[free])
}

#[test]
fn a_listener_that_redirects() -> Result<()> {
    let world = World::started("")?;
    world.run("listener add 0.0.0.0:80 --redirect")?;
    world.run("listener add 0.0.0.0:81 --redirect 8443")?;
    for (port, name) in [
        ("443", NAME),
        ("8443", "*.example.org"),
        ("443", "off.example.org"),
    ] {
        world.run(&format!(
            "route add {name} --port {port} --backend 10.9.2.2:1"
        ))?;
    }
    world.run("route disable off.example.org")?;
    // What is asked on which port, and what curl is answered: status and location.
    for (name, port, status, location, reason) in [
        (NAME, 80, 308, "https://explain.example.org/", "no-match"),
        ("a.example.org", 80, 404, "", "redirect_unknown_host"),
        ("off.example.org", 80, 404, "", "redirect_unknown_host"),
        (
            "a.example.org",
            81,
            308,
            "https://a.example.org:8443/",
            "no-match",
        ),
    ] {
        let host = format!("Host: {name}");
        let url = format!("http://{NODE}:{port}/");
        let told = "%{http_code} %{redirect_url}";
        let asked = ["-sS", "-o", "/dev/null", "-w", told, "-H", &host, &url];
        let answer = world.client_command("curl", &asked)?;
        ensure!(
            String::from_utf8_lossy(&answer.stdout) == format!("{status} {location}"),
            "{name}: {answer:?}"
        );
        let port = port.to_string();
        let args = ["explain", CLIENT, "--sni", name, "--port", &port];
        let said = world.json(&args)?;
        ensure!(
            said["verdict"] == "pass"
                && said["reason"] == reason
                && said["http_status"] == status
                && said["location"].as_str().unwrap_or_default() == location,
            "{name}: {said}"
        );
        let shown = world.ctl(&args)?;
        let wanted = format!("answer: {status} to {location}");
        let wanted = wanted.strip_suffix(" to ").unwrap_or(&wanted);
        ensure!(
            shown.contains(wanted) && !shown.contains("reset"),
            "{shown}"
        );
    }
    let said = world.json(&["explain", CLIENT, "--port", "80"])?;
    ensure!(
        said["verdict"] == "pass" && said["http_status"].is_null(),
        "{said}"
    );
    Ok(())
}

#[test]
fn rules_that_are_not_in_force() -> Result<()> {
    let world = World::started("")?;
    world.run(&format!("firewall block {CLIENT}"))?;
    let asked = [CLIENT];
    let blocked: Row<'_> = ("in force", &asked, "drop", "block", "block by rule 16");
    check(&world, &[blocked])?;
    let said = world.json(&["explain", CLIENT])?;
    ensure!(said["rules_not_in_force"].is_null(), "{said}");
    ensure!(said["steps"][0]["rule_id"] == 16, "{said}");
    world.ctl(&["detach", "--yes"])?;
    ensure!(world.probe()? == "pass");
    let off: Row<'_> = ("detached", &asked, "pass", "unfiltered", "would say drop");
    check(&world, &[off])?;
    let said = world.json(&["explain", CLIENT])?;
    ensure!(
        said["rules_not_in_force"]["verdict"] == "drop"
            && said["rules_not_in_force"]["reason"] == "block",
        "{said}"
    );
    let shown = world.ctl(&["explain", CLIENT])?;
    ensure!(
        shown.contains("would say: drop (block)") && !shown.contains("verdict: drop"),
        "{shown}"
    );
    Ok(())
}
