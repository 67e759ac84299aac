//! `mcproxyctl firewall country`. The policy is set whole; each command reads it, changes it and sets it.

use std::collections::BTreeMap;

use clap::Subcommand;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::{Failure, Output, write_out};

use crate::{
    Result,
    client::{Client, call},
    parse::{self, Action},
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Denies countries; where only listed ones are let in, takes them off that list
    Block {
        /// Two-letter codes; ?? = addresses without a country
        #[arg(required = true, value_name = "CC", value_parser = parse::country)]
        countries: Vec<String>,
        /// What happens to their packets [default: drop]
        #[arg(long)]
        action: Option<Action>,
    },
    /// Removes blocks; where only listed countries are let in, adds to that list
    Allow {
        /// Two-letter codes; ?? = addresses without a country
        #[arg(required = true, value_name = "CC", value_parser = parse::country)]
        countries: Vec<String>,
        /// Lets in these countries and no others
        #[arg(long)]
        only: bool,
        /// What happens to packets of the others [default: drop]
        #[arg(long, requires = "only")]
        action: Option<Action>,
    },
    /// Lets all countries in
    Clear,
    /// Shows the policy
    #[command(visible_alias = "ls")]
    List,
}

impl Command {
    /// The policy after this command.
    pub(crate) fn apply(&self, mut policy: pb::CountryPolicy) -> Result<pb::CountryPolicy> {
        let drop = Action::default();
        match self {
            Self::Block {
                action: Some(_), ..
            } if policy.only => {
                return Err(Failure::usage(
                    "only listed countries are let in, and one action holds for all others",
                )
                .hint("set that one with `firewall country allow CC… --only --action …`"));
            }
            Self::Block { countries, .. } if policy.only => {
                policy.rules.retain(|r| !countries.contains(&r.country));
                if policy.rules.is_empty() {
                    return Err(Failure::usage("this would let no country in")
                        .hint("to let all in again: `firewall country clear`"));
                }
            }
            Self::Block { countries, action } => {
                list(&mut policy.rules, countries, action.unwrap_or(drop).wire());
            }
            Self::Allow {
                countries,
                only: true,
                action,
            } => {
                policy.only = true;
                policy.default_action = action.unwrap_or(drop).wire().into();
                policy.rules.clear();
                list(&mut policy.rules, countries, pb::Action::Unspecified);
            }
            Self::Allow { countries, .. } if policy.only => {
                list(&mut policy.rules, countries, pb::Action::Unspecified);
            }
            Self::Allow { countries, .. } => {
                policy.rules.retain(|r| !countries.contains(&r.country));
            }
            Self::Clear => policy = pb::CountryPolicy::default(),
            Self::List => {}
        }
        Ok(policy)
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let admin = client.admin().await?;
        let mut policy = call(admin.get_country_policy(pb::GetCountryPolicyRequest {})).await?;
        if !matches!(self, Self::List) {
            let wanted = self.apply(policy.clone())?;
            if !same(&policy, &wanted) {
                let request = pb::SetCountryPolicyRequest {
                    policy: Some(wanted),
                };
                policy = call(admin.set_country_policy(request)).await?;
            } else if !out.json {
                write_out("nothing has changed: the policy was this already\n")?;
            }
        }
        show(&policy, out)
    }
}

/// Whether two policies say the same.
pub(crate) fn same(a: &pb::CountryPolicy, b: &pb::CountryPolicy) -> bool {
    let said = |p: &pb::CountryPolicy| {
        // Of those that are let in the action means nothing.
        let rules = p.rules.iter();
        let rules = rules.map(|r| (r.country.clone(), if p.only { 0 } else { r.action }));
        let others = if p.only { p.default_action } else { 0 };
        (p.only, others, rules.collect::<BTreeMap<_, _>>())
    };
    said(a) == said(b)
}

/// Sets the action of countries, adding those that are missing.
fn list(rules: &mut Vec<pb::CountryRule>, countries: &[String], action: pb::Action) {
    for country in countries {
        rules.retain(|r| r.country != *country);
        rules.push(pb::CountryRule {
            country: country.clone(),
            action: action.into(),
            ..pb::CountryRule::default()
        });
    }
    rules.sort_by(|a, b| a.country.cmp(&b.country));
}

fn show(policy: &pb::CountryPolicy, out: Output) -> Result {
    if !out.json {
        if policy.only {
            let action = view::action(policy.default_action);
            write_out(&format!("only these are let in; all others: {action}\n"))?;
        }
        if !policy.database_loaded && !policy.rules.is_empty() {
            write_out("no GeoIP database is loaded: every address counts as ??\n")?;
        }
    }
    let listed = policy.rules.iter().map(|r| row(r, policy.only));
    let others = policy.others.iter().map(|r| row(r, false));
    let rows = listed.chain(others).collect();
    out.table(
        &["COUNTRY", "ACTION", "PASSED", "DENIED OR OBSERVED"],
        rows,
        "all countries are let in",
        &view::country_policy(policy),
    )?;
    Ok(())
}

pub(crate) fn row(r: &pb::CountryRule, only: bool) -> Vec<String> {
    let action = if only { "pass" } else { view::action(r.action) };
    vec![
        r.country.clone(),
        action.to_owned(),
        r.passed.to_string(),
        r.denied.to_string(),
    ]
}
