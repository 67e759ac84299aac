//! Connection limits, retries, choice of backends, slow clients.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::ca::{Ca, KeyExchange};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    clients::client_hello,
    world::{BACKEND, CLIENT, NODE, NODE6, World},
};

const NAME: &str = "limits.example.org";

/// Opens a connection and waits for the backend's "!".
pub(crate) async fn open(hello: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((NODE, 443)).await?;
    stream.write_all(hello).await?;
    stream.read_exact(&mut [0; 1]).await?;
    Ok(stream)
}

impl World {
    /// [`open`] from the client's namespace.
    pub(crate) fn open(&self, hello: &[u8]) -> Result<io::Result<TcpStream>> {
        let hello = hello.to_vec();
        Ok(self
            .client_runtime
            .block_on(self.client_runtime.spawn(async move { open(&hello).await }))?)
    }
}

/// An address of the backend's namespace where nothing listens.
fn refusing(world: &World) -> Result<SocketAddr> {
    let (listener, address) = world.listen()?;
    drop(listener);
    Ok(address)
}

#[test]
fn a_route_takes_no_more_than_its_limit() -> Result<()> {
    let world = World::started("")?;
    let hello = world.echo_route(NAME, "--max-connections 2")?;
    let first = world.open(&hello)??;
    let _second = world.open(&hello)??;
    let third = world.open(&hello)?;
    ensure!(third.is_err(), "a third connection is reset");
    world.wait_metric("mc_proxy_errors_total", &["max_connections"], 1.0)?;
    drop(first);
    world.wait_metric("mc_proxy_connections_active", &[NAME], 1.0)?;
    let _third = world.open(&hello)?.context("a place is free again")?;
    Ok(())
}

#[test]
fn one_source_holds_no_more_than_its_share() -> Result<()> {
    let world = World::started("[server]\nmax_connections_per_source = 2\n")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let backend = world.echo(hello.len())?.to_string();
    world.ctl(&["route", "add", NAME, "--port", "443", "--backend", &backend])?;
    let first = world.open(&hello)??;
    // One that says nothing counts as well.
    let silent = world
        .client_runtime
        .block_on(world.client_runtime.spawn(TcpStream::connect((NODE, 443))))??;
    world.wait_metric(
        "mc_proxy_listener_connections_active",
        &["0.0.0.0:443"],
        2.0,
    )?;
    ensure!(world.open(&hello)?.is_err(), "a third connection is reset");
    world.wait_metric(
        "mc_proxy_denied_total",
        &["max_connections_per_source"],
        1.0,
    )?;
    drop((first, silent));
    world.wait_metric(
        "mc_proxy_listener_connections_active",
        &["0.0.0.0:443"],
        0.0,
    )?;
    let _fourth = world.open(&hello)?.context("its places are free again")?;
    Ok(())
}

#[test]
fn one_source_does_not_hold_all_whatever_the_limit() -> Result<()> {
    let world = World::started("[server]\nmax_connections = 20\n")?;
    let hello = world.echo_route(NAME, "")?;
    let _open = (world.open(&hello)??, world.open(&hello)??);
    ensure!(world.open(&hello)?.is_err(), "a third of 20 is reset");
    let full = |warnings: &[String]| {
        warnings
            .iter()
            .any(|w| w.contains("are open: new ones wait"))
    };
    ensure!(!full(&world.warnings()?), "18 are left");
    Ok(())
}

#[test]
fn that_all_places_are_taken_is_told() -> Result<()> {
    let config = "[server]\nmax_connections = 1\nmax_connections_per_source = 1\n";
    let world = World::started(config)?;
    let hello = world.echo_route(NAME, "")?;
    let _open = world.open(&hello)??;
    let warnings = world.warnings()?;
    for wanted in [
        "all 1 connections of server.max_connections are open",
        "one source may hold all connections",
    ] {
        let told = warnings.iter().any(|w| w.contains(wanted));
        ensure!(told, "{wanted}: {warnings:?}");
    }
    let explained = world.ctl(&["explain", CLIENT, "--sni", NAME])?;
    ensure!(
        explained.contains("waits") && explained.contains("max-connections "),
        "{explained}"
    );
    Ok(())
}

#[test]
fn every_listener_serves_up_to_the_limit() -> Result<()> {
    let world = World::started("[server]\nmax_connections = 1\n")?;
    let hello = world.echo_route(NAME, "")?;
    let open = |node: &'static str| {
        let hello = hello.clone();
        world.client_runtime.spawn(async move {
            let mut stream = TcpStream::connect((node, 443)).await?;
            stream.write_all(&hello).await?;
            stream.read_exact(&mut [0; 1]).await?;
            io::Result::Ok(stream)
        })
    };
    let mut before = None;
    for (n, node) in [NODE, NODE6, NODE, NODE6, NODE6].into_iter().enumerate() {
        // It waits, and is served once the one before has ended.
        let next = open(node);
        drop(before.take());
        let served = async { tokio::time::timeout(mc_testkit::DEADLINE, next).await };
        let served = world.client_runtime.block_on(served);
        before = Some(served.with_context(|| format!("connection {n}, to {node}"))???);
    }
    Ok(())
}

