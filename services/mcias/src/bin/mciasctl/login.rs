//! `login`, `logout`, `whoami`.

use std::{fs, time::SystemTime};

use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{
    Exit, Failure, MCIAS, Output, StoredToken, TokenStore, prompt, status_failure, stored,
    write_out,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tonic::Code;

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

/// What a machine without a name is called.
const NAMELESS: &str = "a machine without a name";

#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// Whose login; without it, it is asked for
    #[arg(long, value_name = "NAME", value_parser = parse::account)]
    pub(crate) account: Option<String>,
    /// The service that the token is for; mciasctl itself uses that for MCIAS
    #[arg(long, value_name = "NAME", default_value = MCIAS)]
    pub(crate) service: String,
    /// Remembers the server and its CA
    #[arg(long)]
    pub(crate) save: bool,
}

impl Login {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let store = TokenStore::of(&self.service)?;
        let account = match &self.account {
            Some(account) => account.clone(),
            None => parse::account(&prompt::line("Account", "say it with --account NAME")?)
                .map_err(Failure::usage)?,
        };
        // Before the password is asked for: is it the right server?
        let mut auth = client.anonymous().await?;
        let password = prompt::secret("Password")?;
        let room = store.room(SystemTime::now())?;
        let mut request = pb::LoginRequest {
            account: account.clone(),
            password: password.expose_secret().to_owned(),
            service: self.service.clone(),
            device: device(),
            ..pb::LoginRequest::default()
        };
        let mut answer = call_login(auth.login(request.clone()).await).map_err(elsewhere)?;
        if answer.token.is_empty() && !answer.needed.is_empty() {
            request.code = code(&answer)?;
            answer = call_login(auth.login(request).await).map_err(elsewhere)?;
        }
        let notes = notes(&answer);
        let token = stored(&account, answer)?;
        let now = SystemTime::now();
        if token.expires <= now {
            return Err(Failure::new(
                Exit::Failure,
                "by this machine's clock the token has expired already",
            )
            .hint("is its time right?"));
        }
        let server = client.login.mcias().server.clone();
        let locked = store.lock()?;
        let before = client.login.kept(&store)?;
        locked.put(room, &server, &token, now)?;
        drop(locked);
        if let Some(before) = before {
            replaced(client, &before).await;
        }
        let saved = self.save.then(|| client.login.mcias().save()).transpose()?;
        let expires = view::system_time(token.expires);
        let mut sentence = format!("logged in to {server} as {account}, until {expires}");
        if let Some(path) = &saved {
            sentence.push_str(&format!("\nremembered in {}", path.display()));
        }
        for note in &notes {
            sentence.push_str(&format!("\n note: {note}"));
        }
        out.done(
            &sentence,
            &json!({
                "server": server,
                "account": account,
                "service": self.service,
                "expires": view::utc(token.expires),
                "saved": saved,
                "notes": notes,
            }),
        )?;
        Ok(())
    }
}

/// Ends the login that the new one replaces: nothing knows its token any more. If that fails it ends by itself.
async fn replaced(client: &mut Client, before: &StoredToken) {
    if let Ok(mut auth) = client.auth_of(before).await {
        let _ = auth.logout(pb::LogoutRequest {}).await;
    }
}

/// A login that is refused needs no hint to log in.
fn call_login(
    answer: std::result::Result<tonic::Response<pb::LoginResponse>, tonic::Status>,
) -> Result<pb::LoginResponse> {
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let failure = status_failure(&status);
        match status.code() {
            Code::Unauthenticated => Failure::new(failure.exit, failure.message),
            _ => failure,
        }
    })
}

/// Asks for a second factor that can be typed.
fn code(answer: &pb::LoginResponse) -> Result<String> {
    let has = |factor| answer.needed().any(|needed| needed == factor);
    let totp = has(pb::SecondFactor::Totp);
    let what = match (totp, has(pb::SecondFactor::RecoveryCode)) {
        (true, true) => "Code of the authenticator app, or a recovery code",
        (true, false) => "Code of the authenticator app",
        (false, true) => "Recovery code",
        (false, false) => {
            return Err(Failure::new(
                Exit::Refused,
                "this login needs a passkey, which a terminal cannot ask for",
            )
            .hint("log in on MCIAS's pages, and enrol an authenticator app or make recovery codes there"));
        }
    };
    Ok(prompt::secret(what)?.expose_secret().trim().to_owned())
}

