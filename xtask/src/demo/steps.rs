//! The steps of the demo, in order.

use std::process::Command;

use anyhow::Result;
use mc_testkit::wait_for;

use super::{
    check_interrupted,
    mcias::{LOGIN, MCIAS},
    metacrypt, renewal,
    show::{
        Expect::{Dropped, Refused, Reset, Says},
        Show,
    },
    world::World,
};
use crate::command::output;

const ALPHA: &str = "alpha.example.org";
const BETA: &str = "beta.example.org";
const FROM_ALPHA: &str = "this is alpha";
const FROM_BETA: &str = "this is beta";
/// MCIAS's; its TLS is its own.
const AUTH: &str = "auth.example.org";
/// Its TLS ends at the node.
const WEB: &str = "web.example.org";

type Step = fn(&mut World, &mut Show) -> Result<()>;

/// Shows all steps.
pub(super) fn all(world: &mut World, show: &mut Show) -> Result<()> {
    const STEPS: &[Step] = &[
        accounts,
        metacrypt::certificates,
        start,
        routing,
        unknown_names,
        http,
        redirect,
        identity,
        country,
        ban,
        block,
        crash,
        renewal::renewal,
        figures,
    ];
    for step in STEPS {
        check_interrupted()?;
        step(world, show)?;
    }
    Ok(())
}

fn accounts(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("MCIAS: the administrator of `mcias init` logs in, and makes an account and a token for the node");
    println!("$ mcias init; mcias server …");
    world.start_mcias()?;
    println!("$ {} login --account admin", show.shown("mciasctl"));
    world.log_in()?;
    show.run("mciasctl", "whoami", Says("admin"))?;
    show.run("mciasctl", "account create node --system", Says("node"))?;
    let issue = format!(
        "token issue node --service mcias --to {}",
        world.node_token()
    );
    show.run("mciasctl", &issue, Says("node.token"))
}

fn start(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("The daemon starts with an empty table: nothing listens");
    world.start_daemon()?;
    show.ctl("status")?;
    show.request("de", ALPHA, Refused)
}

fn routing(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("Listeners and routes: each name goes to its backend, TLS ends there");
    for line in [
        "listener add 0.0.0.0:443",
        "listener add [::]:443",
        "route add alpha.example.org --port 443 --backend 10.77.1.2:8443",
        "route add beta.example.org --port 443 --backend 10.77.2.2:8443",
        "route add *.beta.example.org --port 443 --backend 10.77.2.2:8443",
        "route list",
    ] {
        show.ctl(line)?;
    }
    show.request("de", ALPHA, Says(FROM_ALPHA))?;
    show.request("us", BETA, Says(FROM_BETA))?;
    show.request("us6", ALPHA, Says(FROM_ALPHA))?;
    show.request("de6", "any.beta.example.org", Says(FROM_BETA))
}

fn unknown_names(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("A name without a route is denied: reset");
    show.request("de", "gamma.example.org", Reset)?;
    show.run(
        "ctl",
        "explain 192.0.2.10 --sni gamma.example.org",
        Says("gamma.example.org"),
    )?;
    show.step("Explain says what would happen, and which rule decides");
    show.run(
        "ctl",
        "explain 192.0.2.10 --sni alpha.example.org",
        Says("10.77.1.2:8443"),
    )
}

fn http(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("A route with a certificate (L7): TLS ends at the node, which proxies HTTP to two backends that it checks");
    let directory = world.directory.display();
    show.ctl(&format!(
        "route add {WEB} --backend 10.77.1.2:8080 --backend 10.77.2.2:8080 --certificate {directory}/web.crt --key \
         {directory}/web.key --health http --health-interval 100ms"
    ))?;
    for (client, version, wanted) in [
        ("de", "--http2", "asked by 192.0.2.10\nHTTP/2"),
        ("de", "--http1.1", "asked by 192.0.2.10\nHTTP/1.1"),
        ("us6", "--http2", "asked by 2001:db8:75::10\nHTTP/2"),
    ] {
        let line = format!("{version} -w HTTP/%{{http_version}} https://{WEB}/");
        show.run(client, &line, Says(wanted))?;
    }
    let mut ctl = Command::new(world.directory.join("ctl"));
    ctl.args(["--json", "backend", "list", WEB]);
    // What the step below shows is judged; this only gives the checks their time.
    let _ = wait_for("health checks of both backends", || {
        let list = output(&mut ctl).ok()?;
        (list.matches("\"up\"").count() == 2).then_some(())
    });
    let up = "10.77.1.2:8080  up";
    show.run("ctl", "backend list web.example.org", Says(up))?;
    show.run("ctl", "route show web.example.org", Says("10.77.2.2:8080"))
}

fn redirect(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("Plain HTTP is sent to https, for names that have a route");
    show.ctl("listener add 0.0.0.0:80 --redirect")?;
    let told = "-o /dev/null -w %{http_code}:%{redirect_url}";
    show.run(
        "de",
        &format!("{told} http://{WEB}/a?b=c"),
        Says("308:https://web.example.org/a?b=c"),
    )?;
    show.run(
        "de",
        &format!("-L http://{WEB}/"),
        Says("asked by 192.0.2.10"),
    )?;
    show.run(
        "de",
        &format!("{told} http://gamma.example.org/"),
        Says("404:"),
    )
}

