//! `metacrypt policy`: who may do what behind the seal.

use std::future::ready;

use clap::{ArgGroup, Subcommand};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{CommandLine, Exit, Failure, Output, call, prompt, view, write_out};
use serde_json::json;
use tonic::{Code, Status};

use super::{Client, Result, json, json_list};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the rules, in the order in which they are asked
    ///
    /// The highest priority comes first, at the same one deny before allow. The first that fits decides; if none fits, it is refused. Administrators may do
    /// everything, which is in the audit log as such.
    #[command(visible_alias = "ls")]
    List,
    /// Shows a rule, and the command that makes it as it is
    Show {
        /// The rule
        name: String,
    },
    /// Adds a rule, or replaces the one of that name as a whole
    Put(Put),
    /// Removes a rule
    #[command(visible_alias = "rm")]
    Delete {
        /// The rule
        name: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Whether somebody could do something, by which rule, and why not by the others; nothing is done
    Explain(Explain),
    /// Whether the rules let you do something; nothing is done. Ends with 0 if so, and with 1 if not
    ///
    /// What is judged on several (a profile and its issuer, all recipients) is to be asked for each.
    CanI {
        /// What, like `transit:encrypt`; `metacrypt mount engines` shows them
        #[arg(long)]
        action: String,
        /// On what, like `transit/keys/backup`
        #[arg(long)]
        resource: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("effect").required(true).args(["allow", "deny"]))]
pub(crate) struct Put {
    /// The rule
    name: String,
    /// Allows what it fits
    #[arg(long)]
    allow: bool,
    /// Refuses what it fits. No rule binds administrators, who may do everything
    #[arg(long)]
    deny: bool,
    /// Higher ones are asked first; at the same one deny wins
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Everybody, where no other option says who
    #[arg(long, conflicts_with_all = ["role", "account_type", "account", "tag"])]
    anyone: bool,
    /// Accounts with one of these roles; repeatable. Of --role, --account-type, --account and --tag all that are said have to fit
    #[arg(long)]
    role: Vec<String>,
    /// human or system
    #[arg(long, value_name = "TYPE", value_parser = ["human", "system"])]
    account_type: Vec<String>,
    /// One of these accounts, which MCIAS has to have; repeatable. With --allow it is kept with the account's id (`NAME#ID`), so that nobody has it who gets the name later
    #[arg(long, value_name = "NAME")]
    account: Vec<String>,
    /// Accounts with all of these tags; repeatable. Whether any account has them is not checked
    #[arg(long)]
    tag: Vec<String>,
    /// What may be done, like `transit:encrypt` or `transit:*`; repeatable. `metacrypt mount engines` shows them
    #[arg(long, value_name = "PATTERN", required = true)]
    action: Vec<String>,
    /// On what, like `transit/keys/backup-*` or `transit/**`; repeatable
    #[arg(long, value_name = "PATTERN", required = true)]
    resource: Vec<String>,
    /// Why there is this rule
    #[arg(long, default_value = "")]
    comment: String,
    /// Does not ask before a rule is replaced
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Who would do it
    #[arg(long, value_name = "NAME")]
    account: String,
    /// human or system
    #[arg(long, value_name = "TYPE", value_parser = ["human", "system"])]
    account_type: Option<String>,
    /// The account's roles, which are not looked up; repeatable. Who has `admin` may do everything
    #[arg(long)]
    role: Vec<String>,
    /// The account's tags; repeatable
    #[arg(long)]
    tag: Vec<String>,
    /// What, like `transit:encrypt`
    #[arg(long)]
    action: String,
    /// On what, like `transit/keys/backup`
    #[arg(long)]
    resource: String,
}

impl Put {
    pub(super) fn rule(&self) -> pb::Rule {
        pb::Rule {
            name: self.name.clone(),
            priority: self.priority,
            deny: self.deny,
            anyone: self.anyone,
            roles: self.role.clone(),
            account_types: self.account_type.clone(),
            accounts: self.account.clone(),
            tags: self.tag.clone(),
            actions: self.action.clone(),
            resources: self.resource.clone(),
            comment: self.comment.clone(),
        }
    }
}

