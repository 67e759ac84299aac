//! Active checks: each backend of a route with a health check is asked by a task of its own, over a new connection of the kind that
//! requests use.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hyper::{
    Request, Uri,
    header::{self, HeaderValue},
};
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::body::Body;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    Watch,
    state::{Event, Why},
};
use crate::{
    connection::Context,
    hostname::Hostname,
    http::{ConnectError, Http1Error, Http2Error, Loaded, Sender, open, response::Malformed},
    router::LiveRoute,
    spec::{Check, HealthCheck, Protocol, RouteId},
    stats::BackendStats,
};

/// Default of `health.interval`.
const INTERVAL: Duration = Duration::from_secs(5);
/// Default of `health.timeout`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a start waits for first checks. Longer than [`TIMEOUT`], so that a backend that says nothing is known to be down.
const FIRST: Duration = Duration::from_millis(2500);
/// After a check that panicked.
const PAUSE: Duration = Duration::from_secs(1);
/// Checks at once, each with a descriptor. Others wait, which costs none of their time.
pub const MAX_CHECKS: usize = 64;
/// An interval is longer or shorter by up to this part: what began together drifts apart.
const JITTER: f64 = 0.1;
/// Bytes of a gRPC answer: it is an enum.
const MAX_ANSWER: usize = 1024;
/// How a check names itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static("mc-proxy health check");

type Backend = (RouteId, SocketAddr);

/// What is asked and how. While it stays the same the answers add up, whatever else of the route changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    health: HealthCheck,
    protocol: Protocol,
    ca: Option<PathBuf>,
    name: Option<Hostname>,
}

struct Running {
    question: Question,
    stats: Arc<BackendStats>,
    task: AbortHandle,
}

/// The checks of all routes' backends. Dropped, they end.
pub(crate) struct Checks {
    context: Arc<Context>,
    permits: Arc<Semaphore>,
    running: HashMap<Backend, Running>,
    tasks: JoinSet<()>,
    /// First checks under way.
    first: TaskTracker,
}

impl Checks {
    /// Begins to check the backends that there are.
    pub(crate) fn begin(context: Arc<Context>) -> Self {
        let mut checks = Self {
            permits: Arc::new(Semaphore::new(MAX_CHECKS)),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            first: TaskTracker::new(),
            context,
        };
        checks.follow();
        checks
    }

    /// Waits until each backend was asked once, or for so long that what a daemon does not know then, it shall learn as it serves.
    pub(crate) async fn first(&self) {
        self.first.close();
        let asked = timeout(FIRST, self.first.wait()).await;
        if asked.is_err() {
            let left = self.first.len();
            tracing::warn!(
                backends = left,
                "backends are used unchecked: their first checks have no result yet"
            );
        }
    }

    /// Checks backends as the routes are changed, until `stop`. All tasks end with it.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let context = Arc::clone(&self.context);
        loop {
            self.follow();
            tokio::select! {
                () = stop.cancelled() => break,
                () = context.router.changed.notified() => {}
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a health check failed; it begins anew");
                        // It begins at once, and may fail as fast.
                        stop.run_until_cancelled(sleep(PAUSE)).await;
                    }
                }
            }
        }
        self.tasks.shutdown().await;
    }

    /// Begins and ends checks so that they are those of the routes.
    fn follow(&mut self) {
        let mut wanted = BTreeMap::new();
        for route in self.context.router.all() {
            let Some(question) = question(&route) else {
                continue;
            };
            for backend in &route.backends {
                let key = (route.route.key.clone(), backend.address);
                wanted.insert(key, (question.clone(), Arc::clone(backend)));
            }
        }
        self.running.retain(|key, running| {
            let stays = !running.task.is_finished()
                && wanted.get(key).is_some_and(|(question, stats)| {
                    *question == running.question && Arc::ptr_eq(stats, &running.stats)
                });
            if !stays {
                running.task.abort();
                // What it found out no longer counts.
                running.stats.health.watch();
            }
            stays
        });
        for (key, (question, stats)) in wanted {
            if !self.running.contains_key(&key) {
                self.start(key, question, stats);
            }
        }
    }

    fn start(&mut self, key: Backend, question: Question, stats: Arc<BackendStats>) {
        let task = Task {
            context: Arc::clone(&self.context),
            permits: Arc::clone(&self.permits),
            route: key.0.clone(),
            question: question.clone(),
            watch: stats.health.watch(),
            stats: Arc::clone(&stats),
        };
        let task = self.tasks.spawn(task.run(self.first.token()));
        let running = Running {
            question,
            stats,
            task,
        };
        self.running.insert(key, running);
    }
}

