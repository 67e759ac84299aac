//! Active checks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use anyhow::{Context as _, Result, ensure};
use tonic_health::ServingStatus;

use super::{CHECK, NAME, Site, Speaks, backend::Backend};

/// What is done to a backend, and undone.
enum Harm {
    Kill,
    /// A bad answer, then a good one.
    Answer(u16, u16),
}

#[test]
fn each_kind_of_check_goes_down_and_up_again() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let path = "http --health-path /health";
    for (check, speaks, harm, why) in [
        ("tcp", Speaks::Http1, Harm::Kill, "connect refused"),
        ("tcp", Speaks::H2, Harm::Kill, "connect refused"),
        (path, Speaks::Http1, Harm::Answer(503, 204), "http 503"),
        (path, Speaks::H2c, Harm::Answer(404, 302), "http 404"),
        (path, Speaks::H2, Harm::Answer(500, 200), "http 500"),
        (path, Speaks::Http1, Harm::Kill, "connect refused"),
    ] {
        let mut backend = Backend::start(&site, speaks)?;
        let protocol = site.protocol(speaks);
        let address = backend.address;
        site.route(&format!(
            "--backend {address} {protocol} --health {check} {CHECK}"
        ))?;
        let described = format!("{check} over {speaks:?}: {why}");
        site.wait_health(address, "up").context(described.clone())?;
        match harm {
            Harm::Kill => backend.kill()?,
            Harm::Answer(bad, _) => backend.mood.health.store(bad, SeqCst),
        }
        let down = site
            .wait_health(address, "down")
            .context(described.clone())?;
        ensure!(down["reason"] == why, "{described}: {down}");
        site.world
            .wait_metric("mc_proxy_backend_up", &[&address.to_string()], 0.0)?;
        let told = format!(
            "route {NAME} on port 443: its backend is down; `mcproxyctl backend list {NAME}` says why"
        );
        let warnings = site.world.warnings()?;
        ensure!(warnings.contains(&told), "{warnings:?}");
        match harm {
            Harm::Kill => backend.revive()?,
            Harm::Answer(_, good) => backend.mood.health.store(good, SeqCst),
        }
        let back = site
            .wait_health(address, "slow_start")
            .context(described.clone())?;
        ensure!(back["reason"] == "2 checks passed", "{described}: {back}");
        site.world
            .wait_metric("mc_proxy_backend_up", &[&address.to_string()], 1.0)?;
        ensure!(site.gets(1)? == ["200"], "{described}");
    }
    Ok(())
}

#[test]
fn a_check_that_is_not_answered_times_out() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let backend = Backend::start(&site, Speaks::Http1)?;
    let address = backend.address;
    backend.mood.health.store(0, SeqCst);
    site.route(&format!(
        "--backend {address} --health http --health-path /health --health-interval 30ms --health-timeout 50ms"
    ))?;
    let down = site.wait_health(address, "down")?;
    ensure!(down["reason"] == "timeout", "{down}");
    Ok(())
}

#[test]
fn grpc_checks_ask_for_the_service() -> Result<()> {
    let site = Site::new(Speaks::H2c, "")?;
    let (listener, address) = site.world.listen()?;
    let (reporter, service) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let runtime = &site.world.backend_runtime;
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let say = |status| runtime.block_on(reporter.set_service_status("shop.Cart", status));
    let route = |service: &str| {
        site.route(&format!(
            "--backend {address} --protocol h2c --health grpc {service} {CHECK}"
        ))
    };
    route("")?;
    site.wait_health(address, "up").context("the server")?;
    route("--health-service shop.Cart")?;
    let down = site.wait_health(address, "down")?;
    ensure!(down["reason"] == "grpc status NotFound", "{down}");
    say(ServingStatus::Serving);
    site.wait_health(address, "slow_start")?;
    say(ServingStatus::NotServing);
    let down = site.wait_health(address, "down")?;
    ensure!(down["reason"] == "grpc NOT_SERVING", "{down}");

    let (code, said) = {
        let (crt, key) = (site.path("web.crt"), site.path("web.key"));
        let line = format!(
            "route add {NAME} --replace --certificate {crt} --key {key} --backend {address} --health grpc"
        );
        let words: Vec<&str> = line.split_whitespace().collect();
        site.world.ctl_fails(&words)?
    };
    ensure!(
        code == 2 && said.contains("grpc needs protocol h2c or h2"),
        "{code}: {said}"
    );
    Ok(())
}

