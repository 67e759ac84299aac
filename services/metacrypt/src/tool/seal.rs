//! `metacrypt seal`, `password`, `rotate`.

use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, Progress, call, prompt, status_failure, write_once};
use secrecy::ExposeSecret as _;
use tonic::Code;
use zeroize::Zeroizing;

use super::{Client, Result, json};
use crate::{
    memory, password,
    program::{DUMPED, threshold, typed_shares},
};

/// Closes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Seal {}

/// Which of its secrets proves a change.
#[derive(Debug, clap::Args)]
struct Current {
    /// Proves it by the recovery key instead of the password
    #[arg(long, conflicts_with = "shares")]
    recovery_key: bool,
    /// Proves it by shares, asked for one by one, or read from stdin, one a line
    #[arg(long)]
    shares: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Password {
    #[command(flatten)]
    current: Current,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    current: Current,
    /// Asks for another password as well
    #[arg(long)]
    new_password: bool,
    /// Makes no recovery key
    #[arg(long)]
    no_recovery_key: bool,
    /// Makes so many shares, like 2/3; `none` for none [default: as many as there are]
    #[arg(long, value_name = "NEEDED/ALL", value_parser = shares)]
    new_shares: Option<(u8, u8)>,
}

/// Where no answer came.
const UNKNOWN: &str = "whether the master key is another one now, `metacrypt status` says by its number; if it is, `metacrypt rotate` by the password makes secrets that are seen";
const UNSEEN: &str = "nobody has seen the recovery key and the shares: `metacrypt rotate` once more, by the password";

/// `0/0` is none.
fn shares(text: &str) -> std::result::Result<(u8, u8), String> {
    match text {
        "none" => Ok((0, 0)),
        text => threshold(text),
    }
}

/// Nobody else may look at what is typed.
fn undumped() -> Result {
    memory::undumped().map_err(|e| Failure::usage(format_args!("{DUMPED}: {e}")))
}

/// That the caller is an administrator, before anything is typed; whether the seal is open does not count.
async fn administrator(client: &Client) -> Result {
    let asked = client
        .system()
        .await?
        .list_rules(pb::ListRulesRequest {})
        .await;
    match asked {
        Err(status)
            if matches!(
                status.code(),
                Code::PermissionDenied | Code::Unauthenticated
            ) =>
        {
            Err(status_failure(&status))
        }
        _ => Ok(()),
    }
}

fn typed(what: &str) -> Result<String> {
    Ok(prompt::secret(what)?.expose_secret().to_owned())
}

impl Current {
    fn ask(&self, status: &pb::SealStatus) -> Result<pb::SealSecret> {
        let mut secret = pb::SealSecret::default();
        if self.recovery_key {
            if !status.recovery_key {
                return Err(Failure::usage("this seal has no recovery key"));
            }
            secret.recovery_key = typed("Recovery key")?;
        } else if self.shares {
            if status.shares == 0 {
                return Err(Failure::usage("this seal has no shares"));
            }
            secret.shares = typed_shares(status.shares_needed)?;
        } else {
            secret.password = typed("Password of the seal")?;
        }
        Ok(secret)
    }
}

/// A new one, which the server would take, unless it is made of names that the server alone knows.
fn new_password() -> Result<String> {
    let password = prompt::new_password("New password of the seal")?;
    let password = password.expose_secret().to_owned();
    match password::check(&password, &[]) {
        Ok(()) => Ok(password),
        Err(weak) => Err(Failure::usage(format_args!(
            "the password is refused: {weak}"
        ))),
    }
}

impl Seal {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut sealing = client.sealing().await?;
        let status = call(sealing.seal(pb::SealRequest {})).await?;
        let sentence = format!("{} is sealed", client.place.url);
        Ok(out.done(&sentence, &json("SealStatus", &status)?)?)
    }
}

impl Password {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        undumped()?;
        administrator(client).await?;
        let mut sealing = client.sealing().await?;
        let status = call(sealing.get_seal_status(pb::GetSealStatusRequest {})).await?;
        let request = pb::SetPasswordRequest {
            current: Some(self.current.ask(&status)?),
            password: new_password()?,
        };
        let progress = Progress::begin("changing the password");
        let answer = call(sealing.set_password(request)).await;
        drop(progress);
        let sentence = format!(
            "{} opens by the new password; snapshots from before still open by the old one",
            client.place.url
        );
        Ok(out.done(&sentence, &json("SealStatus", &answer?)?)?)
    }
}

impl Rotate {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        undumped()?;
        administrator(client).await?;
        let by_password = !self.current.recovery_key && !self.current.shares;
        let mut sealing = client.sealing().await?;
        let status = call(sealing.get_seal_status(pb::GetSealStatusRequest {})).await?;
        let current = self.current.ask(&status)?;
        let password = match self.new_password || !by_password {
            true => new_password()?,
            false => String::new(),
        };
        let request = pb::RotateMasterKeyRequest {
            current: Some(current),
            password,
            recovery_key: Some(!self.no_recovery_key),
            shares_needed: self.new_shares.map(|(needed, _)| needed.into()),
            shares: self.new_shares.map(|(_, all)| all.into()),
        };
        let progress = Progress::begin("making another master key");
        let answer = call(sealing.rotate_master_key(request)).await;
        drop(progress);
        let answer = answer.map_err(|failure| match failure.exit {
            Exit::Failure | Exit::Unavailable => failure.hint(UNKNOWN),
            _ => failure,
        })?;
        let shown = match out.json {
            true => write_once(&format!(
                "{:#}\n",
                json("RotateMasterKeyResponse", &answer)?
            )),
            false => write_once(&made(&answer)),
        };
        shown.map_err(|error| {
            let what = format!(
                "the master key is another one, and its secrets cannot be printed: {error}"
            );
            Failure::new(Exit::Failure, what).hint(UNSEEN)
        })
    }
}

/// What is shown once.
fn made(answer: &pb::RotateMasterKeyResponse) -> Zeroizing<String> {
    let generation = answer.seal.as_ref().map_or(0, |seal| seal.generation);
    let mut text = Zeroizing::new(format!("master key    number {generation}\n"));
    if !answer.recovery_key.is_empty() {
        text.push_str(&format!("recovery key  {}\n", answer.recovery_key));
    }
    for (number, share) in (1..).zip(&answer.shares) {
        text.push_str(&format!("share {number:<8}{share}\n"));
    }
    if !answer.recovery_key.is_empty() || !answer.shares.is_empty() {
        text.push_str(
            "              (shown this once: write them down, and keep them apart from the machine and its snapshots; those of before open older snapshots alone)\n",
        );
    }
    text
}
