//! One connection, from accept to the end of its relay.
//!
//! accept -> PROXY header (if the listener trusts the peer) -> ClientHello -> route -> backend -> engine. Whatever
//! goes wrong before the relay resets the client and is counted by reason; nothing is ever answered in plain text.

mod backend;
mod log;
mod preface;
mod redirecting;
mod terminating;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use mc_edge_common::firewall::Verdict;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use backend::{acknowledge, connect_to};
use backend::{connect, connect_timeout, send_preface};
pub use log::Sampled;
use preface::read_preface;
use redirecting::redirect;
use terminating::Hello;
pub use terminating::{Terminating, moved};

use crate::{
    firewall::Firewall,
    hostname::Hostname,
    http,
    relay::{End, Engine, Job, Limits, Outcome, Side},
    router::{LiveRoute, Router},
    sources::{Counted, Sources},
    spec::{EngineKind, RouteId},
    stats::{Active, BackendGauge, Gauge, Reasons, RouteGauge},
};

/// Timeouts that a route may override.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Accept to complete ClientHello.
    pub client_hello: Duration,
    /// One attempt at one backend.
    pub connect: Duration,
    /// No byte for this long.
    pub idle: Duration,
    /// Whole connection.
    pub max_age: Option<Duration>,
}

/// What every connection needs.
pub struct Context {
    /// Hostname to route.
    pub router: Router,
    /// Judges clients that XDP cannot see.
    pub firewall: Firewall,
    /// What moves bytes.
    pub engines: Engines,
    /// Defaults.
    pub timeouts: Timeouts,
    /// Bounds the connections of each client.
    pub sources: Arc<Sources>,
    /// Places of connections to the backends of HTTP, which a client may have many of.
    pub backends: Arc<Semaphore>,
    /// The daemon stops: no further requests on connections that carry several.
    pub drain: CancellationToken,
    /// Ends every relay at once: the drain deadline.
    pub abort: CancellationToken,
    /// Connections denied before they had a route, by reason.
    pub denied: Reasons,
    /// Clients known by their PROXY header only, by verdict and reason of the firewall.
    pub judged: Reasons<(&'static str, &'static str)>,
    /// Requests on listeners that redirect, by port and status.
    pub redirects: Reasons<(u16, u16)>,
    pub(crate) redirect_log: Sampled,
    /// Connections open now, all listeners.
    pub active: Gauge,
    denied_log: Sampled,
    pub(crate) failure_log: Arc<Sampled>,
}

/// The engines of the relay.
pub struct Engines {
    /// Userland copy.
    pub copy: Arc<dyn Engine>,
    /// In-kernel redirect, or why the kernel does not offer it.
    pub sockmap: Result<Arc<dyn Engine>, String>,
    /// For routes that do not choose.
    pub default: EngineKind,
}

impl Engines {
    /// What a relayed route asks for.
    pub(crate) fn asked(&self, route: &LiveRoute) -> EngineKind {
        route.route.engine.unwrap_or(self.default)
    }
}

/// What of a listener concerns its connections.
#[derive(Debug)]
pub struct ListenerContext {
    /// Its port: half of the route key.
    pub port: u16,
    /// Sources that must send a PROXY header; empty = nobody may.
    pub trusted_proxies: Vec<IpNet>,
    /// Plain HTTP, redirected to https on this port.
    pub redirect: Option<u16>,
    /// Connections open now.
    pub active: Gauge,
}

/// A connection that is refused.
#[derive(Debug)]
struct Denied {
    reason: &'static str,
    sni: Option<Hostname>,
    route: Option<Arc<LiveRoute>>,
}

impl From<&'static str> for Denied {
    fn from(reason: &'static str) -> Self {
        Self {
            reason,
            sni: None,
            route: None,
        }
    }
}

/// A connection that has its route.
enum Routed {
    /// Bytes are relayed.
    Relay(Established),
    /// TLS ends here.
    Http(Hello),
}

/// A connection that has its backend and whose first bytes are on their way.
struct Established {
    route: Arc<LiveRoute>,
    backend: TcpStream,
    route_gauge: Active<RouteGauge>,
    backend_gauge: Active<BackendGauge>,
    counted: Counted,
}

impl Context {
    /// A context without connections.
    pub fn new(
        router: Router,
        firewall: Firewall,
        engines: Engines,
        timeouts: Timeouts,
        sources: Arc<Sources>,
        max_backends: u32,
    ) -> Self {
        Self {
            router,
            firewall,
            engines,
            timeouts,
            sources,
            backends: Arc::new(Semaphore::new(max_backends as usize)),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            denied: Reasons::default(),
            judged: Reasons::default(),
            redirects: Reasons::default(),
            redirect_log: Sampled::default(),
            active: Gauge::default(),
            denied_log: Sampled::default(),
            failure_log: Arc::default(),
        }
    }

    fn engine(&self, route: &LiveRoute) -> (&Arc<dyn Engine>, &'static str) {
        match (self.engines.asked(route), &self.engines.sockmap) {
            (EngineKind::Sockmap, Ok(sockmap)) => (sockmap, ""),
            (EngineKind::Sockmap, Err(_)) => (&self.engines.copy, "sockmap_unavailable"),
            (EngineKind::Copy, _) => (&self.engines.copy, ""),
        }
    }

    /// Judges a client that XDP could not see, and counts the verdict.
    fn admit(&self, client: IpAddr, port: u16) -> Result<(), Denied> {
        let admission = self.firewall.admit(client, port);
        for (_, reason) in &admission.observed {
            self.judged.count((Verdict::Observe.name(), reason.name()));
        }
        let decision = admission.decision;
        self.judged
            .count((decision.verdict.name(), decision.reason.name()));
        if decision.verdict == Verdict::Pass {
            Ok(())
        } else {
            Err("firewall".into())
        }
    }

