//! The stream of changes, of every kind in turn.

use std::{collections::BTreeMap, time::Duration};

/// What is declared, name to value.
pub(super) type Model = BTreeMap<String, String>;

/// One command and the one entry that it sets or takes out.
pub(super) struct Change {
    pub(super) args: Vec<String>,
    pub(super) name: String,
    pub(super) value: Option<String>,
    /// Of a ban.
    pub(super) ttl: Option<Duration>,
}

impl Change {
    pub(super) fn apply(&self, model: &mut Model) {
        match &self.value {
            Some(value) => model.insert(self.name.clone(), value.clone()),
            None => model.remove(&self.name),
        };
    }
}

/// The `i`th change of a round; what it takes out is there.
pub(super) fn change(model: &Model, round: u32, i: u32) -> Change {
    let n = i / 6 % 4;
    let has = |name: &str| model.get(name).cloned();
    let new = |args: String, name: String, value: Option<String>| Change {
        args: args.split(' ').map(str::to_owned).collect(),
        name,
        value,
        ttl: None,
    };
    match i % 6 {
        0 => {
            let host = format!("host{n}.example.org");
            let name = format!("route {host}:443");
            let (edit, remove) = (format!("{host} --port 443"), i % 5 == 4);
            match has(&name) {
                Some(_) if remove => new(format!("route remove {edit}"), name, None),
                Some(now) if i % 5 == 3 => {
                    let (verb, from, to) = match now.ends_with("enabled") {
                        true => ("disable", "enabled", "disabled"),
                        false => ("enable", "disabled", "enabled"),
                    };
                    let value = Some(now.replace(from, to));
                    new(format!("route {verb} {edit}"), name, value)
                }
                _ => {
                    let to = format!("10.9.2.2:{}", 1000 + round * 100 + i);
                    let value = Some(format!("{to} enabled"));
                    new(
                        format!("route add {edit} --replace --backend {to}"),
                        name,
                        value,
                    )
                }
            }
        }
        1 => {
            let country = ["DE", "FR", "US", "JP"][n as usize];
            let name = format!("country {country}");
            let command = "firewall country";
            match has(&name) {
                Some(_) => new(format!("{command} allow {country}"), name, None),
                None => new(
                    format!("{command} block {country} --action reset"),
                    name,
                    Some("reset".into()),
                ),
            }
        }
        2 => {
            let what = ["connections", "packets"][(n % 2) as usize];
            let name = format!("rate {what}");
            let command = format!("firewall rate set {what}");
            match has(&name) {
                Some(_) if n > 1 => new(format!("{command} off"), name, None),
                _ => {
                    let rate = 1000 + round * 100 + i;
                    let value = format!("{rate}/s burst {rate} drop");
                    new(format!("{command} {rate}/s"), name, Some(value))
                }
            }
        }
        3 => {
            let name = format!("ban 198.51.100.{n}/32");
            match has(&name) {
                Some(_) if i % 5 == 4 => new(format!("firewall unban 198.51.100.{n}"), name, None),
                _ => {
                    let ttl = 3600 + u64::from(round * 100 + i);
                    let command = format!("firewall ban 198.51.100.{n} --ttl {ttl}s --replace");
                    Change {
                        ttl: Some(Duration::from_secs(ttl)),
                        ..new(command, name, Some(format!("drop {ttl}s")))
                    }
                }
            }
        }
        4 => {
            let address = format!("0.0.0.0:{}", 8000 + n);
            let name = format!("listener {address}");
            match has(&name) {
                Some(_) => new(format!("listener remove {address}"), name, None),
                None => new(
                    format!("listener add {address}"),
                    name,
                    Some("guarded".into()),
                ),
            }
        }
        _ => {
            let cidr = format!("198.18.{n}.0/24");
            let name = format!("block {cidr}");
            match has(&name) {
                Some(_) => new(format!("firewall unblock {cidr}"), name, None),
                None => new(format!("firewall block {cidr}"), name, Some("drop".into())),
            }
        }
    }
}
