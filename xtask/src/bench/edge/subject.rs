//! The relays under test, each as an operator would run it on two cores.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use anyhow::{Context, Result};
use mc_testkit::process::Process;

use super::{
    net::{self, Net},
    version, write,
};

/// The name that the generator asks for: the last of the routes, so that a scan would show.
pub(super) const HOSTNAME: &str = "bench.example.org";
/// Routes of every relay but those that measure the number of routes.
pub(super) const FEW_ROUTES: usize = 10;
/// Connections that HAProxy allows: the idle ones and room for one that checks whether it is there.
const HAPROXY_CONNECTIONS: u32 = 10_100;
/// Sockets of each nginx worker: both sides of all idle connections, should it get them all.
const NGINX_SOCKETS: u32 = 32_000;

/// A relay as seen from one link.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) key: &'static str,
    /// For people: with version.
    pub(super) title: String,
    pub(super) address: SocketAddr,
    process: Rc<Running>,
}

struct Running {
    process: Process,
    /// bpffs directory to remove when it has ended.
    pins: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.is_running() && self.process.terminate().is_err() {
            eprintln!("a relay does not end at SIGTERM; it is killed");
        }
        if let Some(pins) = self.pins.as_deref().filter(|pins| pins.exists())
            && let Err(error) = fs::remove_dir_all(pins)
        {
            eprintln!("cannot remove {}: {error}", pins.display());
        }
    }
}

impl Subject {
    /// The same process, reached over another link.
    pub(super) fn over(&self, key: &'static str, node: Ipv4Addr, note: &str) -> Self {
        let title = format!("{}{note}", self.title);
        Self {
            key,
            title,
            address: (node, self.address.port()).into(),
            process: Rc::clone(&self.process),
        }
    }

    /// The process and its children.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let pid = self.process.process.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok([pid]
            .into_iter()
            .chain(
                children
                    .split_whitespace()
                    .filter_map(|word| word.parse().ok()),
            )
            .collect())
    }
}

/// Starts it, and waits until it listens on `port` of the node.
pub(super) fn start(
    net: &Net,
    key: &'static str,
    title: String,
    port: u16,
    command: &mut Command,
    pins: Option<PathBuf>,
) -> Result<Subject> {
    let address = SocketAddr::from((net::PLAIN, port));
    let mut running = Running {
        process: Process::start(command)?,
        pins,
    };
    running.process.wait_for(&format!("{key} to listen"), || {
        net.client
            .run(|| TcpStream::connect(address).is_ok())
            .unwrap_or(false)
            .then_some(())
    })?;
    Ok(Subject {
        key,
        title,
        address,
        process: Rc::new(running),
    })
}

/// HAProxy: TCP mode, splice, a map from SNI to backend.
pub(super) fn haproxy(net: &Net, directory: &Path, port: u16) -> Result<Subject> {
    let map = directory.join("haproxy.map");
    write(
        &map,
        &hostnames(FEW_ROUTES)
            .map(|name| format!("{name} relay\n"))
            .collect::<String>(),
    )?;
    let servers: String = backends()
        .enumerate()
        .map(|(i, b)| format!("  server s{i} {b}\n"))
        .collect();
    let config = format!(
        "global\n  nbthread 2\n  no strict-limits\n  maxconn {HAPROXY_CONNECTIONS}\n\
         defaults\n  mode tcp\n  maxconn {HAPROXY_CONNECTIONS}\n  option splice-auto\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         frontend f\n  bind 0.0.0.0:{port}\n  tcp-request inspect-delay 5s\n  tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         tcp-request content reject\n  use_backend %[req.ssl_sni,lower,map({})]\n\
         backend relay\n{servers}",
        map.display()
    );
    let file = directory.join("haproxy.cfg");
    write(&file, &config)?;
    start(
        net,
        "haproxy",
        haproxy_version()?,
        port,
        net.node.command("haproxy").arg("-db").arg("-f").arg(file),
        None,
    )
}

pub(super) fn haproxy_version() -> Result<String> {
    let said = version("haproxy", "-v")?;
    let number = said.split([' ', '-']).nth(2).unwrap_or_default();
    Ok(format!("HAProxy {number}"))
}

pub(super) fn nginx_version() -> Result<String> {
    let said = version("nginx", "-v")?;
    let number = said.rsplit('/').next().unwrap_or_default();
    Ok(format!("nginx {number}"))
}

