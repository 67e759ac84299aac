//! kill -9 in the middle of a stream of changes of every kind: afterwards there is what was acknowledged, and at most
//! the one change besides that was not answered any more.

mod changes;

use std::{
    collections::BTreeMap,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use mc_proxy::{
    firewall::{action_code, ktime},
    spec::{Action, RuleKind},
    store::{State, Store},
};
use mc_testkit::process::Process;
use serde_json::Value;

use self::changes::{Change, Model, change};
use crate::world::World;

const ROUNDS: u32 = 8;
/// Changes of a round: more than are made before the kill.
const CHANGES: u32 = 90;
/// How far apart the three ends of a ban may be: asked for, stored, in the kernel.
const SAME_END: u64 = 1_000;

fn verb(action: Action) -> &'static str {
    match action {
        Action::Drop => "drop",
        Action::Reset => "reset",
        Action::Observe => "observe",
    }
}

/// What the database holds, as a [`Model`].
fn stored(state: &State) -> Model {
    let mut model = Model::new();
    for l in &state.listeners {
        let guarded = if l.guarded { "guarded" } else { "open" };
        model.insert(format!("listener {}", l.address), guarded.into());
    }
    for r in &state.routes {
        let to: Vec<_> = r.backends.iter().map(ToString::to_string).collect();
        let enabled = if r.enabled { "enabled" } else { "disabled" };
        let name = format!("route {}:{}", r.key.hostname, r.key.port);
        model.insert(name, format!("{} {enabled}", to.join(",")));
    }
    for r in &state.rules {
        let ttl = r.expires.and_then(|e| e.duration_since(r.created).ok());
        let ttl = ttl.map_or(String::new(), |t| format!(" {}s", t.as_secs()));
        let name = format!("{} {}", r.kind.name(), r.cidr);
        model.insert(name, format!("{}{ttl}", verb(r.action)));
    }
    for (country, action) in &state.countries.listed {
        model.insert(format!("country {country}"), verb(*action).into());
    }
    for (what, limit) in [
        ("connections", state.rates.connections),
        ("packets", state.rates.packets),
    ] {
        if let Some(l) = limit {
            let value = format!("{}/s burst {} {}", l.per_second, l.burst, verb(l.action));
            model.insert(format!("rate {what}"), value);
        }
    }
    model
}

/// What the daemon answers, as a [`Model`]. The life of a ban is not in it.
fn told(world: &World) -> Result<Model> {
    let mut model = Model::new();
    let rows = |args: &[&str]| -> Result<Vec<Value>> {
        Ok(world.json(args)?.as_array().context("a list")?.clone())
    };
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    for l in rows(&["listener", "list"])? {
        ensure!(l["listening"] == true, "{l}");
        let guarded = if l["guarded"] == true {
            "guarded"
        } else {
            "open"
        };
        model.insert(format!("listener {}", text(&l, "address")), guarded.into());
    }
    for r in rows(&["route", "list"])? {
        let to = text(&r["backends"][0], "address");
        let enabled = if r["enabled"] == true {
            "enabled"
        } else {
            "disabled"
        };
        let name = format!("route {}:{}", text(&r, "hostname"), r["port"]);
        model.insert(name, format!("{to} {enabled}"));
    }
    for r in rows(&["firewall", "list"])? {
        let name = format!("{} {}", text(&r, "kind"), text(&r, "cidr"));
        model.insert(name, text(&r, "action"));
    }
    let countries = world.json(&["firewall", "country", "list"])?;
    for c in countries["countries"].as_array().context("a list")? {
        let name = format!("country {}", text(c, "country"));
        model.insert(name, text(c, "action"));
    }
    let rates = world.json(&["firewall", "rate", "show"])?;
    for what in ["connections", "packets"] {
        let l = &rates[what];
        if let Some(rate) = l["per_second"].as_f64() {
            let value = format!("{rate}/s burst {} {}", l["burst"], text(l, "action"));
            model.insert(format!("rate {what}"), value);
        }
    }
    Ok(model)
}

/// What the kernel does: routes by `explain`, everything else by its maps.
fn in_force(world: &World, model: &Model) -> Result<()> {
    world.verified()?;
    for n in 0..4 {
        let host = format!("host{n}.example.org");
        let said = world.json(&["explain", "203.0.113.1", "--sni", &host])?;
        let route = model.get(&format!("route {host}:443"));
        let wanted = route.map_or("unknown_sni".to_owned(), |route| {
            match route.strip_suffix(" enabled") {
                Some(to) => to.to_owned(),
                None => "route_disabled".to_owned(),
            }
        });
        ensure!(said.to_string().contains(&wanted), "{wanted}: {said}");
        let banned = format!("198.51.100.{n}");
        let said = world.json(&["explain", &banned])?;
        let wanted = model.contains_key(&format!("ban {banned}/32"));
        ensure!((said["reason"] == "ban") == wanted, "{banned}: {said}");
        let blocked = format!("198.18.{n}.9");
        let said = world.json(&["explain", &blocked])?;
        let wanted = model.contains_key(&format!("block 198.18.{n}.0/24"));
        ensure!((said["reason"] == "block") == wanted, "{blocked}: {said}");
    }
    Ok(())
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// The ends of the bans as they stand in the kernel, by rule, in Unix time.
fn kernel_ends(world: &World) -> Result<BTreeMap<u32, u64>> {
    let pin = world.pin("HOSTS4");
    let map = aya::maps::Map::HashMap(aya::maps::MapData::from_pin(&pin)?);
    let hosts: aya::maps::HashMap<_, u32, mc_edge_common::firewall::HostEntry> = map.try_into()?;
    let (now, ktime) = (unix_ms(SystemTime::now()), ktime());
    hosts
        .iter()
        .map(|entry| entry.map_err(Into::into))
        .filter(|e| {
            e.as_ref()
                .map_or(true, |(_, e)| e.ban_action == action_code(Action::Drop))
        })
        .map(|entry: Result<_>| {
            let (_, entry) = entry?;
            let left = entry.ban_expires.saturating_sub(ktime) / 1_000_000;
            Ok((entry.ban_rule, now + left))
        })
        .collect()
}

/// What the writer printed of one change.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    tried: Option<u64>,
    done: Option<u64>,
}

