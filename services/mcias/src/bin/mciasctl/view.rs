//! How things of MCIAS are shown; JSON as REST has it.

use mc_proto::mcias::v1 as pb;
pub(crate) use mcdsl::cli::view::{lines, names, system_time, text, time, utc, yes};
use mcdsl::{cli::message_json, human};
use serde_json::Value;

use crate::Result;

/// A message of MCIAS's definition, by its short name.
pub(crate) fn json(name: &str, message: &impl prost::Message) -> Result<Value> {
    message_json(&format!("metacircular.mcias.v1.{name}"), message)
}

/// Many of them.
pub(crate) fn json_list<M: prost::Message>(name: &str, messages: &[M]) -> Result<Value> {
    messages.iter().map(|message| json(name, message)).collect()
}

pub(crate) fn account_type(account_type: pb::AccountType) -> &'static str {
    match account_type {
        pb::AccountType::Human => "human",
        pb::AccountType::System => "system",
        pb::AccountType::Unspecified => "unknown",
    }
}

pub(crate) fn status(status: pb::AccountStatus) -> &'static str {
    match status {
        pb::AccountStatus::Active => "active",
        pb::AccountStatus::Disabled => "disabled",
        pb::AccountStatus::Locked => "locked",
        pb::AccountStatus::Unspecified => "unknown",
    }
}

/// How many logins ended by what was done, after the sentence that says so.
pub(crate) fn ended(logins: u64) -> String {
    match logins {
        0 => String::new(),
        some => format!("; it ended {}", human::count(some, "login")),
    }
}
