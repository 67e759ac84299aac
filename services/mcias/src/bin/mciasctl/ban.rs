//! `mciasctl ban`: networks that are kept away for failed logins.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::Output;

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

/// Bans asked for at once.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows which networks are kept away, until when and why
    #[command(visible_alias = "ls")]
    List,
    /// Lets a network in again, at every node; its earlier bans are forgotten
    Lift {
        /// The network, or an address in it
        #[arg(value_parser = parse::source)]
        source: String,
    },
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut administration = client.administration().await?;
        match self {
            Self::List => {
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let limit = PAGE;
                    let request = pb::ListBansRequest { after, limit };
                    let page = call(administration.list_bans(request)).await?;
                    all.extend(page.bans);
                    // One that does not go on would be asked for ever.
                    let last = all.last().map(|ban| ban.source.as_str());
                    if page.next.is_empty() || last != Some(page.next.as_str()) {
                        break;
                    }
                    after = page.next;
                }
                out.table(
                    &["NETWORK", "UNTIL", "BANS", "WHY"],
                    all.iter().map(row).collect(),
                    "no network is banned",
                    &view::json_list("Ban", &all)?,
                )?;
            }
            Self::Lift { source } => {
                let request = pb::LiftBanRequest {
                    source: source.clone(),
                };
                let answer = call(administration.lift_ban(request)).await?;
                let sentence = format!("{} is let in again", answer.source);
                out.done(&sentence, &view::json("LiftBanResponse", &answer)?)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn row(ban: &pb::Ban) -> Vec<String> {
    vec![
        ban.source.clone(),
        view::time(ban.until.as_ref()),
        ban.bans.to_string(),
        view::text(&ban.reason),
    ]
}
