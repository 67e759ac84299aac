//! What opens the seal, as it is typed.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use mc_proto::metacrypt::v1::UnsealRequest;
use mcdsl::{
    cli::{Exit, Failure, Output, Progress, prompt},
    clock::Clock,
    db::Store,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    barrier::{Seal, Secret, Status, is_share},
    start::SERVICE,
};

/// What opens a seal beside its password.
pub(super) struct Has {
    pub(super) recovery_key: bool,
    /// How many are needed.
    pub(super) shares: Option<u32>,
}

/// What opens the seal, typed or from stdin.
pub(super) fn secret(recovery_key: bool, shares: bool, has: &Has) -> anyhow::Result<UnsealRequest> {
    let ask = |what: &str| -> anyhow::Result<String> {
        Ok(prompt::secret(what)?.expose_secret().to_owned())
    };
    let mut request = UnsealRequest::default();
    if recovery_key {
        if !has.recovery_key {
            return Err(Failure::usage("this seal has no recovery key").into());
        }
        request.recovery_key = ask("Recovery key")?;
    } else if shares {
        let none = || Failure::usage("this seal has no shares");
        let needed = has.shares.ok_or_else(none)?;
        request.shares = typed_shares(needed)?;
    } else {
        request.password = ask("Password of the seal")?;
    }
    Ok(request)
}

/// Shares, each of which is known for a slip before the next is asked for.
pub(crate) fn typed_shares(needed: u32) -> Result<Vec<String>, Failure> {
    let ask = |number| {
        let what = format!("Share {number} of {needed}");
        loop {
            let share = prompt::secret(&what)?.expose_secret().to_owned();
            match is_share(&share) {
                Ok(()) => return Ok(share),
                // The others need not be typed again.
                Err(slip) if prompt::is_interactive() => {
                    eprintln!("{what}: {slip}; type it again");
                }
                Err(slip) => return Err(Failure::usage(format_args!("{what}: {slip}"))),
            }
        }
    };
    (1..=needed).map(ask).collect()
}

/// What opens a seal that is not asked for over the network.
pub(super) fn of_seal(status: &Status, recovery_key: bool, shares: bool) -> anyhow::Result<Secret> {
    let has = Has {
        recovery_key: status.recovery,
        shares: status.shares.map(|(needed, _)| needed.into()),
    };
    let asked = secret(recovery_key, shares, &has)?;
    Ok(match (recovery_key, shares) {
        (true, _) => Secret::Recovery(Zeroizing::new(asked.recovery_key)),
        (_, true) => Secret::Shares(asked.shares.into_iter().map(Zeroizing::new).collect()),
        _ => Secret::Password(Zeroizing::new(asked.password)),
    })
}

/// Whether a secret would open the seal. A wrong one makes the next wait, as when it is opened.
pub(super) async fn verified(
    database: &Path,
    recovery_key: bool,
    shares: bool,
    out: Output,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        database.exists(),
        "there is no database {}; this is done on the service's machine",
        database.display()
    );
    let store = Store::open(database, SERVICE.migrations)?;
    let seal = Seal::new(store, Clock::default());
    let status = seal.status().await?;
    let status = status.context("there is no seal; run `metacrypt init`")?;
    let secret = of_seal(&status, recovery_key, shares)?;
    let (what, progress) = (secret.kind(), Progress::begin("trying it"));
    let tried = seal.verify(secret, Ipv4Addr::LOCALHOST.into()).await;
    drop(progress);
    tried.map_err(|error| Failure::new(Exit::Refused, error))?;
    let opens = match shares {
        true => "open",
        false => "opens",
    };
    let sentence = format!("the {what} {opens} the seal; it was not opened");
    Ok(out.done(&sentence, &json!({ "opens": true, "by": what }))?)
}
