//! The Prometheus exposition, made from the live counters and kernel maps when it is scraped.
//!
//! What cannot be read (a pin that is no link, a map that is gone) is left out, logged, and told by `scrape_part_up`: the rest is
//! what an operator then needs most.

mod backends;
mod firewall;
pub(crate) mod http;
mod process;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    control::{Control, CountedRule},
    firewall::{CountryCount, VerdictCount},
    kernel::{LinkMode, LinkStatus},
    router::LiveRoute,
    spec::MapFill,
    stats::Histogram,
};

/// A label set made on the spot.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Reads everything from the running daemon at each scrape.
#[derive(Debug)]
struct Scrape(Arc<Control>);

/// The text of one scrape.
///
/// # Errors
/// If formatting fails.
pub fn render(control: &Arc<Control>) -> Result<String, fmt::Error> {
    let mut daemon = Registry::with_prefix("mc_proxy");
    daemon.register_collector(Box::new(Scrape(Arc::clone(control))));
    let mut process = Registry::default();
    process.register_collector(Box::new(process::Process));
    let mut text = String::new();
    encode_registry(&mut text, &daemon)?;
    encode_registry(&mut text, &process)?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// What is read from the kernel and the database, each part by itself.
#[derive(Default)]
struct Readings {
    interfaces: Option<Vec<LinkStatus>>,
    fills: Option<Vec<MapFill>>,
    verdicts: Option<Vec<VerdictCount>>,
    rules: Option<Vec<CountedRule>>,
    countries: Option<Vec<CountryCount>>,
    /// Part by part, whether it could be read.
    up: Vec<(&'static str, bool)>,
}

impl Readings {
    fn of(control: &Control) -> Self {
        let firewall = &control.firewall;
        let mut readings = Self::default();
        readings.interfaces = readings.part("interfaces", control.interfaces());
        readings.fills = readings.part("maps", control.map_fills());
        readings.verdicts = readings.part("verdicts", firewall.verdict_counters());
        readings.rules = readings.part("rules", control.rules());
        readings.countries = readings.part("countries", firewall.country_counters());
        readings
    }

    fn part<T, E: std::error::Error>(
        &mut self,
        part: &'static str,
        read: Result<T, E>,
    ) -> Option<T> {
        self.up.push((part, read.is_ok()));
        read.inspect_err(|error| {
            let error = mcdsl::cli::chain(error);
            tracing::error!(part, error, "cannot read what is to be scraped");
        })
        .ok()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let routes = self.0.context.router.all();
        let keys: Vec<_> = routes
            .iter()
            .map(|r| {
                (
                    r.route.key.port.to_string(),
                    r.route.key.hostname.to_string(),
                )
            })
            .collect();
        let routes: Vec<_> = routes.iter().zip(&keys).collect();
        self.routes(&mut encoder, &routes)?;
        self.route_reasons(&mut encoder, &routes)?;
        histogram(
            &mut encoder,
            "client_hello_seconds",
            "Accept to complete ClientHello",
            &routes,
            |r| &r.stats.client_hello,
        )?;
        histogram(
            &mut encoder,
            "backend_connect_seconds",
            "Connecting to a backend",
            &routes,
            |r| &r.stats.connect,
        )?;
        http::encode(&mut encoder, &routes)?;
        backends::encode(&mut encoder, &routes)?;
        let readings = Readings::of(&self.0);
        self.daemon(&mut encoder, &readings)?;
        firewall::encode(&mut encoder, &self.0, &readings)?;
        let mut m = gauge(
            &mut encoder,
            "scrape_part_up",
            "1 = the part could be read; 0 = its metrics are missing, the log says why",
        )?;
        for (part, up) in readings.up {
            set(&mut m, &vec![("part", part)], u64::from(up))?;
        }
        Ok(())
    }
}

type Keyed<'a> = (&'a Arc<LiveRoute>, &'a (String, String));

fn labels<'a>(key: &'a (String, String)) -> Labels<'a> {
    vec![("port", &key.0), ("hostname", &key.1)]
}

