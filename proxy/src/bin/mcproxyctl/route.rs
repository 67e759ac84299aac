//! `mcproxyctl route`.

use std::{net::SocketAddr, time::Duration};

use clap::{Subcommand, ValueEnum};
use mc_proto::mcproxy::v1::{self as pb, admin_client::AdminClient};
use mcdsl::{
    cli::{Exit, Output, quoted, write_out},
    human,
};
use tonic::transport::Channel;

use crate::{
    Result, backend,
    client::{Client, call, call_add},
    l7::{self, L7},
    parse, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds a route
    Add(Box<Add>),
    /// Shows the routes
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this port
        #[arg(long)]
        port: Option<u16>,
    },
    /// Shows a route with its backends
    Show(Key),
    /// Removes a route; open connections go on
    #[command(visible_alias = "rm")]
    Remove(Key),
    /// Lets connections through again
    Enable(Key),
    /// Refuses new connections, without falling through to a wildcard
    Disable(Key),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    /// Exact hostname, or *.parent: names below the parent, at any depth, without a nearer route
    #[arg(value_parser = parse::hostname)]
    hostname: String,
    /// The listener's port
    #[arg(long, default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

impl Key {
    pub(crate) fn wire(&self) -> Option<pb::RouteKey> {
        Some(pb::RouteKey {
            port: self.port.into(),
            hostname: self.hostname.clone(),
        })
    }

    fn name(&self) -> String {
        format!("{} on port {}", self.hostname, self.port)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// Userland copy
    Copy,
    /// Redirected between the sockets in the kernel
    Sockmap,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    key: Key,
    /// Where connections go, an address and a port; repeatable
    #[arg(long, required = true, value_name = "IP:PORT", value_parser = parse::backend)]
    backend: Vec<SocketAddr>,
    /// Sends a PROXY v2 header to the backend
    #[arg(long)]
    send_proxy: bool,
    /// How bytes are moved [default: the daemon's]
    #[arg(long)]
    engine: Option<Engine>,
    /// To the backend, e.g. 5s [default: the daemon's, here and below]
    #[arg(long, value_name = "DURATION", value_parser = parse::milliseconds)]
    connect_timeout: Option<u32>,
    /// Ends a connection without traffic for this long, e.g. 5m
    #[arg(long, value_name = "DURATION", value_parser = parse::seconds)]
    idle_timeout: Option<u32>,
    /// Ends a connection of this age, e.g. 24h
    #[arg(long, value_name = "DURATION", value_parser = parse::seconds)]
    max_age: Option<u32>,
    /// Concurrent connections [default: unlimited]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,
    #[command(flatten)]
    l7: L7,
    /// Adds it disabled
    #[arg(long)]
    disabled: bool,
    /// Replaces the route if it exists, as a whole: what is not named here is the default again, so that this command line alone says
    /// what the route is. Its open connections and counters go on
    #[arg(long)]
    replace: bool,
}

impl Add {
    pub(crate) fn request(&self) -> pb::AddRouteRequest {
        let engine = match self.engine {
            None => pb::Engine::Default,
            Some(Engine::Copy) => pb::Engine::Copy,
            Some(Engine::Sockmap) => pb::Engine::Sockmap,
        };
        let backends = self.backend.iter().map(|address| pb::Backend {
            address: address.to_string(),
            ..pb::Backend::default()
        });
        pb::AddRouteRequest {
            route: Some(pb::Route {
                id: 0,
                port: self.key.port.into(),
                hostname: self.key.hostname.clone(),
                mode: if self.l7.certificate.is_some() {
                    pb::RouteMode::L7.into()
                } else {
                    pb::RouteMode::L4.into()
                },
                backends: backends.collect(),
                engine: engine.into(),
                enabled: !self.disabled,
                send_proxy: self.send_proxy,
                connect_timeout_ms: self.connect_timeout.unwrap_or(0),
                idle_timeout_s: self.idle_timeout.unwrap_or(0),
                max_age_s: self.max_age.unwrap_or(0),
                max_connections: self.max_connections.unwrap_or(0),
                l7: self.l7.message(),
            }),
            replace: self.replace,
        }
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let admin = client.admin().await?;
        match self {
            Self::Add(add) => {
                let before = match add.replace {
                    true => admin
                        .get_route(pb::GetRouteRequest {
                            key: add.key.wire(),
                        })
                        .await
                        .ok(),
                    false => None,
                };
                let route = call_add(admin.add_route(add.request())).await?;
                let listeners = call(admin.list_listeners(pb::ListListenersRequest {})).await?;
                let gone = before.and_then(|before| gone(before.get_ref(), &route));
                let hint = gone.or_else(|| unreachable(&route, &listeners.listeners));
                let to: Vec<&str> = route.backends.iter().map(|b| b.address.as_str()).collect();
                let mut sentence = format!("route {} -> {}", add.key.name(), to.join(", "));
                let mut json = view::route(&route);
                if let Some(hint) = hint {
                    sentence.push_str(&format!("\n hint: {hint}"));
                    json["hint"] = hint.into();
                }
                out.done(&sentence, &json)?;
            }
            Self::List { port } => {
                let mut routes = call(admin.list_routes(pb::ListRoutesRequest {}))
                    .await?
                    .routes;
                routes.retain(|r| port.is_none_or(|port| r.port == u32::from(port)));
                let rows = routes.iter().map(row).collect();
                let of_port = port.map(|p| format!(" on port {p}")).unwrap_or_default();
                let empty = format!(
                    "no routes{of_port}; add one with `mcproxyctl route add NAME --backend IP:PORT`"
                );
                out.table(
                    &[
                        "HOSTNAME", "PORT", "STATE", "BACKENDS", "MODE", "ACTIVE", "OPTIONS",
                    ],
                    rows,
                    &empty,
                    &view::list(&routes, view::route),
                )?;
            }
            Self::Show(key) => {
                let found = call(admin.get_route(pb::GetRouteRequest { key: key.wire() })).await;
                show(&elsewhere(admin, key, found).await?, out)?;
            }
            Self::Remove(key) => {
                let request = pb::RemoveRouteRequest { key: key.wire() };
                let removed = call(admin.remove_route(request)).await;
                elsewhere(admin, key, removed).await?;
                let json = serde_json::json!({ "removed": key.hostname, "port": key.port });
                out.done(&format!("route {} removed", key.name()), &json)?;
            }
            Self::Enable(key) | Self::Disable(key) => {
                let request = self.set_enabled(key);
                let word = if request.enabled {
                    "enabled"
                } else {
                    "disabled"
                };
                let set = call(admin.set_route_enabled(request)).await;
                let route = elsewhere(admin, key, set).await?;
                out.done(
                    &format!("route {} {word}", key.name()),
                    &view::route(&route),
                )?;
            }
        }
        Ok(())
    }

