//! What requests tell of their backends, and which of them are sent again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    wait_for,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{NAME, Site, Speaks, backend::Backend};
use crate::{clients::client_hello, world::World};

#[test]
fn failed_requests_eject_a_backend_for_a_time() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let (one, two) = (
        Backend::start(&site, Speaks::Http1)?,
        Backend::start(&site, Speaks::Http1)?,
    );
    let (bad, good) = (one.address, two.address);
    site.route(&format!("--backend {bad} --backend {good} --slow-start 0s"))?;
    one.mood.status.store(502, SeqCst);
    ensure!(site.health(bad)?["health"] == "unchecked");
    let codes = site.gets(20)?;
    let failed = codes.iter().filter(|code| *code == "502").count();
    ensure!(failed == 5 && one.requests() == 5, "{codes:?}");
    let ejected = site.health(bad)?;
    ensure!(
        ejected["health"] == "ejected" && ejected["ejections"] == 1,
        "{ejected}"
    );
    let why = "5 requests failed in a row, the last: backend_gateway_status";
    ensure!(ejected["reason"] == why, "{ejected}");
    let of_bad = bad.to_string();
    site.world
        .wait_metric("mc_proxy_backend_ejections_total", &[&of_bad], 1.0)?;

    // The other fails as well: it must stay while the first is out.
    one.mood.status.store(200, SeqCst);
    two.mood.status.store(503, SeqCst);
    let codes = site.gets(20)?;
    let good_is = site.health(good)?;
    // Unless it is back already, on a machine that is busy.
    if site.health(bad)?["health"] == "ejected" {
        ensure!(codes.iter().all(|code| code == "503"), "{codes:?}");
        ensure!(good_is["health"] == "unchecked", "{good_is}");
    }
    two.mood.status.store(200, SeqCst);
    site.wait_health(good, "unchecked")?;
    let back = site.wait_health(bad, "unchecked")?;
    ensure!(back["reason"] == format!("was ejected: {why}"), "{back}");
    let before = one.requests();
    ensure!(site.gets(10)? == ["200"; 10]);
    ensure!(one.requests() == before + 5);
    Ok(())
}

#[test]
fn relayed_connections_that_fail_eject_too() -> Result<()> {
    let world = World::started("")?;
    let hello = client_hello(&Ca::new()?, NAME, KeyExchange::Classic)?;
    let good = world.echo(hello.len())?;
    // Bound and gone again: refused.
    let (listener, bad) = world.listen()?;
    drop(listener);
    world.run(&format!(
        "route add {NAME} --backend {bad} --backend {good}"
    ))?;
    let state = || -> Result<String> {
        let all = world.json(&["backend", "list", NAME, "--port", "443"])?;
        Ok(format!("{} {}", all[0]["health"], all[0]["reason"]))
    };
    for _ in 0..10 {
        world.open(&hello)?.context("the other takes it")?;
    }
    let last = "5 requests failed in a row, the last: backend_refused";
    ensure!(
        state()? == format!("\"ejected\" \"{last}\""),
        "{}",
        state()?
    );
    let table = world.run("backend list")?;
    ensure!(
        table.contains("ejected, ") && table.contains(last),
        "{table}"
    );
    Ok(())
}

#[test]
fn a_full_backend_gives_way_and_full_ones_refuse() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let backends = [
        Backend::start(&site, Speaks::Http1)?,
        Backend::start(&site, Speaks::Http1)?,
    ];
    let [one, two] = &backends;
    site.route(&format!(
        "--backend {} --backend {} --max-requests 1",
        one.address, two.address
    ))?;
    std::thread::scope(|scope| {
        let held =
            [0, 1].map(|_| scope.spawn(|| site.curl("-o /dev/null -w %{http_code}", "/hold")));
        let both = wait_for("one request at each", || {
            (one.requests() == 1 && two.requests() == 1).then_some(())
        });
        let refused = site.gets(2);
        let told = site.curl("", "/");
        for backend in &backends {
            backend.mood.released.add_permits(1);
        }
        for held in held {
            ensure!(held.join().expect("it does not panic")? == "200");
        }
        both?;
        ensure!(refused? == ["503"; 2]);
        let told = told?;
        ensure!(
            told == "too much is under way here; try again soon\n",
            "{told}"
        );
        site.world
            .wait_metric("mc_proxy_errors_total", &["reason=\"max_requests\""], 3.0)?;
        ensure!(site.gets(4)? == ["200"; 4], "there is room again");
        Ok(())
    })
}