/// Makes the changes one after another until one fails, which the kill is to be the cause of: somewhere in SQLite, between
/// SQLite and the maps, before the answer.
fn writer(world: &World, changes: &[Change]) -> Result<Process> {
    use std::fmt::Write as _;
    let socket = world.dir.path().join("admin.sock");
    let mut script = String::new();
    for (i, change) in changes.iter().enumerate() {
        writeln!(
            script,
            "echo try {i} $(date +%s%3N); {ctl} --socket {socket} {args} >/dev/null || {{ echo exit $?; exit; }}; echo ok {i} $(date +%s%3N)",
            ctl = env!("CARGO_BIN_EXE_mcproxyctl"),
            socket = socket.display(),
            args = change.args.join(" "),
        )?;
    }
    Process::start(Command::new("sh").args(["-c", &script]))
}

fn reports(output: &str, changes: usize) -> Vec<Report> {
    let mut reports = vec![Report::default(); changes];
    for line in output.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if let [what, i, at] = words[..]
            && let (Ok(i), Ok(at)) = (i.parse::<usize>(), at.parse())
        {
            match what {
                "try" => reports[i].tried = Some(at),
                "ok" => reports[i].done = Some(at),
                _ => {}
            }
        }
    }
    reports
}

/// Earliest and latest end that a ban can have, by its name.
type Ends = BTreeMap<String, (u64, u64)>;

fn note_ends(ends: &mut Ends, change: &Change, report: Report, until: u64) {
    if let (Some(ttl), Some(tried)) = (change.ttl, report.tried) {
        let ttl = ttl.as_millis() as u64;
        let latest = report.done.unwrap_or(until) + ttl;
        ends.insert(change.name.clone(), (tried + ttl, latest));
    }
}

fn ends_hold(world: &World, state: &State, ends: &Ends) -> Result<()> {
    let kernel = kernel_ends(world)?;
    for rule in state.rules.iter().filter(|r| r.kind == RuleKind::Ban) {
        let name = format!("ban {}", rule.cidr);
        let stored = rule.expires.map(unix_ms).context("a ban ends")?;
        let (from, to) = ends.get(&name).context("it was asked for")?;
        ensure!(
            (from - SAME_END..=to + SAME_END).contains(&stored),
            "{name} ends at {stored}, not between {from} and {to}"
        );
        let kernel = kernel.get(&rule.id).context("the kernel has it")?;
        ensure!(
            kernel.abs_diff(stored) <= SAME_END,
            "{name} ends at {stored} in the database, at {kernel} in the kernel"
        );
    }
    Ok(())
}

#[test]
fn kill_nine_at_any_point_keeps_exactly_what_was_acknowledged() -> Result<()> {
    let mut world = World::started("")?;
    let mut model = told(&world)?;
    let mut ends = Ends::new();
    for round in 0..ROUNDS {
        let mut planned = model.clone();
        let changes: Vec<_> = (0..CHANGES)
            .map(|i| {
                let change = change(&planned, round, i);
                change.apply(&mut planned);
                change
            })
            .collect();
        let mut writer = writer(&world, &changes)?;
        writer.wait_for_output(&format!("ok {} ", 7 + round * 8))?;
        world.daemon().kill9()?;
        writer.wait_exit()?;
        let killed = unix_ms(SystemTime::now());
        let output = writer.output();
        ensure!(
            !["exit 2", "exit 3", "exit 5"]
                .iter()
                .any(|e| output.contains(e)),
            "a change was refused: {output}"
        );
        let reports = reports(&output, changes.len());
        for (change, report) in changes.iter().zip(&reports) {
            if report.done.is_some() {
                change.apply(&mut model);
                note_ends(&mut ends, change, *report, killed);
            }
        }
        let open = reports.iter().position(|r| r.done.is_none());
        let unanswered = open.map(|i| (&changes[i], reports[i]));

        world
            .start()
            .with_context(|| format!("start after kill {round}"))?;
        let snapshot = world.dir.path().join(format!("snapshot-{round}"));
        let taken = world.command().arg("snapshot").arg(&snapshot).output()?;
        ensure!(taken.status.success(), "{taken:?}");
        let state = Store::open(&snapshot)?.load()?;
        let found = stored(&state);
        if found != model
            && let Some((change, report)) = unanswered
        {
            change.apply(&mut model);
            note_ends(&mut ends, change, report, killed);
        }
        ensure!(
            found == model,
            "round {round}: {found:#?}\nis not {model:#?}"
        );
        ends_hold(&world, &state, &ends)?;
        let mut told = told(&world)?;
        for (name, value) in &mut told {
            if name.starts_with("ban ") {
                value.clone_from(&model[name]);
            }
        }
        ensure!(told == model, "round {round}: {told:#?}\nis not {model:#?}");
        in_force(&world, &model)?;
    }
    Ok(())
}
