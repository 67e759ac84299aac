//! `mciasctl policy`: who may log in where.

use clap::{ArgGroup, Subcommand};
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt, write_out};
use serde_json::json;

use crate::{
    Result,
    client::{Client, call, exists},
    parse, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the rules, in the order in which they are asked
    ///
    /// The highest priority comes first, at the same one deny before allow, then they go by name. The first that fits decides; if none fits,
    /// nobody logs in.
    #[command(visible_alias = "ls")]
    List,
    /// Adds a rule, or replaces the one of that name
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
    /// Whether a person could log in to a service, by which rule, and why not by the others; nobody is logged in
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("effect").required(true).args(["allow", "deny"]))]
pub(crate) struct Put {
    /// The rule
    name: String,
    /// Lets in whom it fits
    #[arg(long)]
    allow: bool,
    /// Keeps out whom it fits
    #[arg(long)]
    deny: bool,
    /// Higher ones are asked first; at the same one deny wins
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Accounts with one of these roles; repeatable
    #[arg(long, value_parser = parse::role)]
    role: Vec<String>,
    /// human: system accounts do not log in, and no rule is asked for their tokens
    #[arg(long, value_name = "TYPE", value_parser = ["human"])]
    account_type: Vec<String>,
    /// One of these accounts; repeatable
    #[arg(long, value_name = "NAME", value_parser = parse::account)]
    account: Vec<String>,
    /// Accounts with all of these tags; repeatable
    #[arg(long, value_parser = parse::tag)]
    tag: Vec<String>,
    /// Services by a pattern of their names; repeatable. A browser logs in to mcias first, which a rule has to let in as well
    #[arg(long, value_name = "PATTERN")]
    service: Vec<String>,
    /// Services with all of these tags; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse::tag)]
    service_tag: Vec<String>,
    /// The login needs a second factor
    #[arg(long, conflicts_with = "deny")]
    second_factor: bool,
    /// Why there is this rule
    #[arg(long, default_value = "")]
    comment: String,
    /// Does not ask before everybody may log in to every service
    #[arg(long)]
    yes: bool,
}

impl Put {
    pub(crate) fn request(&self) -> pb::PutRuleRequest {
        let rule = pb::Rule {
            name: self.name.clone(),
            priority: self.priority,
            deny: self.deny,
            roles: self.role.clone(),
            account_types: self.account_type.clone(),
            accounts: self.account.clone(),
            tags: self.tag.clone(),
            services: self.service.clone(),
            service_tags: self.service_tag.clone(),
            second_factor: self.second_factor,
            comment: self.comment.clone(),
        };
        pb::PutRuleRequest { rule: Some(rule) }
    }

    /// It lets in everybody, guests included, to every service.
    pub(crate) fn is_open(&self) -> bool {
        let said = [
            &self.role,
            &self.account,
            &self.tag,
            &self.service,
            &self.service_tag,
        ];
        // Nobody but people logs in.
        self.allow && said.iter().all(|list| list.is_empty())
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Who would log in
    #[arg(long, value_name = "NAME", value_parser = parse::account)]
    account: String,
    /// Where
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Tags of the service, instead of its own; repeatable
    #[arg(long, value_parser = parse::tag)]
    tag: Vec<String>,
}

impl Explain {
    pub(crate) fn request(&self) -> pb::ExplainRequest {
        pb::ExplainRequest {
            account: self.account.clone(),
            service: self.service.clone(),
            tags: self.tag.clone(),
        }
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut administration = client.administration().await?;
        match self {
            Self::List => {
                let list = call(administration.list_rules(pb::ListRulesRequest {})).await?;
                out.table(
                    &["PRIORITY", "NAME", "EFFECT", "WHO", "WHERE", "COMMENT"],
                    list.rules.iter().map(row).collect(),
                    "no rules: nobody may log in anywhere",
                    &view::json_list("Rule", &list.rules)?,
                )?;
            }
            Self::Put(put) => {
                if put.is_open() {
                    let what = "everybody, guests included, may log in to every service then";
                    prompt::confirm(what, put.yes)?;
                }
                let rule = call(administration.put_rule(put.request())).await?;
                let row = row(&rule);
                let sentence = format!("{}: {} {} to {}", rule.name, row[2], row[3], row[4]);
                out.done(&sentence, &view::json("Rule", &rule)?)?;
            }
            Self::Delete { name, yes } => {
                if !yes {
                    let list = call(administration.list_rules(pb::ListRulesRequest {})).await?;
                    exists("rule", name, list.rules.iter().map(|rule| &rule.name))?;
                }
                prompt::confirm(&format!("the rule {name} will be removed"), *yes)?;
                let request = pb::DeleteRuleRequest { name: name.clone() };
                call(administration.delete_rule(request)).await?;
                out.done(
                    &format!("the rule {name} was removed"),
                    &json!({ "deleted": name }),
                )?;
            }
            Self::Explain(explain) => {
                let answer = call(administration.explain(explain.request())).await?;
                if out.json {
                    return Ok(out.json(&view::json("ExplainResponse", &answer)?)?);
                }
                write_out(&explanation(explain, &answer))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn explanation(asked: &Explain, answer: &pb::ExplainResponse) -> String {
    let (account, service) = (&asked.account, &asked.service);
    let may = match (answer.allowed, answer.second_factor) {
        (true, false) => "may log in to",
        (true, true) => "may, with a second factor, log in to",
        (false, _) => "may not log in to",
    };
    let first = answer.first.iter().map(|what| format!(" first: {what}\n"));
    let notes = answer.notes.iter().map(|note| format!(" note: {note}\n"));
    let why = answer.why.iter().map(|why| format!("  {why}\n"));
    let more: String = first.chain(notes).chain(why).collect();
    format!("{account} {may} {service}: {}\n{more}", answer.reason)
}

pub(crate) fn row(rule: &pb::Rule) -> Vec<String> {
    let effect = match (rule.deny, rule.second_factor) {
        (true, _) => "deny",
        (false, false) => "allow",
        (false, true) => "allow with a second factor",
    };
    vec![
        rule.priority.to_string(),
        rule.name.clone(),
        effect.to_owned(),
        parts(
            "everybody",
            &[
                ("role", &rule.roles),
                ("type", &rule.account_types),
                ("account", &rule.accounts),
                ("tag", &rule.tags),
            ],
        ),
        parts(
            "all services",
            &[("service", &rule.services), ("tag", &rule.service_tags)],
        ),
        view::text(&rule.comment),
    ]
}

/// "role=admin,user tag=x", or what it means that nothing is said.
fn parts(nothing: &str, parts: &[(&str, &Vec<String>)]) -> String {
    let said = parts.iter().filter(|(_, names)| !names.is_empty());
    let said: Vec<_> = said
        .map(|(what, names)| format!("{what}={}", names.join(",")))
        .collect();
    match said.as_slice() {
        [] => nothing.to_owned(),
        said => said.join(" "),
    }
}
