//! Who terminates TLS, each as an operator would run it on two cores, and what is behind them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
};

use anyhow::{Context, Result};
use mc_testkit::{ca::Ca, process::Process};

use crate::bench::edge::{
    net::{self, Net},
    subject::{self, HOSTNAME, Subject},
    write,
};

/// Our key.
pub(super) const OURS: &str = "l7";
/// The path of [`SMALL_BODY`] bytes.
pub(super) const SMALL: &str = "/small";
/// The path of 1 MiB.
pub(super) const LARGE: &str = "/1mib";
/// Bytes of a small response's body.
const SMALL_BODY: usize = 200;
const PORT: u16 = 8080;
/// Connections that a peer allows.
const CONNECTIONS: u32 = 4096;

/// An nginx in the server's namespace that waits for nothing: a response from its configuration, a file from its cache.
pub(super) fn backend(net: &Net, directory: &Path) -> Result<Process> {
    let at = directory.join("backend");
    fs::create_dir(&at).with_context(|| format!("cannot create {}", at.display()))?;
    fs::write(at.join("1mib"), vec![b'x'; 1 << 20]).context("cannot write a file")?;
    let listen: String = backends().map(|b| format!("    listen {b};\n")).collect();
    let (at, body) = (at.display(), "x".repeat(SMALL_BODY));
    let config = format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {at}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {CONNECTIONS}; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  keepalive_requests 1000000000;\n  keepalive_timeout 10m;\n  \
         open_file_cache max=10;\n  default_type application/octet-stream;\n  server {{\n{listen}    root {at};\n    \
         location = {SMALL} {{ return 200 \"{body}\"; }}\n  }}\n}}\n"
    );
    let file = directory.join("backend.conf");
    write(&file, &config)?;
    let mut command = net.server.command("nginx");
    command.arg("-p").arg(directory).arg("-c").arg(file);
    let mut process = Process::start(command.args(["-e", "stderr"]))?;
    for address in backends() {
        process.wait_for("the backend to listen", || {
            let connected = net.node.run(|| TcpStream::connect(address).is_ok());
            connected.unwrap_or(false).then_some(())
        })?;
    }
    Ok(process)
}

/// All that are wanted.
pub(super) fn start(
    net: &Net,
    directory: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Subject>> {
    let leaf = Ca::new()?.issue(&[HOSTNAME])?;
    let (certificate, key) = leaf.write(directory, "l7")?;
    let mut subjects = Vec::new();
    if wanted(OURS) {
        subjects.push(ours(net, directory, &certificate, &key)?);
    }
    if wanted("haproxy") {
        let both = directory.join("l7.pem");
        write(&both, &(leaf.chain_pem + leaf.key_pem.as_str()))?;
        subjects.push(haproxy(net, directory, &both)?);
    }
    if wanted("nginx") {
        subjects.push(nginx(net, directory, &certificate, &key)?);
    }
    Ok(subjects)
}

/// Without the access log, which the peers do not write either.
fn ours(net: &Net, directory: &Path, certificate: &Path, key: &Path) -> Result<Subject> {
    let (port, backends) = (4451, addresses());
    let config = |pins: &Path| {
        format!(
            "[firewall]\npin_path = {pins:?}\n[[listeners]]\naddress = \"0.0.0.0:{port}\"\n\
             [[routes]]\nhostname = \"{HOSTNAME}\"\nport = {port}\nbackends = {backends:?}\n\
             [routes.l7]\ncertificate = {certificate:?}\nkey = {key:?}\naccess_log = 0\n"
        )
    };
    subject::start_mc_proxy(net, directory, (OURS, "mc-proxy".to_owned()), port, config)
}

/// HTTP mode; connections to backends are shared by all clients, and backends are told of them what mc-proxy tells.
fn haproxy(net: &Net, directory: &Path, certificate: &Path) -> Result<Subject> {
    let port = 4452;
    let servers: String = backends()
        .enumerate()
        .map(|(i, b)| format!("  server s{i} {b}\n"))
        .collect();
    let config = format!(
        "global\n  nbthread 2\n  no strict-limits\n  maxconn {CONNECTIONS}\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n  mode http\n  http-reuse always\n  option forwardfor\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         frontend f\n  bind 0.0.0.0:{port} ssl crt {} alpn h2,http/1.1\n  \
         http-request set-header X-Forwarded-Proto https\n  http-request set-header X-Real-IP %[src]\n  \
         http-request set-header Forwarded for=%[src];proto=https;host=%[req.hdr(host)]\n  default_backend b\nbackend b\n{servers}",
        certificate.display()
    );
    let file = directory.join("haproxy-l7.cfg");
    write(&file, &config)?;
    let mut command = net.node.command("haproxy");
    command.arg("-db").arg("-f").arg(file);
    let title = subject::haproxy_version()?;
    subject::start(net, "haproxy", title, port, &mut command, None)
}

/// Responses are never written to disk; connections to backends are kept.
fn nginx(net: &Net, directory: &Path, certificate: &Path, key: &Path) -> Result<Subject> {
    let port = 4453;
    let servers: String = backends().map(|b| format!("    server {b};\n")).collect();
    let (at, certificate, key) = (directory.display(), certificate.display(), key.display());
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {at}/nginx-l7.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {CONNECTIONS}; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  proxy_max_temp_file_size 0;\n  \
         upstream b {{\n{servers}    keepalive 64;\n    keepalive_requests 1000000000;\n  }}\n  \
         server {{\n    listen 0.0.0.0:{port} ssl http2 reuseport;\n    ssl_protocols TLSv1.3;\n    \
         ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    location / {{\n      proxy_pass http://b;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n      \
         proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header X-Real-IP $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto https;\n      \
         proxy_set_header Forwarded \"for=$remote_addr;proto=https;host=$http_host\";\n    }}\n  }}\n}}\n"
    );
    let file = directory.join("nginx-l7.conf");
    write(&file, &config)?;
    let mut command = net.node.command("nginx");
    command.arg("-p").arg(directory).arg("-c").arg(file);
    command.args(["-e", "stderr"]);
    let title = subject::nginx_version()?;
    subject::start(net, "nginx", title, port, &mut command, None)
}

fn backends() -> impl Iterator<Item = SocketAddr> {
    net::backends()
        .into_iter()
        .map(|backend| SocketAddr::new(backend.ip(), PORT))
}

fn addresses() -> Vec<String> {
    backends().map(|backend| backend.to_string()).collect()
}
