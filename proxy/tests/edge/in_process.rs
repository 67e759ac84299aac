//! The daemon in this process: what cannot be done to a machine's clock and kernel is done to the database and the maps
//! behind its back.

use std::{
    fs,
    future::pending,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use mc_proxy::{
    config::{Config, Raw},
    firewall::Change,
    hostname::Hostname,
    spec::{Action, Listener, Route, RouteId, Rule, RuleKind},
    store::Actor,
};
use mc_testkit::wait_for_async;
use tempfile::TempDir;

struct Daemon {
    handle: mc_proxy::Handle,
    dir: TempDir,
    _pins: Pins,
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Filters nothing and listens nowhere.
async fn daemon(name: &str) -> Result<Daemon> {
    let dir = tempfile::tempdir()?;
    let pins = Pins(format!("/sys/fs/bpf/mc-in-process-{}-{name}", std::process::id()).into());
    let raw: Raw = toml::from_str(&format!("[firewall]\npin_path = {:?}", pins.0))?;
    let config = Config::check(raw, &dir.path().join("mc-proxy.toml"), dir.path())?;
    Ok(Daemon {
        handle: mc_proxy::start(config).await?,
        dir,
        _pins: pins,
    })
}

fn ban(cidr: &str, ttl: Duration) -> Result<Rule> {
    let created = SystemTime::now();
    Ok(Rule {
        id: 0,
        kind: RuleKind::Ban,
        cidr: cidr.parse()?,
        action: Action::Drop,
        expires: Some(created + ttl),
        comment: String::new(),
        created,
    })
}

impl Daemon {
    /// Addresses that rules name, and those that the kernel denies.
    fn banned(&self) -> Result<(Vec<String>, Vec<String>)> {
        let control = self.handle.control();
        let rules = control.rules()?;
        let entries = control.dump("HOSTS4")?;
        Ok((
            rules.iter().map(|r| r.rule.cidr.to_string()).collect(),
            entries.into_iter().map(|e| e.key).collect(),
        ))
    }

    /// Until rules and kernel hold nothing else.
    async fn only(&self, addresses: &[&str]) -> Result<()> {
        let wanted: Vec<_> = addresses.iter().map(|a| format!("{a}/32")).collect();
        wait_for_async(&format!("only {addresses:?} to be banned"), async || {
            let (rules, kernel) = self.banned().ok()?;
            (rules == wanted && kernel == addresses).then_some(())
        })
        .await
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_ends_no_ban() -> Result<()> {
    let daemon = daemon("clock").await?;
    let control = daemon.handle.control();
    let by = Actor::daemon("test");
    control.add_rules(&by, &[ban("192.0.2.1/32", HOUR)?], false)?;
    // To the wall clock its end is long past, as after a jump of it; to the kernel's it is to come.
    let db = rusqlite::Connection::open(daemon.dir.path().join("mc-proxy.db"))?;
    let moved = db.execute("UPDATE rules SET expires_unix_ms = 1000", [])?;
    ensure!(moved == 1);
    drop(db);
    control.add_rules(&by, &[ban("192.0.2.2/32", SOON)?], false)?;
    daemon
        .only(&["192.0.2.1"])
        .await
        .context("the sweep that ends the second ban leaves the first")?;
    daemon.handle.stop(pending()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_sweep_has_left_is_swept_again() -> Result<()> {
    let daemon = daemon("left").await?;
    let control = daemon.handle.control();
    let by = Actor::daemon("test");
    control.add_rules(&by, &[ban("192.0.2.1/32", HOUR)?], false)?;
    // In the maps, and no longer in the database.
    let left = Rule {
        id: 99,
        ..ban("192.0.2.3/32", SOON)?
    };
    control.firewall.apply(&[Change::Set(left)])?;
    daemon.only(&["192.0.2.1"]).await?;
    let (differences, _) = control.verify(false)?;
    ensure!(differences.is_empty(), "{differences:?}");
    daemon.handle.stop(pending()).await;
    Ok(())
}

/// Its sockets are the workers', and each closes its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_listener_is_gone_when_that_is_told() -> Result<()> {
    const ROUNDS: usize = 100;
    let daemon = daemon("listener").await?;
    let control = daemon.handle.control();
    let by = Actor::daemon("test");
    // Of this process alone, and no port that the kernel gives to a client.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, high, low, 77], 31_077));
    let listener = Listener {
        id: 0,
        address,
        trusted_proxies: Vec::new(),
        redirect: None,
        guarded: true,
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // As housekeeping does each second; it must not bind what is about to be bound.
        scope.spawn(|| {
            while !done.load(Relaxed) {
                control.listeners.retry();
            }
        });
        let changed = (0..ROUNDS).try_for_each(|round| {
            let added = control.add_listener(&by, &listener);
            added.with_context(|| format!("round {round}: the address is free"))?;
            control.remove_listener(&by, address)?;
            ensure!(TcpStream::connect(address).is_err(), "round {round}");
            Ok(())
        });
        done.store(true, Relaxed);
        changed
    })?;
    daemon.handle.stop(pending()).await;
    Ok(())
}

fn route(name: &str, backends: &[&str]) -> Result<Route> {
    let parsed: Result<_, _> = backends.iter().map(|b| b.parse()).collect();
    Ok(Route {
        id: 0,
        key: RouteId {
            port: 443,
            hostname: name.parse()?,
        },
        backends: parsed?,
        engine: None,
        enabled: true,
        send_proxy: false,
        connect_timeout: None,
        idle_timeout: None,
        max_age: None,
        max_connections: None,
        l7: None,
    })
}

/// Between the kernel's table and the live state there is an instant in which they differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_progress_is_no_divergence() -> Result<()> {
    const CHANGES: usize = 20_000;
    const NAME: &str = "busy.example.org";
    let daemon = daemon("busy").await?;
    let router = &daemon.handle.control().context.router;
    let routes = [
        Route {
            id: 7,
            ..route(NAME, &["192.0.2.1:1"])?
        },
        Route {
            id: 7,
            ..route(NAME, &["192.0.2.2:1", "192.0.2.3:1"])?
        },
        Route {
            id: 8,
            ..route(NAME, &["192.0.2.4:1"])?
        },
    ];
    router.set(routes[0].clone(), None)?;
    let (name, done): (Hostname, _) = (NAME.parse()?, AtomicBool::new(false));
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            while !done.load(Relaxed) {
                if let Err(miss) = router.find(443, &name) {
                    return Err(anyhow::anyhow!("{miss:?}"));
                }
            }
            Ok(())
        });
        let changed = routes
            .iter()
            .cycle()
            .take(CHANGES)
            .try_for_each(|route| router.set(route.clone(), None).map(drop));
        done.store(true, Relaxed);
        looking
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
        anyhow::Ok(changed?)
    })?;
    daemon.handle.stop(pending()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_differing_routes_are_told_and_repaired() -> Result<()> {
    const COUNT: usize = 10_000;
    let daemon = daemon("routes").await?;
    let table = &daemon.handle.control().context.router.table;
    let of = |kind: &str, backend: &str| -> Result<Vec<Route>> {
        (0..COUNT)
            .map(|n| route(&format!("{kind}{n}.example.org"), &[backend]))
            .collect()
    };
    // The kernel has one half otherwise, another that it should not have, and a third not at all.
    for route in of("changed", "192.0.2.1:1")?
        .iter()
        .chain(&of("stale", "192.0.2.1:1")?)
    {
        table.insert(route)?;
    }
    let wanted = [of("changed", "192.0.2.2:1")?, of("missing", "192.0.2.2:1")?].concat();
    let told = table.verify(wanted.iter(), true)?;
    ensure!(told.len() == 3 * COUNT, "{}", told.len());
    let left = table.verify(wanted.iter(), false)?;
    ensure!(left.is_empty(), "{left:?}");
    daemon.handle.stop(pending()).await;
    Ok(())
}