#[test]
fn a_backend_that_refuses_or_hangs_is_passed_over() -> Result<()> {
    let world = World::started("[relay]\nconnect_timeout = \"500ms\"\n")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::PostQuantum)?;
    let good = world.echo(hello.len())?.to_string();
    let refusing = refusing(&world)?.to_string();
    // Nobody has this address: ARP goes unanswered and the connect hangs until its timeout.
    let hanging = "10.9.2.99:443";
    world.run(&format!(
        "route add {NAME} --port 443 --backend {refusing} --backend {hanging} --backend {good}"
    ))?;
    for n in 0..6 {
        world
            .open(&hello)?
            .with_context(|| format!("connection {n} found the good backend\n{}", world.log()))?;
    }
    let shown = world
        .json(&["route", "show", NAME, "--port", "443"])?
        .to_string();
    ensure!(
        world.metric("mc_proxy_backend_connect_failures_total", &[&refusing])? > 0.0,
        "{shown}"
    );
    ensure!(
        world.metric("mc_proxy_backend_connect_failures_total", &[hanging])? > 0.0,
        "{shown}"
    );
    ensure!(
        world.metric("mc_proxy_backend_connections_total", &[&good])? > 5.5,
        "{shown}"
    );

    world.run(&format!(
        "route add {NAME} --port 443 --replace --backend {refusing}"
    ))?;
    ensure!(world.open(&hello)?.is_err(), "no backend is left: reset");
    world.wait_metric("mc_proxy_errors_total", &["backend_refused"], 1.0)?;
    Ok(())
}

#[test]
fn the_backend_with_the_fewest_connections_is_next() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let backends = [
        world.echo(hello.len())?.to_string(),
        world.echo(hello.len())?.to_string(),
    ];
    world.run(&format!(
        "route add {NAME} --port 443 --backend {} --backend {}",
        backends[0], backends[1]
    ))?;
    let open: Vec<_> = (0..10)
        .map(|_| world.open(&hello)?.map_err(Into::into))
        .collect::<Result<_>>()?;
    for backend in &backends {
        let count = world.metric("mc_proxy_backend_connections_total", &[backend])?;
        ensure!(
            (4.5..5.5).contains(&count),
            "{backend} has {count} of {}",
            open.len()
        );
    }
    Ok(())
}

/// Resident memory of the daemon, KiB.
fn resident(world: &World) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid()))?;
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS:"))
        .context("VmRSS is there")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("VmRSS has a value")?
        .parse()?)
}

#[test]
fn slow_clients_cost_little_memory_and_no_thread() -> Result<()> {
    const CLIENTS: usize = 2000;
    let config =
        "[relay]\nclient_hello_timeout = \"60s\"\n[server]\nmax_connections_per_source = 3000\n";
    let world = World::started(config)?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::PostQuantum)?;
    let threads = || -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/task", world.pid()))?.count())
    };
    let (memory_before, threads_before) = (resident(&world)?, threads()?);
    let mut opening = JoinSet::new();
    for _ in 0..CLIENTS {
        let half = hello[..hello.len() / 2].to_vec();
        opening.spawn_on(
            async move {
                let mut stream = TcpStream::connect((NODE, 443)).await?;
                for byte in half.chunks(64) {
                    stream.write_all(byte).await?;
                }
                io::Result::Ok(stream)
            },
            world.client_runtime.handle(),
        );
    }
    let held: Vec<_> = world
        .client_runtime
        .block_on(opening.join_all())
        .into_iter()
        .collect::<Result<_, _>>()?;
    world.wait_metric(
        "mc_proxy_listener_connections_active",
        &["0.0.0.0:443"],
        CLIENTS as f64,
    )?;
    let grown = resident(&world)?.saturating_sub(memory_before);
    // 16 KiB is the bound of a ClientHello; half of a post-quantum one must not reserve it.
    ensure!(
        grown / (CLIENTS as u64) < 16,
        "{grown} KiB for {CLIENTS} slow clients"
    );
    // Blocking-pool threads of the admin API come and go; none is per client.
    ensure!(
        threads()? < threads_before + 50,
        "{} threads, {threads_before} before",
        threads()?
    );
    drop(held);
    Ok(())
}

#[test]
fn connections_on_other_routes_do_not_notice_changes() -> Result<()> {
    let world = World::started("")?;
    let hello = world.echo_route(NAME, "")?;
    let mut stream = world.open(&hello)??;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let pinging = world.client_runtime.spawn(async move {
        let mut rounds = 0_u32;
        while stopped.try_recv().is_err() {
            stream.write_all(b"ping").await?;
            tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut [0; 4])).await??;
            rounds += 1;
        }
        io::Result::Ok(rounds)
    });
    for n in 0..10 {
        let other = format!("other{n}.example.org");
        world.run(&format!(
            "route add {other} --port 443 --backend {BACKEND}:{}",
            1000 + n
        ))?;
        world.ctl(&["route", "disable", &other, "--port", "443"])?;
        world.ctl(&["firewall", "block", &format!("203.0.113.{n}")])?;
        world.ctl(&["route", "remove", &other, "--port", "443"])?;
    }
    // Its own route goes as well: a connection in progress stays.
    world.ctl(&["route", "remove", NAME, "--port", "443"])?;
    ensure!(
        world.open(&hello)?.is_err(),
        "a new connection finds no route"
    );
    stop.send(())
        .ok()
        .context("the connection lived until the end")?;
    let rounds = world.client_runtime.block_on(pinging)??;
    ensure!(rounds > 0, "no round trip was made");
    Ok(())
}
