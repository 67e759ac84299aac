//! `mciasctl profile`: what people do to their own account.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Output, prompt, write_out};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{
    Result,
    client::{Client, call, exists},
    device, login, totp, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the account, its second factors and when the password was changed
    Show,
    /// Changes the password and ends all other logins
    Password,
    /// The authenticator app
    #[command(subcommand)]
    Totp(totp::Command),
    /// Makes ten codes that each replace a second factor once; those before are void
    RecoveryCodes {
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Passkeys; they are registered on MCIAS's pages, since a browser speaks with them
    #[command(subcommand)]
    Passkey(Passkey),
    /// Devices that the account is used from; of new ones its owner says whether they are his
    #[command(subcommand)]
    Device(device::Command),
    /// Shows one's logins
    Sessions,
    /// Ends a login
    EndSession {
        /// As `profile sessions` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Passkey {
    /// Shows the passkeys
    #[command(visible_alias = "ls")]
    List,
    /// Removes a passkey
    #[command(visible_alias = "rm")]
    Remove {
        /// As `profile passkey list` shows it
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// The password, for what takes a factor away or makes one.
pub(crate) fn own_password() -> Result<String> {
    Ok(prompt::secret("Your password")?.expose_secret().to_owned())
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::Show => show(client, out).await,
            Self::Password => password(client, out).await,
            Self::Totp(c) => c.run(client, out).await,
            Self::RecoveryCodes { yes } => recovery_codes(client, out, *yes).await,
            Self::Passkey(c) => c.run(client, out).await,
            Self::Device(c) => c.run(client, out).await,
            Self::Sessions => sessions(client, out).await,
            Self::EndSession { id } => {
                let request = pb::EndSessionRequest { id: id.clone() };
                call(client.profile().await?.end_session(request)).await?;
                out.done(
                    &format!("the login {id} has ended"),
                    &json!({ "ended": id }),
                )?;
                Ok(())
            }
        }
    }
}

async fn factors(client: &mut Client) -> Result<pb::GetFactorsResponse> {
    call(
        client
            .profile()
            .await?
            .get_factors(pb::GetFactorsRequest {}),
    )
    .await
}

async fn show(client: &mut Client, out: Output) -> Result {
    let who = call(client.auth().await?.who_am_i(pb::WhoAmIRequest {})).await?;
    let factors = factors(client).await?;
    if out.json {
        return Ok(out.json(&json!({
            "account": view::json("WhoAmIResponse", &who)?,
            "factors": view::json("GetFactorsResponse", &factors)?,
        }))?);
    }
    let mut lines = login::whoami_lines(&who);
    lines.extend(factor_lines(&factors));
    Ok(write_out(&view::lines(&lines))?)
}

pub(crate) fn factor_lines(factors: &pb::GetFactorsResponse) -> Vec<(&'static str, String)> {
    vec![
        (
            "password changed",
            view::time(factors.password_changed.as_ref()),
        ),
        ("authenticator app", view::yes(factors.totp)),
        ("passkeys", factors.passkeys.len().to_string()),
        ("recovery codes", factors.recovery_codes.to_string()),
    ]
}

async fn password(client: &mut Client, out: Output) -> Result {
    let mut profile = client.profile().await?;
    let old_password = prompt::secret("Present password")?;
    let new_password = prompt::new_password("New password")?;
    let request = pb::ChangePasswordRequest {
        old_password: old_password.expose_secret().to_owned(),
        new_password: new_password.expose_secret().to_owned(),
    };
    call(profile.change_password(request)).await?;
    // One that had to be changed was all that the login could do.
    let renewed = client.refresh().await;
    let mut sentence = "the password was changed; all other logins have ended".to_owned();
    if let Err(failure) = &renewed {
        sentence.push_str(&format!("\n note: log in again: {failure}"));
    }
    out.done(
        &sentence,
        &json!({ "changed": true, "log_in_again": renewed.is_err() }),
    )?;
    Ok(())
}

async fn recovery_codes(client: &mut Client, out: Output, yes: bool) -> Result {
    let mut profile = client.profile().await?;
    prompt::confirm(
        "the recovery codes before, if there are any, will be void",
        yes,
    )?;
    let request = pb::NewRecoveryCodesRequest {
        password: own_password()?,
    };
    let answer = call(profile.new_recovery_codes(request)).await?;
    let codes = answer.codes.iter().map(|code| format!("  {code}\n"));
    let sentence = format!(
        "each replaces a second factor once; they are shown only now:\n{}keep them where the authenticator is not",
        codes.collect::<String>()
    );
    out.done(&sentence, &view::json("NewRecoveryCodesResponse", &answer)?)?;
    Ok(())
}

impl Passkey {
    async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::List => {
                let factors = factors(client).await?;
                out.table(
                    &["ID", "NAME", "CREATED", "USED"],
                    factors.passkeys.iter().map(passkey_row).collect(),
                    "no passkeys; they are registered on MCIAS's pages",
                    &view::json_list("Passkey", &factors.passkeys)?,
                )?;
            }
            Self::Remove { id, yes } => {
                if !yes {
                    let factors = factors(client).await?;
                    let ids = factors.passkeys.iter().map(|passkey| &passkey.id);
                    exists("passkey", id, ids)?;
                }
                let mut profile = client.profile().await?;
                let what = format!("nobody will log in with the passkey {id} any more");
                prompt::confirm(&what, *yes)?;
                let request = pb::RemovePasskeyRequest {
                    id: id.clone(),
                    password: own_password()?,
                };
                call(profile.remove_passkey(request)).await?;
                out.done(
                    &format!("the passkey {id} was removed"),
                    &json!({ "removed": id }),
                )?;
            }
        }
        Ok(())
    }
}

pub(crate) fn passkey_row(passkey: &pb::Passkey) -> Vec<String> {
    vec![
        passkey.id.clone(),
        passkey.name.clone(),
        view::time(passkey.created.as_ref()),
        view::time(passkey.used.as_ref()),
    ]
}

async fn sessions(client: &mut Client, out: Output) -> Result {
    let request = pb::ListSessionsRequest {};
    let list = call(client.profile().await?.list_sessions(request)).await?;
    out.table(
        &[
            "ID",
            "DEVICE",
            "FROM",
            "SERVICE",
            "BY",
            "SINCE",
            "LAST USED",
        ],
        list.sessions.iter().map(session_row).collect(),
        "no logins",
        &view::json_list("Session", &list.sessions)?,
    )?;
    Ok(())
}

pub(crate) fn session_row(session: &pb::Session) -> Vec<String> {
    let mut device = view::text(&session.device);
    if session.current {
        device.push_str(" (this one)");
    }
    if session.new_device {
        device.push_str(" (new)");
    }
    vec![
        session.id.clone(),
        device,
        view::text(&session.source),
        view::text(&session.service),
        view::names(&session.methods),
        view::time(session.created.as_ref()),
        view::time(session.used.as_ref()),
    ]
}