    pub(crate) fn set_enabled(&self, key: &Key) -> pb::SetRouteEnabledRequest {
        pb::SetRouteEnabledRequest {
            key: key.wire(),
            enabled: matches!(self, Self::Enable(_)),
        }
    }
}

/// An answer about a route; if there is none on this port, with the ports on which there is.
async fn elsewhere<T>(admin: &mut AdminClient<Channel>, key: &Key, answer: Result<T>) -> Result<T> {
    let failure = match answer {
        Err(failure) if failure.exit == Exit::NotFound => failure,
        answer => return answer,
    };
    let routes = call(admin.list_routes(pb::ListRoutesRequest {})).await?;
    let ports = routes.routes.iter().filter(|r| r.hostname == key.hostname);
    let ports: Vec<String> = ports.map(|r| format!("--port {}", r.port)).collect();
    Err(match ports.as_slice() {
        [] => failure,
        ports => failure.hint(format_args!("there is one with {}", ports.join(", "))),
    })
}

/// What a route had before it was replaced, and has no more.
pub(crate) fn gone(before: &pb::Route, now: &pb::Route) -> Option<String> {
    let names = |route: &pb::Route| -> Vec<String> {
        let options = options(route);
        let name = |option: &String| option.split('=').next().map(str::to_owned);
        options.iter().filter_map(name).collect()
    };
    let (had, has) = (names(before), names(now));
    let gone: Vec<_> = had.into_iter().filter(|name| !has.contains(name)).collect();
    match (&before.l7, &now.l7, gone.as_slice()) {
        (Some(_), None, _) => Some(
            "TLS ended at the proxy before, and now goes on to the backend as it is: say --certificate and --key if that was not meant"
                .to_owned(),
        ),
        (_, _, []) => None,
        (_, _, gone) => Some(format!("no longer set: {}", gone.join(", "))),
    }
}

/// That nobody can come by a route, since no listener of its port asks for a name.
pub(crate) fn unreachable(route: &pb::Route, listeners: &[pb::Listener]) -> Option<String> {
    let of_port = |l: &&pb::Listener| {
        let port = l.address.rsplit_once(':').map(|(_, port)| port.parse());
        port == Some(Ok(route.port))
    };
    let here: Vec<_> = listeners.iter().filter(of_port).collect();
    let port = route.port;
    let add = format!("`mcproxyctl listener add 0.0.0.0:{port}`");
    match here.as_slice() {
        [] => Some(format!("nothing listens on port {port}; {add}")),
        [redirect, ..] if here.iter().all(|l| l.redirect_port != 0) => Some(format!(
            "only a redirect listens on port {port}; `mcproxyctl listener remove {}`, then {add}",
            redirect.address
        )),
        _ => None,
    }
}

fn state(r: &pb::Route) -> &'static str {
    if r.enabled { "enabled" } else { "disabled" }
}