impl Scrape {
    fn routes(&self, encoder: &mut DescriptorEncoder<'_>, routes: &[Keyed<'_>]) -> fmt::Result {
        let mut m = counter(encoder, "connections", "Connections routed")?;
        for (route, key) in routes {
            add(&mut m, &labels(key), route.stats.connections.load(Relaxed))?;
        }
        let mut m = gauge(encoder, "connections_active", "Connections open now")?;
        for (route, key) in routes {
            set(&mut m, &labels(key), route.stats.active.load(Relaxed))?;
        }
        let mut m = counter(encoder, "bytes", "Bytes relayed")?;
        for (route, key) in routes {
            let traffic = &route.stats.traffic;
            for (direction, bytes) in [
                ("from_client", &traffic.from_client),
                ("to_client", &traffic.to_client),
            ] {
                let mut labels = labels(key);
                labels.push(("direction", direction));
                add(&mut m, &labels, bytes.load(Relaxed))?;
            }
        }
        Ok(())
    }

    fn route_reasons(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        routes: &[Keyed<'_>],
    ) -> fmt::Result {
        let mut m = counter(
            encoder,
            "errors",
            "Connections of a route that ended in an error",
        )?;
        for (route, key) in routes {
            for (reason, count) in route.stats.errors.snapshot() {
                let mut labels = labels(key);
                labels.push(("reason", reason));
                add(&mut m, &labels, count)?;
            }
        }
        let mut m = counter(
            encoder,
            "engine",
            "Relays by engine, and why another than the asked one was used",
        )?;
        for (route, key) in routes {
            for ((engine, fallback), count) in route.stats.engines.snapshot() {
                let mut labels = labels(key);
                labels.extend([("engine", engine), ("fallback", fallback)]);
                add(&mut m, &labels, count)?;
            }
        }
        Ok(())
    }

    fn daemon(&self, encoder: &mut DescriptorEncoder<'_>, readings: &Readings) -> fmt::Result {
        let mut m = gauge(encoder, "build_info", "1; the labels say what runs")?;
        set(&mut m, &vec![("version", env!("CARGO_PKG_VERSION"))], 1)?;
        let mut m = counter(
            encoder,
            "denied",
            "Connections denied before they had a route",
        )?;
        for (reason, count) in self.0.context.denied.snapshot() {
            add(&mut m, &vec![("reason", reason)], count)?;
        }
        let mut m = counter(
            encoder,
            "redirects",
            "Requests on listeners that redirect to https, by the status of the answer",
        )?;
        for ((port, status), count) in self.0.context.redirects.snapshot() {
            let (port, status) = (port.to_string(), status.to_string());
            let labels: Labels<'_> = vec![("port", &port), ("status", &status)];
            add(&mut m, &labels, count)?;
        }
        let mut m = gauge(
            encoder,
            "listener_connections_active",
            "Connections open now by listener",
        )?;
        for state in self.0.listeners.list() {
            set(
                &mut m,
                &vec![("address", state.listener.address.to_string().as_str())],
                state.active,
            )?;
        }
        let mut m = gauge(encoder, "listener_up", "1 = the listener accepts")?;
        for state in self.0.listeners.list() {
            let up = u64::from(state.error.is_none());
            set(
                &mut m,
                &vec![("address", state.listener.address.to_string().as_str())],
                up,
            )?;
        }
        let mut m = gauge(
            encoder,
            "worker_connections_active",
            "Connections open now by thread",
        )?;
        for (worker, load) in self.0.listeners.loads().into_iter().enumerate() {
            set(&mut m, &vec![("worker", worker.to_string().as_str())], load)?;
        }
        let predecessors = self.0.predecessors();
        let mut m = gauge(
            encoder,
            "predecessors_draining",
            "Daemons that this one has replaced and that still drain",
        )?;
        set(&mut m, &Labels::new(), predecessors.len() as u64)?;
        let mut m = gauge(
            encoder,
            "predecessors_connections_active",
            "Connections that they still hold, by what they said last",
        )?;
        let held = predecessors.iter().filter_map(|p| p.connections).sum();
        set(&mut m, &Labels::new(), held)?;
        let mut m = gauge(
            encoder,
            "interface_attached",
            "1 = the firewall filters the interface",
        )?;
        for link in readings.interfaces.iter().flatten() {
            let labels: Labels<'_> =
                vec![("interface", &link.interface), ("mode", link.mode.name())];
            set(&mut m, &labels, u64::from(link.mode != LinkMode::Detached))?;
        }
        let mut m = gauge(encoder, "geoip_loaded", "1 = a GeoIP database is in force")?;
        set(
            &mut m,
            &Labels::new(),
            u64::from(self.0.geoip.status().table.is_some()),
        )?;
        self.mcias(encoder)?;
        let mut m = gauge(encoder, "map_entries", "Entries of a kernel map in use")?;
        for fill in readings.fills.iter().flatten() {
            set(&mut m, &vec![("map", fill.map.as_str())], fill.used)?;
        }
        let mut m = gauge(
            encoder,
            "map_capacity",
            "Entries that a kernel map can hold",
        )?;
        for fill in readings.fills.iter().flatten() {
            set(&mut m, &vec![("map", fill.map.as_str())], fill.capacity)?;
        }
        Ok(())
    }

    /// Nothing if no MCIAS is configured.
    fn mcias(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.config.mcias.is_none() {
            return Ok(());
        }
        let state = self.0.bans_watched.state();
        let mut m = gauge(encoder, "mcias_connected", "1 = bans come from MCIAS")?;
        set(&mut m, &Labels::new(), u64::from(state.since.is_some()))?;
        let mut m = counter(
            encoder,
            "mcias_bans_taken",
            "Bans of MCIAS that were put in force",
        )?;
        add(&mut m, &Labels::new(), state.taken)
    }
}

fn counter<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &'a str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn gauge<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &'a str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn add(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    metric
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn set(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(&value)
}

/// One histogram per route that had a connection: thousands of empty ones help nobody.
fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &[Keyed<'_>],
    of: impl Fn(&LiveRoute) -> &Histogram,
) -> fmt::Result {
    let mut m = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (route, key) in routes {
        let (sum, count, buckets) = of(route).snapshot();
        if count > 0 {
            m.encode_family(&labels(key))?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}
