//! `status`: the daemon, how the last load of everything that is loaded again went, and what to look at.

use std::time::Duration;

use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Output, write_out},
    human,
};

use crate::{
    Result,
    client::{Client, call},
    view,
};

/// `mcproxyctl status`.
pub(crate) async fn run(client: &mut Client, out: Output) -> Result {
    let status = call(client.admin().await?.get_status(pb::GetStatusRequest {})).await?;
    if out.json {
        return Ok(out.json(&view::status(&status))?);
    }
    let lines = lines(&status);
    let lines = lines
        .iter()
        .map(|[name, text]| format!("{name:<12} {text}\n"));
    write_out(&lines.collect::<String>())?;
    if !status.certificates.is_empty() {
        write_out("\n")?;
        let rows = status.certificates.iter().map(certificate_row).collect();
        let header = ["CERTIFICATE OF", "PORT", "ENDS", "LAST LOAD", "RESULT"];
        out.table(&header, rows, "", &())?;
    }
    if !status.maps.is_empty() {
        write_out("\n")?;
        let rows = status.maps.iter().chain(&status.rules).map(map_row);
        out.table(
            &["MAP", "USED", "CAPACITY", "FULL"],
            rows.collect(),
            "",
            &(),
        )?;
    }
    Ok(())
}

/// What there is one of, and the warnings last, where they are seen.
pub(crate) fn lines(status: &pb::Status) -> Vec<[String; 2]> {
    let uptime = human::duration_short(Duration::from_secs(status.uptime_s));
    let mut rows = vec![
        (
            "mc-proxy",
            format!("{}, pid {}, up {uptime}", status.version, status.pid),
        ),
        ("state", state(status.draining.as_ref())),
        ("connections", status.active_connections.to_string()),
    ];
    for p in &status.predecessors {
        let what = p.connections.map_or_else(
            || "connections".to_owned(),
            |n| human::count(n, "connection"),
        );
        let text = format!("pid {}, replaced by an upgrade, drains {what}", p.pid);
        rows.push(("predecessor", text));
    }
    rows.extend([
        ("engine", view::engine(status.default_engine).to_owned()),
        (
            "config",
            format!(
                "{}, read {}",
                status.config,
                human::utc(status.configured_unix_s * 1000)
            ),
        ),
        ("database", status.database.clone()),
        ("pins", status.pin_path.clone()),
        ("geoip", geoip(status.geoip.as_ref())),
        ("reload", reloaded(status.reload.as_ref())),
    ]);
    rows.extend(status.mcias.as_ref().map(|m| ("mcias", mcias(m))));
    for i in &status.interfaces {
        let detail = view::text(&i.detail).map(|d| format!(" ({d})"));
        let text = format!("{}: {}{}", i.name, i.mode, detail.unwrap_or_default());
        rows.push(("interface", text));
    }
    let warnings = status.warnings.iter().map(|w| ("warning", w.clone()));
    rows.extend(warnings);
    rows.into_iter()
        .map(|(name, text)| [name.to_owned(), text])
        .collect()
}

fn state(draining: Option<&pb::Draining>) -> String {
    draining.map_or_else(
        || "serving".to_owned(),
        |d| {
            format!(
                "draining since {}: nothing new is accepted; what is left is cut at {}",
                human::utc(d.since_unix_s * 1000),
                human::utc(d.until_unix_s * 1000)
            )
        },
    )
}

fn geoip(status: Option<&pb::GeoipStatus>) -> String {
    let Some(g) = status.filter(|g| !g.path.is_empty()) else {
        return "not configured".to_owned();
    };
    let state = match g.loaded {
        true => format!(
            "{} ({}, {} IPv4 and {} IPv6 networks), loaded {}",
            g.path,
            g.database_type,
            g.ipv4_networks,
            g.ipv6_networks,
            human::utc(g.loaded_unix_s * 1000)
        ),
        false => format!("{} is not loaded", g.path),
    };
    match view::text(&g.error) {
        // Why is among the warnings.
        Some(_) => format!(
            "{state}; the load of {} failed",
            human::utc(g.tried_unix_s * 1000)
        ),
        None => format!("{state}: ok"),
    }
}

/// Whether bans come from there.
fn mcias(m: &pb::MciasStatus) -> String {
    let error = view::text(&m.error);
    let at = |unix_s: Option<i64>| human::utc(unix_s.unwrap_or_default().saturating_mul(1000));
    let taken = format!(
        "{} taken since the start",
        human::count(m.bans_taken, "ban")
    );
    let how = match (m.connected_unix_s, error) {
        (Some(since), None) => format!("bans come since {}", at(Some(since))),
        (Some(since), Some(error)) => format!(
            "bans come since {}; not at {}: {error}",
            at(Some(since)),
            at(m.failed_unix_s)
        ),
        (None, Some(error)) => format!("no bans come; tried at {}: {error}", at(m.failed_unix_s)),
        (None, None) => "no bans come yet".to_owned(),
    };
    format!("{}: {how}; {taken}", m.server)
}

fn reloaded(reload: Option<&pb::Reload>) -> String {
    let Some(reload) = reload else {
        return "none since the start".to_owned();
    };
    let at = human::utc(reload.at_unix_s * 1000);
    match reload.problems.as_slice() {
        [] => format!("{at}: ok"),
        problems => format!("{at}: {}", problems.join("; ")),
    }
}

pub(crate) fn certificate_row(c: &pb::Certificate) -> Vec<String> {
    let status = c.status.clone().unwrap_or_default();
    let ends = status.not_after_unix_s.map_or_else(
        || "none in force".to_owned(),
        |end| format!("{} ({})", human::utc(end * 1000), human::when(end)),
    );
    let tried = status.tried_unix_s.or(status.loaded_unix_s);
    let result = match (view::text(&status.error), status.loaded_unix_s) {
        (None, _) => "ok".to_owned(),
        (Some(error), None) => error.to_owned(),
        (Some(error), Some(loaded)) => format!(
            "{error}; the one loaded {} stays in force",
            human::utc(loaded * 1000)
        ),
    };
    vec![
        c.hostname.clone(),
        c.port.to_string(),
        ends,
        tried.map_or_else(|| "-".to_owned(), |at| human::utc(at * 1000)),
        result,
    ]
}

pub(crate) fn map_row(m: &pb::MapFill) -> Vec<String> {
    let full = match m.capacity {
        0 => "-".to_owned(),
        capacity => format!("{:.1} %", m.used as f64 * 100.0 / capacity as f64),
    };
    let name = match m.name.as_str() {
        "rules" => "rules of all kinds",
        name => name,
    };
    vec![
        name.to_owned(),
        m.used.to_string(),
        m.capacity.to_string(),
        full,
    ]
}