/// How connections are served: relayed, by which engine, or proxied, with what spoken to the backends.
fn mode(r: &pb::Route) -> String {
    match &r.l7 {
        Some(l7) => format!("l7 {}", view::protocol(l7)),
        None => format!("l4 {}", view::engine(r.engine)),
    }
}

fn certificate(l7: &pb::L7) -> String {
    let status = l7.certificate_status.clone().unwrap_or_default();
    let state = status.not_after_unix_s.map_or_else(
        || "none in force, connections are reset".to_owned(),
        |end| format!("ends {}", human::when(end)),
    );
    let mut text = format!("certificate {}: {state}\n", l7.certificate);
    if !status.error.is_empty() {
        text += &format!("  the last load failed: {}\n", status.error);
    }
    text
}

fn options(r: &pb::Route) -> Vec<String> {
    let mut options = Vec::new();
    if r.send_proxy {
        options.push("send-proxy".to_owned());
    }
    let times = [
        (
            "connect-timeout",
            Duration::from_millis(r.connect_timeout_ms.into()),
        ),
        ("idle-timeout", Duration::from_secs(r.idle_timeout_s.into())),
        ("max-age", Duration::from_secs(r.max_age_s.into())),
    ];
    for (name, time) in times {
        if !time.is_zero() {
            options.push(format!("{name}={}", human::duration(time)));
        }
    }
    if r.max_connections != 0 {
        options.push(format!("max-connections={}", r.max_connections));
    }
    if let Some(l7) = &r.l7 {
        options.extend(l7::options(l7));
    }
    options
}

pub(crate) fn row(r: &pb::Route) -> Vec<String> {
    let backends: Vec<&str> = r.backends.iter().map(|b| b.address.as_str()).collect();
    let active: u64 = r.backends.iter().map(|b| b.active_connections).sum();
    let options = options(r);
    vec![
        r.hostname.clone(),
        r.port.to_string(),
        state(r).to_owned(),
        backends.join(" "),
        mode(r),
        active.to_string(),
        if options.is_empty() {
            "-".to_owned()
        } else {
            options.join(" ")
        },
    ]
}

/// A route on a few lines, and its backends as a table.
pub(crate) fn show(r: &pb::Route, out: Output) -> Result {
    if out.json {
        return Ok(out.json(&view::route(r))?);
    }
    let options = options(r).join(" ");
    let rest = if options.is_empty() {
        String::new()
    } else {
        format!(", {options}")
    };
    write_out(&format!(
        "{} on port {}: {}, {}{rest}\n",
        r.hostname,
        r.port,
        state(r),
        mode(r),
    ))?;
    if let Some(l7) = &r.l7 {
        write_out(&certificate(l7))?;
    }
    out.table(
        &backend::COLUMNS,
        r.backends.iter().map(backend::row).collect(),
        "no backends",
        &(),
    )?;
    write_out(&format!("to change it:\n  {}\n", command(r)))?;
    Ok(())
}

/// What adds the route as it is, for a shell.
pub(crate) fn command(r: &pb::Route) -> String {
    let mut words: Vec<String> = ["mcproxyctl", "route", "add"].map(str::to_owned).to_vec();
    words.push(r.hostname.clone());
    words.extend([format!("--port={}", r.port), "--replace".to_owned()]);
    words.extend(
        r.backends
            .iter()
            .map(|b| format!("--backend={}", b.address)),
    );
    match r.engine() {
        pb::Engine::Default => {}
        _ => words.push(format!("--engine={}", view::engine(r.engine))),
    }
    if let Some(l7) = &r.l7 {
        words.push(format!("--certificate={}", l7.certificate));
        words.push(format!("--key={}", l7.key));
        words.push(format!("--protocol={}", view::protocol(l7)));
    }
    words.extend(options(r).into_iter().map(|option| format!("--{option}")));
    if !r.enabled {
        words.push("--disabled".to_owned());
    }
    let words = words.iter().map(|word| quoted(word));
    words.collect::<Vec<_>>().join(" ")
}