    fn count_denied(&self, client: SocketAddr, port: u16, denied: &Denied) {
        match &denied.route {
            Some(route) => route.stats.errors.count(denied.reason),
            None => self.denied.count(denied.reason),
        }
        if self.denied_log.next() {
            let sni = denied.sni.as_ref().map_or("-", |s| s.as_str());
            tracing::info!(%client, port, sni, reason = denied.reason, "connection denied");
        }
    }
}

impl Context {
    /// A connection to a backend that failed.
    fn log_failure(&self, route: &LiveRoute, backend: SocketAddr, error: &dyn fmt::Display) {
        self.failure_log.failed(route, backend, error);
    }

    /// A connection that had its route and ended in an error.
    fn count_failure(&self, client: SocketAddr, route: &LiveRoute, failure: &http::Failure) {
        let http::Failure { reason, denied } = failure;
        route.stats.errors.count(reason);
        if let Some(why) = denied
            && self.denied_log.next()
        {
            let RouteId { hostname, port } = &route.route.key;
            tracing::info!(%client, port, route = %hostname, reason, %why, "connection denied");
        }
    }
}

/// Serves one accepted connection to its end, or until it is found to be HTTP: where that is served is up to the caller.
pub async fn serve(
    context: Arc<Context>,
    listener: Arc<ListenerContext>,
    mut client: TcpStream,
    peer: SocketAddr,
) -> Option<Terminating> {
    let active = Active::new(context.active.clone());
    let listener_active = Active::new(listener.active.clone());
    // Boxed, so that its buffers and states are gone while the relay runs.
    let mut source = peer;
    if let Some(to) = listener.redirect {
        Box::pin(redirect(context, &listener, client, source, to)).await;
        return None;
    }
    let established = Box::pin(establish(&context, &listener, &mut client, &mut source)).await;
    match established {
        Ok(Routed::Relay(established)) => relay(&context, client, established).await,
        Ok(Routed::Http(hello)) => {
            return Some(Terminating {
                context,
                client,
                source,
                hello,
                active: [active, listener_active],
            });
        }
        Err(denied) => {
            context.count_denied(source, listener.port, &denied);
            reset(client);
        }
    }
    None
}

async fn relay(context: &Context, client: TcpStream, established: Established) {
    let Established {
        route,
        backend,
        route_gauge,
        backend_gauge,
        counted,
    } = established;
    let (engine, missing) = context.engine(&route);
    acknowledge(&backend);
    let job = Job {
        client,
        backend,
        limits: Limits {
            idle: Some(route.route.idle_timeout.unwrap_or(context.timeouts.idle)),
            max_age: route.route.max_age.or(context.timeouts.max_age),
        },
        traffic: Arc::clone(&route.stats.traffic),
        cancel: context.abort.clone(),
    };
    let Outcome {
        end,
        engine_used: used,
        fallback,
    } = engine.relay(job).await;
    route
        .stats
        .engines
        .count((used, fallback.unwrap_or(missing)));
    if end != End::Closed {
        route.stats.errors.count(end.label());
    }
    if let End::Reset(Side::Backend) | End::Error(Side::Backend, _) = end {
        let backend = backend_gauge.of().0.address;
        context.log_failure(&route, backend, &end.label());
    }
    drop((route_gauge, backend_gauge, counted));
}

async fn establish(
    context: &Context,
    listener: &ListenerContext,
    client: &mut TcpStream,
    source: &mut SocketAddr,
) -> Result<Routed, Denied> {
    let accepted = Instant::now();
    let (preface, counted) = timeout(
        context.timeouts.client_hello,
        read_preface(context, listener, client, source),
    )
    .await
    .map_err(|_| Denied::from("client_hello_timeout"))??;
    let sni = preface.hello.sni.clone().ok_or("no_sni")?;
    let route = context
        .router
        .find(listener.port, &sni)
        .map_err(|miss| Denied {
            reason: miss.reason(),
            sni: Some(sni.clone()),
            route: None,
        })?;
    let denied = |reason| Denied {
        reason,
        sni: Some(sni.clone()),
        route: Some(Arc::clone(&route)),
    };
    let limit = route.route.max_connections.map_or(u64::MAX, u64::from);
    let route_gauge = Active::below(RouteGauge(Arc::clone(&route.stats)), limit)
        .ok_or_else(|| denied("max_connections"))?;
    route.stats.connections.fetch_add(1, Relaxed);
    route.stats.client_hello.observe(accepted.elapsed());
    if route.tls.is_some() {
        return Ok(Routed::Http(Hello {
            route,
            bytes: preface.bytes,
            route_gauge,
            counted,
        }));
    }
    let (mut backend, backend_gauge) = connect(context, &route).await.map_err(denied)?;
    let patience = connect_timeout(context, &route);
    let address = backend_gauge.of().0.address;
    let sending = send_preface(&mut backend, client, &route, &sni, preface);
    let sent = timeout(patience, sending).await;
    let sent = sent.map_err(|_| {
        let what = format_args!("took nothing for {patience:?}");
        context.log_failure(&route, address, &what);
        denied("backend_write_timeout")
    })?;
    sent.map_err(|e| {
        context.log_failure(&route, address, &e);
        denied("backend_write")
    })?;
    Ok(Routed::Relay(Established {
        route,
        backend,
        route_gauge,
        backend_gauge,
        counted,
    }))
}

/// Closes with an RST: the client learns at once, and no TIME_WAIT stays.
fn reset(client: TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
}