impl Explain {
    fn request(&self) -> pb::ExplainRequest {
        pb::ExplainRequest {
            account: self.account.clone(),
            account_type: self.account_type.clone().unwrap_or_default(),
            roles: self.role.clone(),
            tags: self.tag.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
        }
    }
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut system = client.system().await?;
        match self {
            Self::List => {
                let rules = call(system.list_rules(pb::ListRulesRequest {}))
                    .await?
                    .rules;
                let rows = rules.iter().map(row).collect();
                let empty = "there is no rule: administrators alone may do anything";
                let header = [
                    "PRIORITY", "RULE", "EFFECT", "WHO", "ACTIONS", "ON", "COMMENT",
                ];
                out.table(&header, rows, empty, &json_list("Rule", &rules)?)?;
                if let Some(warning) = unbound(&rules) {
                    eprintln!("{warning}");
                }
            }
            Self::Show { name } => {
                let rules = call(system.list_rules(pb::ListRulesRequest {}))
                    .await?
                    .rules;
                let rule = find(&rules, name)?;
                if out.json {
                    return Ok(out.json(&json("Rule", rule)?)?);
                }
                let shown = view::lines(&lines(rule));
                write_out(&format!("{shown}\n{}\n", command(rule)))?;
            }
            Self::Put(put) => {
                let rule = put.rule();
                let request = |replace| pb::CreateRuleRequest {
                    rule: Some(rule.clone()),
                    replace,
                };
                // Added, if nobody said that it may replace one: what is not valid is refused before that is asked.
                let added = system.create_rule(request(put.yes)).await;
                let is_there = |status: &Status| status.code() == Code::AlreadyExists;
                let made = if added.as_ref().is_err_and(is_there) {
                    let rules = call(system.list_rules(pb::ListRulesRequest {}))
                        .await?
                        .rules;
                    let before = rules.iter().find(|before| before.name == put.name);
                    let was = before.map(|before| as_said(before, &rule));
                    if let Some(change) = was.and_then(|was| change(&was, &rule)) {
                        let what = format!("the rule {} will be replaced: {change}", put.name);
                        prompt::confirm(&what, false)?;
                    }
                    call(system.create_rule(request(true))).await?
                } else {
                    call(ready(added)).await?
                };
                let mounts = call(system.list_mounts(pb::ListMountsRequest {})).await;
                let mounts = mounts.map(|list| list.mounts).unwrap_or_default();
                for mount in nowhere(&made, &mounts) {
                    eprintln!("warning: there is no mount {mount} yet (`metacrypt mount list`)");
                }
                let [_, name, effect, who, actions, on, _] = cells(&made);
                let sentence = format!("{name}: {effect} {who} {actions} on {on}");
                out.done(&sentence, &json("Rule", &made)?)?;
            }
            Self::Delete { name, yes } => {
                let rules = call(system.list_rules(pb::ListRulesRequest {}))
                    .await?
                    .rules;
                let [_, _, effect, who, actions, on, _] = cells(find(&rules, name)?);
                let what =
                    format!("the rule {name} ({effect} {who} {actions} on {on}) will be removed");
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteRuleRequest { name: name.clone() };
                call(system.delete_rule(request)).await?;
                out.done(&format!("{name} is removed"), &json!({ "deleted": name }))?;
            }
            Self::Explain(asked) => {
                let answer = call(system.explain(asked.request())).await?;
                if out.json {
                    let mut value = json("ExplainResponse", &answer)?;
                    value["assumed"] = assumed(asked).into();
                    return Ok(out.json(&value)?);
                }
                write_out(&explanation(asked, &answer))?;
            }
            Self::CanI { action, resource } => {
                let request = pb::CanIRequest {
                    action: action.clone(),
                    resource: resource.clone(),
                };
                let answer = call(system.can_i(request)).await?;
                if out.json {
                    out.json(&json("CanIResponse", &answer)?)?;
                }
                if !answer.allowed {
                    let what = format!("you may not {action} on {resource}");
                    let hint = "an administrator sees why by `metacrypt policy explain`";
                    return Err(Failure::new(Exit::Failure, what).hint(hint));
                }
                if !out.json {
                    write_out(&format!("you may {action} on {resource}\n"))?;
                }
            }
        }
        Ok(())
    }
}

/// Mounts that a rule names, and are not there.
fn nowhere<'r>(rule: &'r pb::Rule, mounts: &[pb::Mount]) -> Vec<&'r str> {
    let named = rule.resources.iter().filter_map(|on| on.split('/').next());
    let there = |name: &str| name == "system" || mounts.iter().any(|mount| mount.name == name);
    let mut missing: Vec<_> = named
        .filter(|name| !name.contains('*') && !there(name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn find<'r>(rules: &'r [pb::Rule], name: &str) -> Result<&'r pb::Rule> {
    let found = rules.iter().find(|rule| rule.name == name);
    found.ok_or_else(|| Failure::new(Exit::NotFound, format_args!("there is no rule {name:?}")))
}