#[test]
fn what_never_left_goes_to_the_next_backend_whatever_it_is() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(speaks, "")?;
        let mut one = Backend::start(&site, speaks)?;
        let two = Backend::start(&site, speaks)?;
        let protocol = site.protocol(speaks);
        site.route(&format!(
            "--backend {} --backend {} {protocol}",
            one.address, two.address
        ))?;
        // Connections are kept to both.
        ensure!(site.gets(4)? == ["200"; 4], "{speaks:?}");
        one.kill()?;
        for method in ["GET", "PUT", "POST"] {
            let args = format!("-X {method} --data-binary some -o /dev/null -w %{{http_code}}\\n");
            let codes = site.curl(&args, "/[1-10]")?;
            ensure!(
                codes == "200\n".repeat(10),
                "{method} {speaks:?}: {codes}\n{}",
                site.world.log()
            );
        }
    }
    Ok(())
}

/// Answers the first request of a connection and closes it at the second, which it has read; or breaks off each body.
fn closing(world: &World, breaks_body: bool) -> Result<(std::net::SocketAddr, Arc<AtomicU64>)> {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let address = world.serve(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            for request in 0.. {
                if whole_request(&mut stream).await.is_err() {
                    return;
                }
                counter.fetch_add(1, SeqCst);
                let answer: &[u8] = match (request, breaks_body) {
                    (0, false) => b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
                    (0, true) => b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nok\n",
                    _ => return,
                };
                if stream.write_all(answer).await.is_err() || breaks_body {
                    return;
                }
            }
        }
    })?;
    Ok((address, seen))
}

/// Reads a request with its body, which may come in packets of their own.
pub(super) async fn whole_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
    let length = length.map_or(0, |n| n.trim().parse().expect("a length"));
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(())
}

#[test]
fn what_a_backend_may_have_done_is_repeated_only_if_safe() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    for (args, broken, second, seen_in_all) in [
        ("", false, "200", 3),
        ("-X OPTIONS", false, "200", 3),
        ("-X DELETE", false, "502", 2),
        ("-X PUT", false, "502", 2),
        ("-X POST", false, "502", 2),
        ("-X GET -d body", false, "502", 2),
        // The response has begun.
        ("", true, "", 1),
        ("--http1.1", true, "200", 1),
    ] {
        let (address, seen) = closing(&site.world, broken)?;
        site.route(&format!("--backend {address}"))?;
        // One worker has the kept connection: both requests over one of ours.
        let (crt, count) = (site.path("ca.pem"), if broken { "1" } else { "[1-2]" });
        let url = format!("https://{NAME}/{count}");
        let resolve = format!("{NAME}:443:{}", crate::world::NODE);
        let line = format!(
            "-sS -m 10 --cacert {crt} --resolve {resolve} {args} -o /dev/null -w %{{http_code}}\\n {url}"
        );
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = site.world.client_command("curl", &words)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let described = format!("{args:?}, body broken {broken}: {output:?}");
        if broken {
            // Told so, nobody asks again by himself.
            let told = text.trim_end().ends_with(second);
            ensure!(told && !output.status.success(), "{described}");
        } else {
            ensure!(text == format!("200\n{second}\n"), "{described}");
        }
        ensure!(
            seen.load(SeqCst) == seen_in_all,
            "seen {seen:?}: {described}"
        );
    }
    Ok(())
}

#[test]
fn a_replaced_route_uses_no_connection_of_the_one_before() -> Result<()> {
    let site = Site::new(Speaks::H2, "")?;
    let backend = Backend::start(&site, Speaks::H2)?;
    std::fs::write(site.path("other.pem"), Ca::new()?.pem())?;
    let route = |ca: &str| {
        site.route(&format!(
            "--backend {} --protocol h2 --backend-name backend.example.org --backend-ca {}",
            backend.address,
            site.path(ca)
        ))
    };
    // Each of ours may meet another worker with a pool of its own.
    for (ca, wanted) in [("ca.pem", "200"), ("other.pem", "502"), ("ca.pem", "200")] {
        route(ca)?;
        for _ in 0..8 {
            ensure!(site.gets(1)? == [wanted], "{ca}");
        }
    }
    Ok(())
}