#[test]
fn what_is_down_gets_no_request() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let (one, two) = (
        Backend::start(&site, Speaks::Http1)?,
        Backend::start(&site, Speaks::Http1)?,
    );
    site.route(&format!(
        "--backend {} --backend {} --slow-start 1h --health http --health-path /health {CHECK}",
        one.address, two.address
    ))?;
    site.wait_health(one.address, "up")?;
    site.wait_health(two.address, "up")?;
    ensure!(site.gets(20)? == ["200"; 20]);
    ensure!(
        one.requests() == 10 && two.requests() == 10,
        "idle backends take turns"
    );

    one.mood.health.store(503, SeqCst);
    site.wait_health(one.address, "down")?;
    ensure!(site.gets(20)? == ["200"; 20]);
    ensure!((one.requests(), two.requests()) == (10, 30));

    // Back, and for an hour with a twentieth of its share or little more.
    one.mood.health.store(200, SeqCst);
    let back = site.wait_health(one.address, "slow_start")?;
    ensure!(back["share_percent"] == 5, "{back}");
    ensure!(site.gets(200)? == ["200"; 200]);
    let got = one.requests() - 10;
    ensure!((2..=8).contains(&got), "{got} of 200");

    for backend in [&one, &two] {
        backend.mood.health.store(503, SeqCst);
        site.wait_health(backend.address, "down")?;
    }
    ensure!(site.gets(2)? == ["503"; 2]);
    let told = site.curl("", "/")?;
    ensure!(told == "no backend is available\n", "{told}");
    site.world
        .wait_metric("mc_proxy_errors_total", &["reason=\"no_backend\""], 3.0)?;
    Ok(())
}

#[test]
fn checks_follow_the_route() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let backend = Backend::start(&site, Speaks::Http1)?;
    let address = backend.address;
    let checked = format!("--backend {address} --health tcp {CHECK}");
    site.route(&checked)?;
    let up = site.wait_health(address, "up")?;

    site.route(&format!("{checked} --max-body 1MiB"))?;
    let kept = site.health(address)?;
    ensure!(kept["health"] == "up", "the question is the same: {kept}");
    ensure!(kept["checks_passed"].as_u64() >= up["checks_passed"].as_u64());

    // An hour from one check to the next: the first decides.
    backend.mood.health.store(503, SeqCst);
    site.route(&format!(
        "--backend {address} --health http --health-path /health --health-interval 1h"
    ))?;
    site.wait_health(address, "down")
        .context("another question")?;
    site.route(&checked)?;
    site.wait_health(address, "up")?;
    site.route(&format!("--backend {address}"))?;
    site.wait_health(address, "unchecked")
        .context("none any more")?;
    site.route(&checked)?;
    site.wait_health(address, "up")?;
    site.world.run(&format!("route disable {NAME}"))?;
    site.wait_health(address, "unchecked").context("disabled")?;
    site.world.run(&format!("route enable {NAME}"))?;
    site.wait_health(address, "up")?;
    site.world.run(&format!("route remove {NAME}"))?;
    let all = site.world.json(&["backend", "list"])?;
    ensure!(all == serde_json::json!([]), "{all}");
    Ok(())
}

/// Nobody who asks for a page learns that backends die.
#[test]
fn no_request_fails_while_a_backend_dies_and_comes_back() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let mut one = Backend::start(&site, Speaks::Http1)?;
    let two = Backend::start(&site, Speaks::Http1)?;
    site.route(&format!(
        "--backend {} --backend {} --slow-start 100ms --health tcp {CHECK}",
        one.address, two.address
    ))?;
    site.wait_health(one.address, "up")?;
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut codes = Vec::new();
                while !stop.load(SeqCst) {
                    codes.extend(site.gets(50)?);
                }
                anyhow::Ok(codes)
            })
        });
        let killing = (0..5).try_for_each(|_| {
            one.kill()?;
            site.wait_health(one.address, "down")?;
            one.revive()?;
            site.wait_health(one.address, "up")?;
            let before = one.requests();
            mc_testkit::wait_for("its share of the requests", || {
                (one.requests() > before + 10).then_some(())
            })
        });
        stop.store(true, SeqCst);
        for thread in asking {
            let codes = thread.join().expect("it does not panic")?;
            let failed: Vec<_> = codes.iter().filter(|code| *code != "200").collect();
            ensure!(
                failed.is_empty(),
                "of {}: {failed:?}\n{}",
                codes.len(),
                site.world.log()
            );
        }
        killing
    })
}
