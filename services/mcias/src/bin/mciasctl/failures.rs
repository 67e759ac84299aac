//! Failed logins of an account: how they are shown, and `mciasctl account clear-failures`.

use mc_proto::mcias::v1 as pb;
use mcdsl::{
    cli::{Output, prompt},
    human,
};
use serde_json::json;

use crate::{
    Result, account,
    client::{Client, call},
    view,
};

/// A line for each place.
pub(crate) fn lines(failed: &[pb::FailedLogins]) -> Vec<(&'static str, String)> {
    let line = |failed| ("failed logins", line(failed));
    failed.iter().map(line).collect()
}

fn line(failed: &pb::FailedLogins) -> String {
    let place = match failed.network.as_str() {
        "" => "networks that it is not used from",
        network => network,
    };
    let last = view::time(failed.last.as_ref());
    let then = match &failed.closed_until {
        Some(until) => format!("closed from there until {}", view::time(Some(until))),
        None => "open again".to_owned(),
    };
    format!("{} from {place}, the last {last}; {then}", failed.failures)
}

pub(crate) async fn clear(client: &mut Client, out: Output, name: &str, yes: bool) -> Result {
    let what = format!("whoever failed to log in as {name} may try again at once");
    if !yes {
        account::get(client, name).await?;
    }
    prompt::confirm(&what, yes)?;
    let request = pb::ClearFailedLoginsRequest {
        name: name.to_owned(),
    };
    let answer = call(client.accounts().await?.clear_failed_logins(request)).await?;
    let mut sentence = match answer.failures {
        0 => format!("{name} had no failed logins"),
        failures => format!(
            "{} of {name} forgotten",
            human::count(failures.into(), "failed login")
        ),
    };
    if !out.json {
        sentence.push_str(closed(&account::get(client, name).await?));
    }
    let value = json!({ "account": name, "failures": answer.failures });
    out.done(&sentence, &value)?;
    Ok(())
}

/// What keeps it away all the same.
fn closed(account: &pb::Account) -> &'static str {
    match account.status() {
        pb::AccountStatus::Locked => {
            "; it is locked all the same: `mciasctl account reset-password` gives it a new password and opens it"
        }
        pb::AccountStatus::Disabled => {
            "; it is disabled all the same: `mciasctl account update --status active`"
        }
        _ => "; a network that is kept away is let in by `mciasctl ban lift`",
    }
}
