//! `mcproxyctl stats`: counters, and with `--watch` their change per second.

use std::{
    collections::HashMap,
    hash::Hash,
    io::{self, IsTerminal as _},
    time::Duration,
};

use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Output, render, write_out},
    human,
};

use crate::{
    Result,
    client::{Client, call},
    country, parse, view,
};

/// Rows of each table while watching, the busiest first: what fits a screen.
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
        let clear = self.watch && io::stdout().is_terminal();
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
                let rows = if self.watch { WATCHED_ROWS } else { usize::MAX };
                let text = page(&now, before.as_ref(), rows);
                let head = match before {
                    _ if clear => CLEAR,
                    Some(_) => "\n",
                    None => "",
                };
                write_out(&format!("{head}{text}"))?;
            }
            before = Some(now);
        }
        Ok(())
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

/// A row and how busy it is.
type Ranked = (f64, Vec<String>);

/// A titled table, the busiest first if not all fit.
fn section(title: &str, header: &[&str], mut rows: Vec<Ranked>, limit: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let hidden = rows.len().saturating_sub(limit);
    if hidden > 0 {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        rows.truncate(limit);
    }
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    let more = match hidden {
        0 => String::new(),
        n => format!("… and {n} more\n"),
    };
    format!("{title}\n{}\n{more}\n", render(header, rows))
}

/// Everything as text.
pub(crate) fn page(now: &pb::Stats, before: Option<&pb::Stats>, limit: usize) -> String {
    let rates = Rates::new(now, before);
    let text = [
        routes(now, before, &rates, limit),
        rules(now, before, &rates, limit),
        verdicts(now, before, &rates, limit),
        countries(now, limit),
        denied(now, before, &rates, limit),
    ];
    match text.concat() {
        text if text.is_empty() => "no routes, no rules, no traffic\n".to_owned(),
        text => format!("{}\n", text.trim_end()),
    }
}

fn routes(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates, limit: usize) -> String {
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
    let header = [
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
    ];
    section("routes", &header, rows.collect(), limit)
}

fn rules(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates, limit: usize) -> String {
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
    let header = ["KIND", "ADDRESS", "ACTION", "PACKETS", "/S", "BYTES"];
    section("rules", &header, rows.collect(), limit)
}

fn verdicts(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates, limit: usize) -> String {
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
    let header = ["VERDICT", "REASON", "PACKETS", "/S", "BYTES"];
    section("firewall", &header, rows.collect(), limit)
}

fn countries(now: &pb::Stats, limit: usize) -> String {
    let rows = now.countries.iter();
    let rows = rows.map(|c| ((c.passed + c.denied) as f64, country::row(c, false)));
    let header = ["COUNTRY", "ACTION", "PASSED", "DENIED"];
    section("countries", &header, rows.collect(), limit)
}

fn denied(now: &pb::Stats, before: Option<&pb::Stats>, rates: &Rates, limit: usize) -> String {
    let old = index(before.map(|b| &*b.denied), |d| d.reason.as_str());
    let rows = now.denied.iter().map(|d| {
        let old = old.get(d.reason.as_str());
        let rate = rates.of(d.connections, old.map(|o| o.connections));
        let row = vec![
            d.reason.clone(),
            d.connections.to_string(),
            per_second(rate),
        ];
        (rate.unwrap_or(0.0), row)
    });
    let header = ["REASON", "CONNECTIONS", "/S"];
    section("denied after the firewall", &header, rows.collect(), limit)
}
