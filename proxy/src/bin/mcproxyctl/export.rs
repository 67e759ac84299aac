//! The file of `firewall export` and `firewall import`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use clap::ValueEnum;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Exit, Failure},
    human,
};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    parse::{self, Action},
    view,
};

/// The longest file read: all rules with long comments are a few MiB; a mistaken path is refused instead of read.
const MAX_FILE: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Toml,
    Json,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    /// As in the configuration; `rule` is what earlier versions wrote.
    #[serde(default, alias = "rule")]
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    kind: String,
    cidr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// What was left at the time of the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
}

pub(crate) fn write(rules: &[pb::Rule], format: Format) -> Result<String> {
    let rules = rules.iter().map(|r| Rule {
        kind: view::kind(r.kind).to_owned(),
        cidr: r.cidr.clone(),
        action: Some(view::rule_action(r).to_owned()).filter(|a| a != "-"),
        ttl: (r.ttl_s != 0).then(|| human::duration(Duration::from_secs(r.ttl_s))),
        comment: r.comment.clone(),
    });
    let file = Rules {
        rules: rules.collect(),
    };
    let failed = |e: &dyn std::fmt::Display| {
        Failure::new(Exit::Failure, format_args!("cannot write the rules: {e}"))
    };
    match format {
        Format::Toml => toml::to_string(&file).map_err(|e| failed(&e)),
        Format::Json => serde_json::to_string_pretty(&file)
            .map(|text| text + "\n")
            .map_err(|e| failed(&e)),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<pb::Rule>> {
    let at = path.display();
    let text = if path == Path::new("-") {
        read_all(io::stdin())
    } else {
        File::open(path).and_then(read_all)
    };
    let text = text.map_err(|e| Failure::usage(format_args!("cannot read {at}: {e}")))?;
    parse(&text).map_err(|e| Failure::usage(format_args!("{at}: {e}")).hint("nothing was imported"))
}

fn read_all(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    if from.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    Ok(text)
}

/// JSON if it starts like an object, else TOML.
pub(crate) fn parse(text: &str) -> std::result::Result<Vec<pb::Rule>, String> {
    let file: Rules = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|e| e.to_string())?,
        false => toml::from_str(text).map_err(|e| e.to_string())?,
    };
    let rules = file.rules.iter().enumerate().map(|(i, rule)| {
        wire(rule).map_err(|e| format!("rule {} ({} {}): {e}", i + 1, rule.kind, rule.cidr))
    });
    rules.collect()
}

fn wire(rule: &Rule) -> std::result::Result<pb::Rule, String> {
    let kind = match rule.kind.as_str() {
        "allow" => pb::RuleKind::Allow,
        "block" => pb::RuleKind::Block,
        "ban" => pb::RuleKind::Ban,
        _ => return Err("kind must be allow, block or ban".to_owned()),
    };
    let cidr = match kind {
        pb::RuleKind::Ban => parse::banned(&rule.cidr)?,
        _ => parse::network(&rule.cidr)?,
    };
    let action = match (&rule.action, kind) {
        (Some(_), pb::RuleKind::Allow) => return Err("an allow has no action".to_owned()),
        (Some(text), _) => Action::from_str(text, false)
            .map_err(|_| "action must be drop, reset or observe")?
            .wire(),
        (None, pb::RuleKind::Allow) => pb::Action::Unspecified,
        (None, _) => Action::default().wire(),
    };
    let ttl_s = match (&rule.ttl, kind) {
        (Some(ttl), pb::RuleKind::Ban) => parse::seconds(ttl)?.into(),
        (None, pb::RuleKind::Ban) => return Err("a ban needs a ttl, like ttl = \"10m\"".to_owned()),
        (Some(_), _) => return Err("only a ban has a ttl".to_owned()),
        (None, _) => 0,
    };
    Ok(pb::Rule {
        kind: kind.into(),
        cidr: cidr.to_string(),
        action: action.into(),
        ttl_s,
        comment: rule.comment.clone(),
        ..pb::Rule::default()
    })
}