fn identity(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("MCIAS behind a route: it learns who asks from the PROXY header, and TLS is its own");
    show.ctl(&format!(
        "route add {AUTH} --port 443 --backend {MCIAS} --send-proxy"
    ))?;
    let directory = world.directory.display().to_string();
    let json = "-H content-type:application/json";
    show.step("Whoever guesses is told nothing; the administrator of `mcias init` logs in");
    let login = format!("https://{AUTH}/v1/auth/login");
    show.run(
        "us",
        &format!("{json} -m {LOGIN} -d {{\"account\":\"nobody\",\"password\":\"guess\"}} {login}"),
        Says("the account or the password is wrong"),
    )?;
    let out = format!("-o {directory}/login.json -w %{{http_code}}");
    show.run(
        "de",
        &format!("{json} {out} -m {LOGIN} -d @{directory}/admin.json {login}"),
        Says("200"),
    )?;
    world.keep_token()?;
    show.run(
        "de",
        &format!("-H @{directory}/token.header https://{AUTH}/v1/auth/whoami"),
        Says("\"account\":\"admin\""),
    )?;
    show.step("Each attempt is in the audit log, with its source");
    show.run(
        "de",
        &format!("-H @{directory}/token.header https://{AUTH}/v1/audit?limit=2"),
        Says("192.0.2.10"),
    )?;
    show.step("The node takes bans from MCIAS: whoever guesses too often is dropped in the kernel");
    let mut ctl = Command::new(world.directory.join("ctl"));
    ctl.arg("status");
    // What the step shows is judged; this only gives the daemon its time.
    let _ = wait_for("the bans", || {
        output(&mut ctl).ok()?.contains("bans come").then_some(())
    });
    show.run("ctl", "status", Says("bans come since"))?;
    show.run("mciasctl", "status", Says("bans watched by"))?;
    show.run("mciasctl", "ban list", Says("no network is banned"))
}

fn country(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("Block a country: its packets are dropped in the kernel, others pass");
    show.ctl("firewall country block US")?;
    show.request("us", ALPHA, Dropped)?;
    show.request("us6", ALPHA, Dropped)?;
    show.request("de", ALPHA, Says(FROM_ALPHA))?;
    show.run(
        "ctl",
        "explain 198.51.100.10 --sni alpha.example.org",
        Says("US"),
    )?;

    show.step("The same with --action reset: refused at once, by an RST from XDP");
    show.ctl("firewall country block US --action reset")?;
    show.request("us", ALPHA, Refused)?;
    show.request("us6", ALPHA, Refused)?;

    show.step("The same with --action observe: counted, and let through");
    show.ctl("firewall country block US --action observe")?;
    show.request("us", ALPHA, Says(FROM_ALPHA))?;
    show.run("ctl", "stats", Says("observe"))?;
    show.ctl("firewall country allow US")?;
    show.request("us", ALPHA, Says(FROM_ALPHA))
}

fn ban(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("Ban an address for a while");
    show.ctl("firewall ban 192.0.2.10 --ttl 10m")?;
    show.request("de", ALPHA, Dropped)?;
    show.run(
        "ctl",
        "explain 192.0.2.10 --sni alpha.example.org",
        Says("ban"),
    )?;
    show.ctl("firewall unban 192.0.2.10")?;
    show.request("de", ALPHA, Says(FROM_ALPHA))
}

fn block(_: &mut World, show: &mut Show) -> Result<()> {
    show.step("Block a network, and observe another");
    show.ctl("firewall block 198.51.100.0/24")?;
    show.ctl("firewall block 192.0.2.0/24 --action observe")?;
    show.request("us", BETA, Dropped)?;
    show.request("de", BETA, Says(FROM_BETA))?;
    show.ctl("firewall list")?;
    show.ctl("firewall unblock 192.0.2.0/24")
}

fn crash(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("Kill the daemon: the firewall stays, pinned in the kernel");
    println!("$ kill -9 (mc-proxy)");
    world.kill_daemon()?;
    show.request("us", BETA, Dropped)?;
    show.request("de", BETA, Refused)?;

    show.step(
        "The next daemon takes the firewall over; listeners and routes come back from SQLite",
    );
    println!("$ mc-proxy server …");
    world.start_daemon()?;
    show.request("us", BETA, Dropped)?;
    show.request("de", BETA, Says(FROM_BETA))?;
    show.request("de", WEB, Says("asked by 192.0.2.10"))?;
    show.ctl("firewall unblock 198.51.100.0/24")?;
    show.request("us", BETA, Says(FROM_BETA))
}

fn figures(world: &mut World, show: &mut Show) -> Result<()> {
    show.step("The kernel's maps are what the database says");
    show.ctl("maps verify")?;
    show.step("Figures: stats, and Prometheus's view");
    show.run("ctl", "stats", Says(ALPHA))?;
    let metrics = output(&mut Command::new(world.directory.join("metrics")))?;
    println!("$ {}", show.shown("metrics"));
    let ours: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("mc_proxy_") && !line.contains("_seconds_"))
        .collect();
    for line in ours.iter().filter(|line| !line.ends_with(" 0")).take(20) {
        println!("  {line}");
    }
    println!("  ({} series)", ours.len());
    let dropped = ours
        .iter()
        .any(|line| line.contains("drop") && !line.ends_with(" 0"));
    show.expect(
        dropped,
        "expected a series that counts dropped packets, above 0",
    );
    Ok(())
}
