//! `mciasctl policy`: who may log in where.

use clap::{ArgGroup, Subcommand};
use mc_proto::mcias::v1 as pb;
use mc_proto::mcias::v1::administration_client::AdministrationClient;
use mcdsl::{
    cli::{CommandLine, Exit, Failure, Output, prompt, status_failure, write_out},
    server::REASON,
};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    Result,
    client::{Authorized, Client, call},
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
    /// Shows a rule, and the command that makes it as it is
    Show {
        /// The rule
        name: String,
    },
    /// Adds a rule, or replaces the one of that name as a whole: what is not said is as in a new one
    ///
    /// Logins end that the policy does not let in any more, and those that have shown no second factor which it asks for from then on.
    Put(Put),
    /// Removes a rule, and ends the logins that the policy does not let in any more
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
    /// Services by their names, or a pattern of them; repeatable. A browser logs in to mcias first, which a rule has to let in as well
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
    /// Does not ask before a rule is replaced, nor before everybody may log in to every service
    #[arg(long)]
    yes: bool,
}

impl Put {
    pub(crate) fn rule(&self) -> pb::Rule {
        pb::Rule {
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
        }
    }

    async fn run(&self, administration: &mut Administration, out: Output) -> Result {
        let rule = self.rule();
        if !self.yes {
            let list = call(administration.list_rules(pb::ListRulesRequest {})).await?;
            let before = list.rules.iter().find(|before| before.name == self.name);
            if let Some(change) = before.and_then(|before| change(before, &rule)) {
                let what = format!("the rule {} will be replaced: {change}", self.name);
                prompt::confirm(&what, false)?;
            }
        }
        let mut request = pb::PutRuleRequest {
            rule: Some(rule),
            allow_everybody: self.yes,
        };
        let answer = match administration.put_rule(request.clone()).await {
            Err(status) if is_unmeant(&status) => {
                prompt::confirm(consequence(&status), self.yes)?;
                request.allow_everybody = true;
                administration.put_rule(request).await
            }
            answer => answer,
        };
        let answer = answer
            .map_err(|status| status_failure(&status))?
            .into_inner();
        let rule = answer.rule.clone().unwrap_or_default();
        let row = row(&rule);
        let sentence = format!("{}: {} {} to {}", rule.name, row[2], row[3], row[4]);
        let sentence = sentence + &view::ended(answer.ended_logins);
        Ok(out.done(&sentence, &view::json("PutRuleResponse", &answer)?)?)
    }
}

type Administration = AdministrationClient<Authorized>;

/// Whether it is done once it is said that everybody may log in everywhere.
fn is_unmeant(status: &Status) -> bool {
    let reason = status.metadata().get(REASON);
    status.code() == Code::FailedPrecondition && reason.is_some_and(|r| r == "allow_everybody")
}

/// What would come of it, without the field of the request that says that it is meant.
fn consequence(status: &Status) -> &str {
    let message = status.message();
    message.split_once("; ").map_or(message, |(what, _)| what)
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
            Self::Show { name } => {
                let rule = find(&mut administration, name).await?;
                if out.json {
                    return Ok(out.json(&view::json("Rule", &rule)?)?);
                }
                let lines = view::lines(&lines(&rule));
                write_out(&format!("{lines}to change it:\n  {}\n", command(&rule)))?;
            }
            Self::Put(put) => put.run(&mut administration, out).await?,
            Self::Delete { name, yes } => delete(&mut administration, name, *yes, out).await?,
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

/// The rule of that name.
async fn find(administration: &mut Administration, name: &str) -> Result<pb::Rule> {
    let list = call(administration.list_rules(pb::ListRulesRequest {})).await?;
    let found = list.rules.into_iter().find(|rule| rule.name == name);
    found.ok_or_else(|| Failure::new(Exit::NotFound, format_args!("there is no rule {name:?}")))
}

async fn delete(administration: &mut Administration, name: &str, yes: bool, out: Output) -> Result {
    if !yes {
        // Nobody is asked about what there is not.
        find(administration, name).await?;
    }
    prompt::confirm(&format!("the rule {name} will be removed"), yes)?;
    let mut request = pb::DeleteRuleRequest {
        name: name.to_owned(),
        allow_everybody: yes,
    };
    let answer = match administration.delete_rule(request.clone()).await {
        Err(status) if is_unmeant(&status) => {
            prompt::confirm(consequence(&status), yes)?;
            request.allow_everybody = true;
            administration.delete_rule(request).await
        }
        answer => answer,
    };
    let ended = answer
        .map_err(|status| status_failure(&status))?
        .into_inner();
    let ended = ended.ended_logins;
    let sentence = format!("the rule {name} was removed{}", view::ended(ended));
    out.done(
        &sentence,
        &json!({ "deleted": name, "ended_logins": ended.to_string() }),
    )?;
    Ok(())
}

/// What a rule is, a line each.
pub(crate) fn lines(rule: &pb::Rule) -> Vec<(&'static str, String)> {
    let row = row(rule);
    let [priority, name, effect, who, to, comment] =
        <[String; 6]>::try_from(row).unwrap_or_default();
    vec![
        ("rule", name),
        ("effect", effect),
        ("priority", priority),
        ("who", who),
        ("where", to),
        ("comment", comment),
    ]
}

/// What is otherwise in the rule that replaces one, old and new; `None`: nothing.
pub(crate) fn change(before: &pb::Rule, after: &pb::Rule) -> Option<String> {
    mcdsl::cli::change(&lines(before), &lines(after))
}

/// What makes the rule as it is, for a shell.
pub(crate) fn command(rule: &pb::Rule) -> String {
    let priority = (rule.priority != 0).then(|| rule.priority.to_string());
    CommandLine::new(&["mciasctl", "policy", "put", &rule.name])
        .flag("deny", rule.deny)
        .flag("allow", !rule.deny)
        .options("priority", priority)
        .options("role", &rule.roles)
        .options("account-type", &rule.account_types)
        .options("account", &rule.accounts)
        .options("tag", &rule.tags)
        .options("service", &rule.services)
        .options("service-tag", &rule.service_tags)
        .flag("second-factor", rule.second_factor)
        .option("comment", &rule.comment)
        .line()
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