/// As it was put, for who says names again: without their ids, which the service writes.
pub(super) fn as_said(before: &pb::Rule, after: &pb::Rule) -> pb::Rule {
    let mut before = before.clone();
    for account in &mut before.accounts {
        let name = account.split('#').next().unwrap_or_default();
        if after.accounts.iter().any(|said| said == name) {
            *account = name.to_owned();
        }
    }
    before
}

/// Rules that allow something to a name, and so to whoever gets it; none: nothing.
fn unbound(rules: &[pb::Rule]) -> Option<String> {
    let bare = |rule: &&pb::Rule| {
        let mut accounts = rule.accounts.iter();
        !rule.deny && accounts.any(|account| !account.contains('#'))
    };
    let names: Vec<_> = rules.iter().filter(bare).map(|rule| &*rule.name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "warning: {}: accounts without their ids, so that whoever gets such a name has what is allowed to it; put the rule again",
            names.join(", ")
        )
    })
}

fn who(rule: &pb::Rule) -> String {
    let parts = [
        ("role", &rule.roles),
        ("type", &rule.account_types),
        ("account", &rule.accounts),
        ("tag", &rule.tags),
    ];
    let said = parts.iter().filter(|(_, names)| !names.is_empty());
    let said: Vec<_> = said
        .map(|(what, names)| format!("{what} {}", names.join(" ")))
        .collect();
    match said.is_empty() {
        true => "anyone".to_owned(),
        false => said.join(" and "),
    }
}

/// Priority, name, effect, who, actions, on what, comment.
fn cells(rule: &pb::Rule) -> [String; 7] {
    [
        rule.priority.to_string(),
        rule.name.clone(),
        if rule.deny { "deny" } else { "allow" }.to_owned(),
        who(rule),
        view::names(&rule.actions),
        view::names(&rule.resources),
        view::text(&rule.comment),
    ]
}

fn row(rule: &pb::Rule) -> Vec<String> {
    cells(rule).to_vec()
}

fn lines(rule: &pb::Rule) -> Vec<(&'static str, String)> {
    let [priority, name, effect, who, actions, on, comment] = cells(rule);
    vec![
        ("rule", name),
        ("effect", effect),
        ("priority", priority),
        ("who", who),
        ("actions", actions),
        ("on", on),
        ("comment", comment),
    ]
}

/// What is otherwise in the rule that replaces one, old and new; `None`: nothing.
pub(super) fn change(before: &pb::Rule, after: &pb::Rule) -> Option<String> {
    mcdsl::cli::change(&lines(before), &lines(after))
}

/// What makes the rule as it is, for a shell.
pub(super) fn command(rule: &pb::Rule) -> String {
    let priority = (rule.priority != 0).then(|| rule.priority.to_string());
    CommandLine::new(&["metacrypt", "policy", "put", &rule.name])
        .flag("deny", rule.deny)
        .flag("allow", !rule.deny)
        .options("priority", priority)
        .flag("anyone", rule.anyone)
        .options("role", &rule.roles)
        .options("account-type", &rule.account_types)
        .options("account", &rule.accounts)
        .options("tag", &rule.tags)
        .options("action", &rule.actions)
        .options("resource", &rule.resources)
        .option("comment", &rule.comment)
        .line()
}

/// What nobody said of the account: it is not looked up.
fn assumed(asked: &Explain) -> Option<String> {
    let parts = [
        (asked.account_type.is_none(), "a person (--account-type)"),
        (asked.role.is_empty(), "no roles (--role)"),
        (asked.tag.is_empty(), "no tags (--tag)"),
    ];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| {
        format!(
            "taken for granted, and not looked up: {}; `mciasctl account show {}` tells what it is",
            parts.join(", "),
            asked.account
        )
    })
}

fn explanation(asked: &Explain, answer: &pb::ExplainResponse) -> String {
    let Explain {
        account,
        action,
        resource,
        ..
    } = asked;
    let may = if answer.allowed { "may" } else { "may not" };
    let why = answer.why.iter().map(|why| format!("  {why}\n"));
    let why: String = why.collect();
    let note = match answer.note.is_empty() {
        true => assumed(asked),
        false => Some(answer.note.clone()),
    };
    let note = note.map(|note| format!(" note: {note}\n"));
    format!(
        "{account} {may} {action} on {resource}: {}\n{}{why}",
        answer.reason,
        note.unwrap_or_default()
    )
}
