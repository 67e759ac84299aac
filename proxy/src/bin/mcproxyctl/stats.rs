//! `mcproxyctl stats`: counters, and with `--watch` their change per second.

mod section;

use std::{
    collections::HashMap,
    hash::Hash,
    io::{self, IsTerminal as _},
    time::Duration,
};

use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Output, write_out},
    human,
};
use terminal_size::{Height, Width, terminal_size_of};

use self::section::{Ranked, Section, cut, deal};
use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

/// Rows of each table while watching without a terminal, the busiest first.
const WATCHED_ROWS: usize = 15;
/// Reading all counters of a full node takes milliseconds; oftener is load without insight.
const MIN_INTERVAL_MS: u32 = 200;
/// Longer is a job for Prometheus.
const MAX_INTERVAL_MS: u32 = 3_600_000;
/// Home, and erase to the end of the screen.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repeats, and shows the change per second
    #[arg(long, short)]
    watch: bool,
    /// Between two looks, 200ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "2s", requires = "watch", value_parser = interval)]
    interval: u32,
    /// Ends after this many looks [default: at Ctrl-C]
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn interval(text: &str) -> std::result::Result<u32, String> {
    match parse::milliseconds(text)? {
        ms @ MIN_INTERVAL_MS..=MAX_INTERVAL_MS => Ok(ms),
        _ => Err("must be between 200ms and 1h".to_owned()),
    }
}

impl Args {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let looks = match self.watch {
            true => self.count.unwrap_or(u64::MAX),
            false => 1,
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(self.interval.into()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = None;
        for _ in 0..looks {
            ticks.tick().await;
            let now = call(client.admin().await?.get_stats(pb::GetStatsRequest {})).await?;
            if out.json {
                match self.watch {
                    // One object a line, for jq.
                    true => write_out(&format!("{}\n", view::stats(&now)))?,
                    false => out.json(&view::stats(&now))?,
                }
            } else {
                let fit = if self.watch { watched() } else { Fit::All };
                let text = page(&now, before.as_ref(), fit);
                let head = match (fit, &before) {
                    (Fit::Screen { .. }, _) => CLEAR,
                    (_, Some(_)) => "\n",
                    (_, None) => "",
                };
                write_out(&format!("{head}{text}"))?;
            }
            before = Some(now);
        }
        Ok(())
    }
}

/// How much of the page is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fit {
    /// All of it.
    All,
    /// So many rows of each table.
    Rows(usize),
    /// What a terminal of this size holds, nothing wrapped.
    Screen { columns: usize, lines: usize },
}

/// The terminal as it is now; it may be resized between two looks.
fn watched() -> Fit {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| terminal_size_of(&stdout));
    match size.flatten() {
        Some((Width(columns), Height(lines))) => Fit::Screen {
            columns: columns.into(),
            // The last is the cursor's.
            lines: usize::from(lines).saturating_sub(1),
        },
        None => Fit::Rows(WATCHED_ROWS),
    }
}

/// Changes per second since an earlier look.
struct Rates {
    seconds: f64,
}

impl Rates {
    fn new(now: &pb::Stats, before: Option<&pb::Stats>) -> Self {
        let ms = before.map_or(0, |b| now.unix_ms.saturating_sub(b.unix_ms));
        Self {
            seconds: ms as f64 / 1000.0,
        }
    }

    /// `None` without an earlier look, or if the counter started anew.
    fn of(&self, now: u64, before: Option<u64>) -> Option<f64> {
        let change = now.checked_sub(before?)?;
        (self.seconds > 0.0).then(|| change as f64 / self.seconds)
    }
}

fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |r| format!("{r:.1}"))
}

fn bytes_per_second(rate: Option<f64>) -> String {
    rate.map_or_else(
        || "-".to_owned(),
        |r| format!("{}/s", human::bytes(r as u64)),
    )
}

/// An earlier look's items by key.
fn index<'a, T, K: Eq + Hash>(
    items: Option<&'a [T]>,
    key: impl Fn(&'a T) -> K,
) -> HashMap<K, &'a T> {
    items
        .unwrap_or_default()
        .iter()
        .map(|i| (key(i), i))
        .collect()
}