/// nginx: stream with ssl_preread, a map from SNI to upstream, a listening socket per worker.
pub(super) fn nginx(net: &Net, directory: &Path, port: u16) -> Result<Subject> {
    let map: String = hostnames(FEW_ROUTES)
        .map(|name| format!("    {name} relay;\n"))
        .collect();
    let servers: String = backends().map(|b| format!("    server {b};\n")).collect();
    let at = directory.display();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nuser root;\nworker_processes 2;\npid {at}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {NGINX_SOCKETS}; }}\n\
         stream {{\n  map $ssl_preread_server_name $to {{\n{map}  }}\n  upstream relay {{\n{servers}  }}\n\
         server {{\n    listen 0.0.0.0:{port} reuseport;\n    ssl_preread on;\n    proxy_pass $to;\n    proxy_connect_timeout 5s;\n  }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    write(&file, &config)?;
    let mut command = net.node.command("nginx");
    command
        .arg("-p")
        .arg(directory)
        .arg("-c")
        .arg(file)
        .args(["-e", "stderr"]);
    start(net, "nginx", nginx_version()?, port, &mut command, None)
}

/// mc-proxy.
pub(super) struct McProxy<'a> {
    pub(super) key: &'static str,
    pub(super) port: u16,
    pub(super) engine: &'a str,
    pub(super) routes: usize,
    pub(super) interfaces: &'a [&'a str],
}

impl McProxy<'_> {
    pub(super) fn start(&self, net: &Net, directory: &Path) -> Result<Subject> {
        let title = format!("mc-proxy ({})", self.key);
        start_mc_proxy(net, directory, (self.key, title), self.port, |pins| {
            self.config(pins)
        })
    }

    fn config(&self, pins: &Path) -> String {
        let Self {
            port,
            engine,
            routes,
            interfaces,
            ..
        } = self;
        let backends: Vec<String> = backends().map(|b| b.to_string()).collect();
        let routes: String = hostnames(*routes)
            .map(|name| {
                format!(
                    "[[routes]]\nhostname = \"{name}\"\nport = {port}\nbackends = {backends:?}\n"
                )
            })
            .collect();
        format!(
            "[firewall]\ninterfaces = {interfaces:?}\npin_path = \"{}\"\n[relay]\nengine = \"{engine}\"\n\
             [[listeners]]\naddress = \"0.0.0.0:{port}\"\n{routes}",
            pins.display()
        )
    }
}

/// mc-proxy with a root of its own below `directory` and a configuration made for where it pins.
pub(super) fn start_mc_proxy(
    net: &Net,
    directory: &Path,
    (key, title): (&'static str, String),
    port: u16,
    config: impl FnOnce(&Path) -> String,
) -> Result<Subject> {
    let root = directory.join(key);
    fs::create_dir(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let pins = PathBuf::from(format!("/sys/fs/bpf/mc-bench-{}-{key}", std::process::id()));
    let file = root.join("mc-proxy.toml");
    write(&file, &config(&pins))?;
    let program = crate::target_dir().join("release/mc-proxy");
    let mut command = net.node.command(program);
    command
        .arg("server")
        .arg("--config")
        .arg(file)
        .arg("--root")
        .arg(root);
    start(net, key, title, port, &mut command, Some(pins))
}

fn hostnames(count: usize) -> impl Iterator<Item = String> {
    (1..count)
        .map(|i| format!("r{i}.example.org"))
        .chain([HOSTNAME.to_owned()])
}

fn backends() -> impl Iterator<Item = SocketAddr> {
    net::backends().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_with_all_routes() {
        let proxy = McProxy {
            key: "copy",
            port: 4443,
            engine: "copy",
            routes: 3,
            interfaces: &["n1"],
        };
        let config: toml::Table = proxy.config(Path::new("/sys/fs/bpf/x")).parse().unwrap();
        let routes = config["routes"].as_array().unwrap();
        assert_eq!(routes.len(), 3);
        assert_eq!(routes[2]["hostname"].as_str(), Some(HOSTNAME));
        assert_eq!(
            routes[0]["backends"].as_array().unwrap().len(),
            net::backends().len()
        );
        assert_eq!(config["firewall"]["interfaces"][0].as_str(), Some("n1"));
    }
}