fn question(route: &LiveRoute) -> Option<Question> {
    let l7 = route.route.l7.as_deref().filter(|_| route.route.enabled)?;
    Some(Question {
        health: l7.health.clone()?,
        protocol: l7.protocol,
        ca: l7.backend_ca.clone(),
        name: l7.backend_name.clone(),
    })
}

struct Task {
    context: Arc<Context>,
    permits: Arc<Semaphore>,
    route: RouteId,
    question: Question,
    watch: Watch,
    stats: Arc<BackendStats>,
}

impl Task {
    async fn run(self, first: TaskTrackerToken) {
        let interval = self.question.health.interval.unwrap_or(INTERVAL);
        self.check().await;
        drop(first);
        // Thousands of routes begin at once.
        sleep(interval.mul_f64(random())).await;
        loop {
            self.check().await;
            let jitter = 1.0 - JITTER + 2.0 * JITTER * random();
            sleep(interval.mul_f64(jitter)).await;
        }
    }

    async fn check(&self) {
        let Ok(_permit) = self.permits.acquire().await else {
            return;
        };
        // Looked up each time: its certificates may have been loaded anew. Without any, the route denies and there is nothing to check.
        let route = self.context.router.get(&self.route);
        let Some(loaded) = route.and_then(|route| route.tls.as_ref()?.current()) else {
            return;
        };
        let limit = self.limit();
        let asking = self.ask(&loaded);
        let result = match timeout(limit, asking).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Some(why))) => Err(why),
            Ok(Err(None)) => return,
            Err(_) => Err("timeout".into()),
        };
        if let Some(event) = self.stats.health.checked(self.watch, result) {
            self.log(event);
        }
    }

    fn log(&self, event: Event) {
        let (route, port) = (self.route.hostname.as_str(), self.route.port);
        let backend = self.stats.address;
        match event {
            Event::Up => tracing::info!(route, port, %backend, "a backend is up"),
            Event::Down(why) => {
                tracing::warn!(route, port, %backend, %why, "a backend is down");
            }
            // Checks eject nobody.
            Event::Ejected(..) => {}
        }
    }

    /// `Err(None)`: it could not be asked, which says nothing of it.
    async fn ask(&self, loaded: &Loaded) -> Result<(), Option<Why>> {
        let (backend, protocol) = (self.stats.address, self.question.protocol);
        let check = self.question.health.check;
        if check == Check::Tcp && protocol != Protocol::H2 {
            let connected = crate::connection::connect_to(backend).await;
            return connected.map(drop).map_err(|e| why(&(&e).into()));
        }
        let sender = open(backend, protocol, loaded).await;
        let sender = sender.map_err(|error| why(&error))?;
        if let Sender::Http2(http2) = &sender
            && !http2.settled().await
        {
            return Err(why(&ConnectError::NotHttp2));
        }
        match check {
            Check::Tcp => Ok(()),
            Check::Http => self.http(sender).await.map_err(Some),
            Check::Grpc => self.grpc(sender).await.map_err(Some),
        }
    }

    fn limit(&self) -> Duration {
        self.question.health.timeout.unwrap_or(TIMEOUT)
    }

    /// Whom a check asks for: the name in the backends' certificates, or the route's. A wildcard is nobody's name.
    fn authority(&self) -> String {
        let name = self.route.hostname.as_str();
        match &self.question.name {
            Some(name) => name.as_str().to_owned(),
            None if name.starts_with('*') => self.stats.address.to_string(),
            None => name.to_owned(),
        }
    }

    fn uri(&self, path: &str) -> Result<Uri, Why> {
        let uri = Uri::builder()
            .scheme("https")
            .authority(self.authority())
            .path_and_query(path);
        uri.build().map_err(|e| format!("bad path: {e}").into())
    }

    async fn http(&self, sender: Sender) -> Result<(), Why> {
        let uri = self.uri(self.question.health.path.as_deref().unwrap_or("/"))?;
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        (request.headers_mut()).insert(header::USER_AGENT, USER_AGENT);
        let (parts, ()) = request.into_parts();
        let limit = self.limit();
        // Its body is not waited for: the connection ends with the answer's head.
        let status = match sender {
            Sender::Http1(mut http1) => {
                let asked = http1.ask(&parts, self.authority().as_bytes(), limit).await;
                let response = asked.map_err(|error| match error {
                    Http1Error::TimedOut => "timeout".into(),
                    Http1Error::Malformed(other @ (Malformed::Http2 | Malformed::Tls)) => {
                        other.to_string().into()
                    }
                    error => broken(matches!(error, Http1Error::Malformed(_))),
                });
                response?.status()
            }
            Sender::Http2(mut http2) => {
                let asked = http2.send(&parts, &mut None::<Body>, limit).await;
                let response = asked.map_err(|error| match error {
                    Http2Error::TimedOut => "timeout".into(),
                    error => broken(matches!(error, Http2Error::Malformed(_))),
                });
                response?.status()
            }
        };
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(format!("http {}", status.as_u16()).into())
    }

    async fn grpc(&self, sender: Sender) -> Result<(), Why> {
        let Sender::Http2(http2) = sender else {
            return Err("grpc needs HTTP/2".into());
        };
        let limit = self.limit();
        let service = tower::service_fn(move |request: Request<Body>| {
            let lent = http2.lend();
            async move {
                let mut http2 = lent.ok_or(h2::Error::from(h2::Reason::REFUSED_STREAM))?;
                let (parts, body) = request.into_parts();
                http2.send(&parts, &mut Some(body), limit).await
            }
        });
        let mut client = HealthClient::with_origin(service, self.uri("/")?)
            .max_decoding_message_size(MAX_ANSWER);
        let service = self.question.health.service.clone().unwrap_or_default();
        match client.check(HealthCheckRequest { service }).await {
            Ok(answer) => match answer.into_inner().status() {
                ServingStatus::Serving => Ok(()),
                other => Err(format!("grpc {}", other.as_str_name()).into()),
            },
            Err(status) => Err(format!("grpc status {:?}", status.code()).into()),
        }
    }
}

fn why(error: &ConnectError) -> Option<Why> {
    let why = match error {
        ConnectError::Refused => "connect refused",
        ConnectError::Unreachable => "unreachable",
        ConnectError::TimedOut => "timeout",
        ConnectError::Tls(why) => return Some(format!("TLS: {why}").into()),
        ConnectError::Protocol => "does not speak the protocol",
        ConnectError::NotHttp2 => return Some(error.to_string().into()),
        ConnectError::Local => {
            tracing::debug!(%error, "a backend cannot be checked");
            return None;
        }
    };
    Some(why.into())
}

fn broken(malformed: bool) -> Why {
    if malformed {
        "malformed answer".into()
    } else {
        "no answer".into()
    }
}

/// From 0 to 1. The standard library's only source of chance seeds its hash maps.
fn random() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_spread_over_its_range() {
        let mut buckets = [0; 10];
        for _ in 0..10_000 {
            buckets[(random() * 10.0) as usize] += 1;
        }
        assert!(
            buckets.iter().all(|n| (800..1200).contains(n)),
            "{buckets:?}"
        );
    }
}
