//! Ten thousand routes and ten thousand rules.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::ca::{Ca, KeyExchange};

use crate::{clients::client_hello, world::World};

const COUNT: usize = 10_000;

#[test]
fn ten_thousand_routes_and_rules() -> Result<()> {
    let mut config = String::new();
    for n in 0..COUNT {
        writeln!(
            config,
            "[[routes]]\nhostname = \"host{n}.example.org\"\nport = 443\nbackends = [\"10.9.2.2:1\"]"
        )?;
        writeln!(
            config,
            "[[rules]]\nkind = \"block\"\ncidr = \"172.{}.{}.0/24\"",
            16 + n / 256,
            n % 256
        )?;
    }
    let world = World::started(&config)?;
    ensure!(
        world
            .json(&["route", "list"])?
            .to_string()
            .matches("host")
            .count()
            >= COUNT
    );
    let hello = client_hello(
        &Ca::new()?,
        "host9999.example.org",
        KeyExchange::PostQuantum,
    )?;
    let backend = world.echo(hello.len())?.to_string();
    world.run(&format!(
        "route add host9999.example.org --port 443 --replace --backend {backend}"
    ))?;
    world.open(&hello)?.context("the last of them routes")?;
    for (address, verdict) in [
        ("172.16.0.9", "drop"),
        ("172.55.15.200", "drop"),
        ("172.55.16.1", "pass"),
        ("172.15.255.1", "pass"),
    ] {
        let said = world.json(&["explain", address])?;
        ensure!(said["verdict"] == verdict, "{address}: {said}");
    }
    world.verified()
}
