//! `mciasctl profile totp`: the authenticator app.

use std::io::{self, IsTerminal as _};

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, prompt, write_out};
use qrcode::{QrCode, render::unicode::Dense1x2};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    Result,
    client::{Client, call},
    profile::own_password,
    view,
};

/// Black on white, whatever the terminal's colours are: what scans a code wants it dark on light.
const PAPER: &str = "\x1b[30;107m";
/// The terminal's own colours.
const PLAIN: &str = "\x1b[0m";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a secret for an authenticator app and shows it, on a terminal as a QR code too; in force once it is confirmed
    Enrol,
    /// Confirms the secret by a code that the app makes of it
    Confirm,
    /// Takes the app away
    Remove {
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::Enrol => enrol(client, out).await,
            Self::Confirm => confirm(client, out).await,
            Self::Remove { yes } => remove(client, out, *yes).await,
        }
    }
}

async fn enrol(client: &mut Client, out: Output) -> Result {
    let mut profile = client.profile().await?;
    let request = pb::BeginTotpRequest {
        password: own_password()?,
    };
    let answer = call(profile.begin_totp(request)).await?;
    if out.json {
        let value = json!({ "secret": answer.secret, "uri": answer.uri });
        return Ok(out.json(&value)?);
    }
    if io::stdout().is_terminal() {
        let code = qr(&answer.uri)?;
        let lines = code.lines().map(|line| format!("{PAPER}{line}{PLAIN}\n"));
        write_out(&lines.collect::<String>())?;
    }
    let lines = [
        ("secret", grouped(&answer.secret)),
        ("uri", answer.uri.clone()),
    ];
    write_out(&view::lines(&lines))?;
    if prompt::is_interactive() {
        return confirm(client, out).await;
    }
    Ok(write_out(
        "in force once a code of it is confirmed: `mciasctl profile totp confirm`\n",
    )?)
}

/// By fours, as people read it; apps ignore the spaces.
pub(crate) fn grouped(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    let groups = characters.chunks(4).map(String::from_iter);
    groups.collect::<Vec<_>>().join(" ")
}

/// A QR code (ISO/IEC 18004) with its quiet zone, two rows to a line.
pub(crate) fn qr(text: &str) -> Result<String> {
    let code = QrCode::new(text)
        .map_err(|e| Failure::new(Exit::Failure, format_args!("no QR code of the URI: {e}")))?;
    Ok(code.render::<Dense1x2>().quiet_zone(true).build())
}

async fn confirm(client: &mut Client, out: Output) -> Result {
    let mut profile = client.profile().await?;
    let code = prompt::secret("Code that the app shows")?;
    let request = pb::ConfirmTotpRequest {
        code: code.expose_secret().trim().to_owned(),
    };
    call(profile.confirm_totp(request)).await?;
    out.done(
        "the authenticator app is a second factor from now on; log in again to log in by it\nrecovery codes, for when it is lost: `mciasctl profile recovery-codes`",
        &json!({ "confirmed": true }),
    )?;
    Ok(())
}

async fn remove(client: &mut Client, out: Output, yes: bool) -> Result {
    let mut profile = client.profile().await?;
    prompt::confirm(
        "the authenticator app will be no second factor any more",
        yes,
    )?;
    let request = pb::RemoveTotpRequest {
        password: own_password()?,
    };
    call(profile.remove_totp(request)).await?;
    out.done(
        "the authenticator app is no second factor any more",
        &json!({ "removed": true }),
    )?;
    Ok(())
}