/// Everything as text.
pub(crate) fn page(now: &pb::Stats, before: Option<&pb::Stats>, fit: Fit) -> String {
    let rates = Rates::new(now, before);
    let mut sections = vec![
        routes(now, before, &rates),
        requests(now, before, &rates),
        errors(now, before, &rates),
        rules(now, before, &rates),
        verdicts(now, before, &rates),
        countries(now),
        denied(now, before, &rates),
    ];
    sections.retain(|s| !s.rows.is_empty());
    if sections.is_empty() {
        return "no routes, no rules, no traffic\n".to_owned();
    }
    let limits = match fit {
        Fit::All => vec![usize::MAX; sections.len()],
        Fit::Rows(rows) => vec![rows; sections.len()],
        Fit::Screen { lines, .. } => deal(&sections, lines),
    };
    let texts = sections.into_iter().zip(limits);
    let text: String = texts.map(|(s, limit)| s.text(limit, fit)).collect();
    let text = format!("{}\n", text.trim_end());
    match fit {
        Fit::Screen { columns, lines } => cut(&text, columns, lines),
        _ => text,
    }
}

fn routes(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let old = index(before.map(|b| &*b.routes), |r| {
        (r.port, r.hostname.as_str())
    });
    let rows = now.routes.iter().map(|r| {
        let old = old.get(&(r.port, r.hostname.as_str()));
        let connections = rates.of(r.connections, old.map(|o| o.connections));
        let received = rates.of(r.bytes_from_client, old.map(|o| o.bytes_from_client));
        let sent = rates.of(r.bytes_to_client, old.map(|o| o.bytes_to_client));
        let row = vec![
            r.hostname.clone(),
            r.port.to_string(),
            r.active.to_string(),
            r.connections.to_string(),
            per_second(connections),
            human::bytes(r.bytes_from_client),
            bytes_per_second(received),
            human::bytes(r.bytes_to_client),
            bytes_per_second(sent),
            r.errors.to_string(),
            r.engine.clone(),
        ];
        let busy = received.unwrap_or(0.0) + sent.unwrap_or(0.0) + connections.unwrap_or(0.0);
        (busy, row)
    });
    Section {
        title: "routes",
        header: &[
            "HOSTNAME",
            "PORT",
            "ACTIVE",
            "CONNECTIONS",
            "/S",
            "IN",
            "IN/S",
            "OUT",
            "OUT/S",
            "ERRORS",
            "ENGINE",
        ],
        spare: &["ENGINE", "IN", "OUT", "CONNECTIONS"],
        rows: rows.collect(),
    }
}

/// Requests that have ended, of routes whose TLS ends here.
fn requests(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let all = |r: &pb::RouteStats| r.requests.iter().map(|c| c.requests).sum::<u64>();
    let old = index(before.map(|b| &*b.routes), |r| {
        (r.port, r.hostname.as_str())
    });
    let routes = now.routes.iter().filter(|r| !r.requests.is_empty());
    let rows = routes.map(|r| {
        let old = old.get(&(r.port, r.hostname.as_str()));
        let rate = rates.of(all(r), old.map(|o| all(o)));
        let of = |class: &str| {
            let found = r.requests.iter().find(|c| c.class == class);
            found.map_or(0, |c| c.requests).to_string()
        };
        let row = vec![
            r.hostname.clone(),
            r.port.to_string(),
            all(r).to_string(),
            per_second(rate),
            of("2xx"),
            of("3xx"),
            of("4xx"),
            of("5xx"),
            of("none"),
        ];
        (rate.unwrap_or(0.0), row)
    });
    Section {
        title: "requests",
        header: &[
            "HOSTNAME",
            "PORT",
            "REQUESTS",
            "/S",
            "2XX",
            "3XX",
            "4XX",
            "5XX",
            "NO STATUS",
        ],
        spare: &["3XX", "NO STATUS", "2XX", "REQUESTS"],
        rows: rows.collect(),
    }
}

