//! `mcproxyctl backend`.

use std::time::Duration;

use clap::Subcommand;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Exit, Failure, Output},
    human,
};
use serde_json::{Value, json};

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the backends of all routes: their health, why and since when
    #[command(visible_alias = "ls")]
    List {
        /// Only those of the route with this hostname
        #[arg(value_parser = parse::hostname)]
        hostname: Option<String>,
        /// Only those of routes on this port
        #[arg(long)]
        port: Option<u16>,
    },
}

/// Of a backend's row, where the route is known.
pub(crate) const COLUMNS: [&str; 7] = [
    "BACKEND",
    "HEALTH",
    "WHY",
    "SINCE",
    "ACTIVE",
    "CONNECTIONS",
    "FAILURES",
];

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let Self::List { hostname, port } = self;
        let admin = client.admin().await?;
        let mut routes = call(admin.list_routes(pb::ListRoutesRequest {}))
            .await?
            .routes;
        routes.retain(|r| {
            port.is_none_or(|port| r.port == u32::from(port))
                && hostname.as_ref().is_none_or(|name| r.hostname == *name)
        });
        if let (Some(name), true) = (hostname, routes.is_empty()) {
            let on = port.map(|p| format!(" on port {p}")).unwrap_or_default();
            let failure = Failure::new(Exit::NotFound, format_args!("no route {name}{on}"));
            return Err(failure.hint("`mcproxyctl route list` shows all"));
        }
        let rows = routes.iter().flat_map(rows).collect();
        let columns = [&["ROUTE"], &COLUMNS[..]].concat();
        let empty = "no routes, and so no backends";
        out.table(&columns, rows, empty, &all(&routes))?;
        Ok(())
    }
}

fn rows(r: &pb::Route) -> impl Iterator<Item = Vec<String>> {
    r.backends
        .iter()
        .map(move |b| [vec![format!("{}:{}", r.hostname, r.port)], row(b)].concat())
}

fn all(routes: &[pb::Route]) -> Value {
    let of = |r: &pb::Route| {
        let one = |b: &pb::Backend| {
            let mut value = view::backend(b);
            value["hostname"] = json!(r.hostname);
            value["port"] = json!(r.port);
            value
        };
        r.backends.iter().map(one).collect::<Vec<_>>()
    };
    routes.iter().flat_map(of).collect()
}

pub(crate) fn row(b: &pb::Backend) -> Vec<String> {
    let health = b.health.clone().unwrap_or_default();
    let since = health.since_ms.map(|ms| {
        let age = human::duration_short(Duration::from_secs(ms / 1000));
        format!("{age} ago")
    });
    let dash = || "-".to_owned();
    vec![
        b.address.clone(),
        state(&health),
        view::text(&health.reason).map_or_else(dash, str::to_owned),
        since.unwrap_or_else(dash),
        b.active_connections.to_string(),
        b.connections.to_string(),
        b.connect_failures.to_string(),
    ]
}

fn state(health: &pb::BackendHealth) -> String {
    match health.state() {
        pb::HealthState::Ejected => {
            // Up: one with less than a second left is not back yet.
            let left = Duration::from_secs(health.ejected_ms.div_ceil(1000));
            format!("ejected, {} left", human::duration_short(left))
        }
        pb::HealthState::SlowStart => format!("slow start, {} %", health.share_percent),
        _ => view::health_state(health).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_and_why() {
        let unchecked = pb::BackendHealth::default();
        let of = |state: pb::HealthState, reason: &str, since: u64| pb::BackendHealth {
            state: state.into(),
            reason: reason.into(),
            since_ms: Some(since),
            ..unchecked.clone()
        };
        for (health, shown) in [
            (unchecked.clone(), ["unchecked", "-", "-"]),
            (
                of(pb::HealthState::Up, "2 checks passed", 90_900),
                ["up", "2 checks passed", "1m30s ago"],
            ),
            (
                of(pb::HealthState::Down, "http 503", 400),
                ["down", "http 503", "0s ago"],
            ),
            (
                pb::BackendHealth {
                    ejected_ms: 11_001,
                    ..of(pb::HealthState::Ejected, "5 requests failed", 8_999)
                },
                ["ejected, 12s left", "5 requests failed", "8s ago"],
            ),
            (
                pb::BackendHealth {
                    share_percent: 40,
                    ..of(pb::HealthState::SlowStart, "2 checks passed", 4_000)
                },
                ["slow start, 40 %", "2 checks passed", "4s ago"],
            ),
        ] {
            let backend = pb::Backend {
                address: "10.0.0.2:80".into(),
                health: Some(health),
                ..pb::Backend::default()
            };
            let row = row(&backend);
            assert_eq!(row[1..4], shown, "{}", shown[0]);
        }
    }
}
