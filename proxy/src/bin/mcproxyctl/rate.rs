//! `mcproxyctl firewall rate`. Both limits are set whole; `set` reads them, changes one and sets them.

use clap::{Subcommand, ValueEnum};
use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Failure, Output},
    human,
};

use crate::{
    Result,
    client::{Client, call},
    parse::{self, Action, Rate},
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sets or removes a limit
    Set(Set),
    /// Shows the limits
    Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Limited {
    /// New TCP connections to the listeners
    Connections,
    /// TCP SYNs and packets other than TCP to the listeners
    Packets,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    what: Limited,
    /// Per source: 50/s, 10/m, 100/h; or off
    #[arg(value_parser = parse::rate)]
    rate: Rate,
    /// At once [default: one second's worth, 1 at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// What happens to those above it
    #[arg(long, default_value = "drop")]
    action: Action,
}

impl Set {
    /// The limits after this change of one.
    pub(crate) fn apply(&self, mut limits: pb::RateLimits) -> Result<pb::RateLimits> {
        let limit = match self.rate.0 {
            None if self.burst.is_some() => {
                return Err(Failure::usage(
                    "--burst has no meaning for a limit that is off",
                ));
            }
            None => None,
            Some(per_second) => Some(pb::RateLimit {
                per_second,
                // Saturates; a rate above 4 billion a second is no limit anyway.
                burst: self.burst.unwrap_or((per_second.ceil() as u32).max(1)),
                action: self.action.wire().into(),
                exceeded: 0,
            }),
        };
        match self.what {
            Limited::Connections => limits.connections = limit,
            Limited::Packets => limits.packets = limit,
        }
        Ok(limits)
    }
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let admin = client.admin().await?;
        let mut limits = call(admin.get_rate_limits(pb::GetRateLimitsRequest {})).await?;
        if let Self::Set(set) = self {
            let limits_now = set.apply(limits)?;
            let request = pb::SetRateLimitsRequest {
                limits: Some(limits_now),
            };
            limits = call(admin.set_rate_limits(request)).await?;
        }
        let both = [
            ("connections", limits.connections),
            ("packets", limits.packets),
        ];
        let rows = both.iter().map(|(what, limit)| row(what, limit.as_ref()));
        out.table(
            &["WHAT", "RATE", "BURST", "ACTION", "EXCEEDED"],
            rows.collect(),
            "",
            &view::rate_limits(&limits),
        )?;
        Ok(())
    }
}

pub(crate) fn row(what: &str, limit: Option<&pb::RateLimit>) -> Vec<String> {
    let Some(limit) = limit.filter(|l| l.per_second > 0.0) else {
        return [what, "off", "-", "-", "-"].map(str::to_owned).to_vec();
    };
    vec![
        what.to_owned(),
        human::rate(limit.per_second),
        limit.burst.to_string(),
        view::action(limit.action).to_owned(),
        limit.exceeded.to_string(),
    ]
}
