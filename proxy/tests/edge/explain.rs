//! `explain` beyond the firewall: listeners, PROXY headers, routes that are full.

use anyhow::{Context as _, Result, ensure};

use crate::world::{CLIENT, World};

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