/// What MCIAS wants to be done first, by the commands that do it.
fn elsewhere(failure: Failure) -> Failure {
    let command = match &*failure.message {
        "change the password at mcias first, then log in here" => "mciasctl profile password",
        "enrol a second factor at mcias first, then log in here" => "mciasctl profile totp enrol",
        _ => return failure,
    };
    failure.hint(format_args!("`mciasctl login && {command}`"))
}

const EXPIRED: &str =
    "the password has to be changed before anything else: `mciasctl profile password`";
const ENROL: &str =
    "a second factor has to be enrolled before anything else: `mciasctl profile totp enrol`";
const SHOW: &str =
    "the account has a second factor that this login has not shown: `mciasctl login`";

/// What the person is to know of the login.
pub(crate) fn notes(answer: &pb::LoginResponse) -> Vec<&'static str> {
    let notes = [
        (
            answer.new_device,
            "the account was not used from here before; `mciasctl profile sessions` shows its logins",
        ),
        (answer.password_expired, EXPIRED),
        (answer.enrol_second_factor, ENROL),
    ];
    let said = notes.into_iter().filter(|(is, _)| *is);
    said.map(|(_, note)| note).collect()
}

/// What the login is told apart by among others.
fn device() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = Some(name.trim()).filter(|name| !name.is_empty());
    format!("mciasctl on {}", name.unwrap_or(NAMELESS))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    /// The service that the login is to
    #[arg(long, value_name = "NAME", default_value = MCIAS)]
    pub(crate) service: String,
}

impl Logout {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        if client.token_file.is_some() {
            return Err(Failure::usage(
                "--token-file and MC_TOKEN_FILE name a token that is no login",
            )
            .hint("`mciasctl token revoke` ends it"));
        }
        let store = TokenStore::of(&self.service)?;
        let server = client.login.mcias().server.clone();
        let Some(kept) = client.login.kept(&store)? else {
            out.done(
                &format!("not logged in to {server}"),
                &json!({ "logged_out": false }),
            )?;
            return Ok(());
        };
        let ended = match client.auth_of(&kept).await {
            Ok(mut auth) => match auth.logout(pb::LogoutRequest {}).await {
                Ok(_) => Ok(()),
                // It had ended before.
                Err(status) if status.code() == Code::Unauthenticated => Ok(()),
                Err(status) => Err(status_failure(&status)),
            },
            Err(failure) => Err(failure),
        };
        store.lock()?.remove(&server, SystemTime::now())?;
        ended.map_err(|failure| {
            let expires = view::system_time(kept.expires);
            failure.hint(format_args!(
                "the token is forgotten here, but MCIAS was not told: until {expires} it would be good for whoever has a copy"
            ))
        })?;
        let others = store.others(&server, SystemTime::now());
        let of = match &*self.service {
            MCIAS => server.to_string(),
            service => format!("{service} ({server})"),
        };
        let sentence = format!("{} is logged out of {of}", kept.account);
        out.done(
            &sentence,
            &json!({ "logged_out": true, "account": kept.account, "service": self.service, "others": others }),
        )?;
        for service in others {
            eprintln!("still logged in to {service} (`mciasctl logout --service {service}`)");
        }
        Ok(())
    }
}

/// `whoami`.
pub(crate) async fn whoami(client: &mut Client, out: Output) -> Result {
    let who = call(client.auth().await?.who_am_i(pb::WhoAmIRequest {})).await?;
    if out.json {
        return Ok(out.json(&view::json("WhoAmIResponse", &who)?)?);
    }
    Ok(write_out(&view::lines(&whoami_lines(&who)))?)
}

pub(crate) fn whoami_lines(who: &pb::WhoAmIResponse) -> Vec<(&'static str, String)> {
    let lacks = [
        (who.password_expired, EXPIRED),
        (who.enrol_second_factor, ENROL),
        (who.show_second_factor, SHOW),
    ];
    let lacks = lacks.into_iter().filter(|(lacks, _)| *lacks);
    let mut lines = vec![
        ("account", who.account.clone()),
        ("id", who.account_id.clone()),
        ("type", who.account_type.clone()),
        ("roles", view::names(&who.roles)),
        ("tags", view::names(&who.tags)),
        ("logged in by", view::names(&who.methods)),
        ("until", view::time(who.expires.as_ref())),
    ];
    lines.extend(lacks.map(|(_, what)| ("first", what.to_owned())));
    lines
}
