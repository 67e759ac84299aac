//! `mciasctl account update`.

use std::collections::BTreeSet;

use clap::ArgGroup;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt, write_out};

use crate::{
    Result,
    account::{SecondFactor, Status, get, lines},
    client::{Client, call},
    parse,
    token::is_valid,
    view,
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true)
    .args(["status", "role", "add_role", "remove_role", "tag", "add_tag", "remove_tag", "second_factor", "display_name", "email"]))]
pub(crate) struct Update {
    /// The account
    #[arg(value_parser = parse::account)]
    name: String,
    /// Whether it can be used
    #[arg(long)]
    status: Option<Status>,
    /// Its roles, instead of those that it has; repeatable
    #[arg(long, value_parser = parse::role, conflicts_with_all = ["add_role", "remove_role"])]
    role: Vec<String>,
    /// One more role; repeatable
    #[arg(long, value_name = "ROLE", value_parser = parse::role)]
    add_role: Vec<String>,
    /// One role less; repeatable
    #[arg(long, value_name = "ROLE", value_parser = parse::role)]
    remove_role: Vec<String>,
    /// Its tags, instead of those that it has; repeatable
    #[arg(long, value_parser = parse::tag, conflicts_with_all = ["add_tag", "remove_tag"])]
    tag: Vec<String>,
    /// One more tag; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse::tag)]
    add_tag: Vec<String>,
    /// One tag less; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse::tag)]
    remove_tag: Vec<String>,
    /// What services that ask for it call the person; empty: none from now on
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The person's address, told to services that ask for it; empty: none from now on
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Whether each login needs a second factor
    #[arg(long, value_name = "WHEN")]
    second_factor: Option<SecondFactor>,
    /// Does not ask before the tokens of a system account become void, or one's own logins end
    #[arg(long)]
    yes: bool,
}

impl Update {
    /// What is sent for an account as it is now.
    pub(crate) fn request(&self, now: &pb::Account) -> pb::UpdateAccountRequest {
        let status = match self.status {
            None => pb::AccountStatus::Unspecified,
            Some(Status::Active) => pb::AccountStatus::Active,
            Some(Status::Disabled) => pb::AccountStatus::Disabled,
            Some(Status::Locked) => pb::AccountStatus::Locked,
        };
        pb::UpdateAccountRequest {
            name: self.name.clone(),
            status: status.into(),
            roles: changed(&self.role, &self.add_role, &self.remove_role, &now.roles),
            tags: changed(&self.tag, &self.add_tag, &self.remove_tag, &now.tags),
            second_factor_required: self.second_factor.map(SecondFactor::required),
            display_name: self.display_name.clone(),
            email: self.email.clone(),
        }
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let now = get(client, &self.name).await?;
        let request = self.request(&now);
        if revokes(&now, &request) {
            let who = call(client.auth().await?.who_am_i(pb::WhoAmIRequest {})).await?;
            if who.account == self.name {
                prompt::confirm(&own(&request), self.yes)?;
            }
            self.ask(client, &now).await?;
        }
        let answer = call(client.accounts().await?.update_account(request)).await?;
        if out.json {
            return Ok(out.json(&view::json("UpdateAccountResponse", &answer)?)?);
        }
        let mut told = lines(&answer.account.unwrap_or_default());
        if answer.ended_logins > 0 {
            told.push(("ended logins", answer.ended_logins.to_string()));
        }
        Ok(write_out(&view::lines(&told))?)
    }

    /// People log in again; whatever uses a system account's token has to be given a new one.
    async fn ask(&self, client: &mut Client, now: &pb::Account) -> Result {
        if now.account_type() != pb::AccountType::System {
            return Ok(());
        }
        let request = pb::ListTokensRequest {
            name: self.name.clone(),
        };
        let list = call(client.accounts().await?.list_tokens(request)).await?;
        let valid = list.tokens.iter().filter(|token| is_valid(token)).count();
        if valid == 0 {
            return Ok(());
        }
        let tokens = mcdsl::human::count(u64::try_from(valid).unwrap_or(u64::MAX), "token");
        let what = format!(
            "{tokens} of {} will be void, and new ones needed",
            self.name
        );
        prompt::confirm(&what, self.yes)
    }
}

/// What becomes of who changes the own account so.
pub(crate) fn own(request: &pb::UpdateAccountRequest) -> String {
    let mut what = "it is your own account: all your logins end, this one among them".to_owned();
    if request.second_factor_required == Some(true) {
        what.push_str(", and the next one has to show a second factor, or to enrol one");
    }
    what
}

/// Whether the account's tokens become void by it: they say what it was.
pub(crate) fn revokes(now: &pb::Account, request: &pb::UpdateAccountRequest) -> bool {
    let inactive = match request.status() {
        pb::AccountStatus::Unspecified => now.status() != pb::AccountStatus::Active,
        status => status != pb::AccountStatus::Active,
    };
    let lost = |to: &pb::Names| now.roles.iter().any(|role| !to.names.contains(role));
    let other = |to: &pb::Names| {
        let sets = [&to.names, &now.tags].map(|tags| tags.iter().collect::<BTreeSet<_>>());
        sets[0] != sets[1]
    };
    let asks_more = request.second_factor_required == Some(true) && !now.second_factor_required;
    inactive
        || asks_more
        || request.roles.as_ref().is_some_and(lost)
        || request.tags.as_ref().is_some_and(other)
}

/// A list as it is to be; `None` if nothing is asked for.
fn changed(set: &[String], add: &[String], remove: &[String], now: &[String]) -> Option<pb::Names> {
    if set.is_empty() && add.is_empty() && remove.is_empty() {
        return None;
    }
    let mut names = if set.is_empty() { now } else { set }.to_vec();
    names.retain(|name| !remove.contains(name));
    names.extend(add.iter().cloned());
    names.sort();
    names.dedup();
    Some(pb::Names { names })
}