/// Why connections of routes ended, the clean ends apart.
fn errors(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let each = |stats| {
        let stats: &pb::Stats = stats;
        stats
            .routes
            .iter()
            .flat_map(|r| r.reasons.iter().map(move |e| (r, e)))
    };
    let old: HashMap<_, _> = before
        .into_iter()
        .flat_map(each)
        .map(|(r, e)| ((r.port, &*r.hostname, &*e.reason), e.connections))
        .collect();
    let rows = each(now).map(|(r, e)| {
        let key = (r.port, &*r.hostname, &*e.reason);
        let rate = rates.of(e.connections, old.get(&key).copied());
        let row = vec![
            r.hostname.clone(),
            r.port.to_string(),
            e.reason.clone(),
            e.connections.to_string(),
            per_second(rate),
        ];
        (e.connections as f64, row)
    });
    Section {
        title: "errors of routes",
        header: &["HOSTNAME", "PORT", "REASON", "CONNECTIONS", "/S"],
        spare: &[],
        rows: most_first(rows),
    }
}

fn rules(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let old = index(before.map(|b| &*b.rules), |r| (r.kind, r.cidr.as_str()));
    let rows = now.rules.iter().map(|r| {
        let old = old.get(&(r.kind, r.cidr.as_str()));
        let rate = rates.of(r.packets, old.map(|o| o.packets));
        let row = vec![
            view::kind(r.kind).to_owned(),
            r.cidr.clone(),
            view::rule_action(r).to_owned(),
            r.packets.to_string(),
            per_second(rate),
            human::bytes(r.bytes),
        ];
        (rate.unwrap_or(0.0), row)
    });
    Section {
        title: "rules",
        header: &["KIND", "ADDRESS", "ACTION", "PACKETS", "/S", "BYTES"],
        spare: &["BYTES", "ACTION"],
        rows: rows.collect(),
    }
}

fn verdicts(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let old = index(before.map(|b| &*b.verdicts), |v| {
        (v.verdict.as_str(), v.reason.as_str())
    });
    let rows = now.verdicts.iter().map(|v| {
        let old = old.get(&(v.verdict.as_str(), v.reason.as_str()));
        let rate = rates.of(v.packets, old.map(|o| o.packets));
        let row = vec![
            v.verdict.clone(),
            v.reason.clone(),
            v.packets.to_string(),
            per_second(rate),
            human::bytes(v.bytes),
        ];
        (rate.unwrap_or(0.0), row)
    });
    Section {
        title: "firewall",
        header: &["VERDICT", "REASON", "PACKETS", "/S", "BYTES"],
        spare: &["BYTES"],
        rows: rows.collect(),
    }
}

/// What fails most is what to look at, however long ago the most of it was.
fn most_first(rows: impl Iterator<Item = Ranked>) -> Vec<Ranked> {
    let mut rows: Vec<Ranked> = rows.collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows
}

fn countries(now: &pb::Stats) -> Section {
    let rows = now.countries.iter();
    let rows = rows.map(|c| {
        let row = vec![
            c.country.clone(),
            c.passed.to_string(),
            c.denied.to_string(),
        ];
        ((c.passed + c.denied) as f64, row)
    });
    Section {
        title: "countries",
        header: &["COUNTRY", "PASSED", "DENIED OR OBSERVED"],
        spare: &[],
        rows: rows.collect(),
    }
}

fn denied(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates) -> Section {
    let old = index(before.map(|b| &*b.denied), |d| d.reason.as_str());
    let rows = now.denied.iter().map(|d| {
        let old = old.get(d.reason.as_str());
        let rate = rates.of(d.connections, old.map(|o| o.connections));
        let row = vec![
            d.reason.clone(),
            d.connections.to_string(),
            per_second(rate),
        ];
        (d.connections as f64, row)
    });
    Section {
        title: "denied after the firewall",
        header: &["REASON", "CONNECTIONS", "/S"],
        spare: &[],
        rows: most_first(rows),
    }
}
