//! `mciasctl token` and `mciasctl revoke`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{ArgGroup, Subcommand};
use mc_proto::mcias::v1::{self as pb, revoke_request::What};
use mcdsl::cli::{Exit, Failure, Output, PrivateFile, prompt, write_out};
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token of a system account; it is shown once, or written to a file
    Issue(Issue),
    /// Shows an account's tokens, without what would let anybody use them
    #[command(visible_alias = "ls")]
    List {
        /// The account
        #[arg(value_parser = parse::account)]
        account: String,
    },
    /// Makes a new token in the place of one, which is void at once
    Rotate(Rotate),
    /// Makes one token void, or ends the login of a person that it is of
    Revoke {
        /// As `token list` shows it; of a person's the `jti`, or the `sid` of its login
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// The system account
    #[arg(value_parser = parse::account)]
    account: String,
    /// A service that it is for; repeatable
    #[arg(long, required = true)]
    service: Vec<String>,
    /// How long it is good for [default: 365]
    #[arg(long, value_parser = parse::days)]
    days: Option<u32>,
    /// What it is for, to be told apart
    #[arg(long, default_value = "")]
    comment: String,
    #[command(flatten)]
    to: ToOrReplace,
}

impl Issue {
    pub(crate) fn request(&self) -> pb::IssueTokenRequest {
        pb::IssueTokenRequest {
            name: self.account.clone(),
            services: self.service.clone(),
            days: self.days.unwrap_or(0),
            comment: self.comment.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The system account
    #[arg(value_parser = parse::account)]
    account: String,
    /// The token, as `token list` shows it
    id: String,
    #[command(flatten)]
    to: ToOrReplace,
}

/// Bytes that a secret may have: the room is taken before it is made.
const ROOM: usize = 8 * 1024;

/// Where a secret goes that is answered once.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// Writes it to a new file, mode 0600, and not to stdout; a file that there is is not overwritten
    #[arg(long, value_name = "FILE", value_parser = parse::secret_file)]
    to: Option<PathBuf>,
}

/// The same, in the place of one that is void.
#[derive(Debug, clap::Args)]
pub(crate) struct ToOrReplace {
    #[command(flatten)]
    to: To,
    /// Replaces the file of `--to` if there is one: that of a token that is void, or will be
    #[arg(long, requires = "to")]
    replace: bool,
}

impl ToOrReplace {
    fn open(&self) -> Result<Option<PrivateFile>> {
        match &self.to.to {
            Some(path) if self.replace => {
                let file = PrivateFile::create(path)?;
                file.reserve(ROOM).map(Some)
            }
            _ => self.to.open(),
        }
    }
}

impl To {
    /// Before the secret is made: a file that cannot be written must not cost it.
    pub(crate) fn open(&self) -> Result<Option<PrivateFile>> {
        let open = |path| PrivateFile::create_new(path).and_then(|file| file.reserve(ROOM));
        self.to.as_deref().map(open).transpose()
    }

    /// Hands a secret on. On stdout it is alone, so that a script can take it; `notes` go to stderr then. With `--json`, `field` of `value` has
    /// it, unless it went to the file.
    pub(crate) fn deliver(
        &self,
        file: Option<PrivateFile>,
        secret: &str,
        notes: &str,
        field: &str,
        mut value: Value,
        out: Output,
    ) -> Result {
        let Some((file, path)) = file.zip(self.to.as_ref()) else {
            if out.json {
                return Ok(out.json(&value)?);
            }
            // The secret must come out, whether stderr can be written or not.
            let _ = writeln!(io::stderr(), "{notes}; it is shown only now:");
            return Ok(write_out(&format!("{secret}\n"))?);
        };
        file.write(format!("{secret}\n").as_bytes()).map_err(|e| {
            Failure::new(Exit::Failure, format_args!("{notes}, but is lost: {e}"))
                .hint("make another one; this one can be revoked")
        })?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove(field);
            fields.insert("file".to_owned(), json!(path));
        }
        out.done(&format!("{notes}; it is in {}", path.display()), &value)?;
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["account", "everything"]))]
pub(crate) struct Revoke {
    /// All tokens of this account, logins included
    #[arg(long, value_name = "NAME", value_parser = parse::account)]
    account: Option<String>,
    /// All tokens of all accounts: everybody has to log in again, and every system account needs a new token
    #[arg(long)]
    everything: bool,
    /// Only tokens that were issued until then, and logins that began until then: a time, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    issued_until: Option<Timestamp>,
    /// Does not ask
    #[arg(long)]
    yes: bool,
}

impl Revoke {
    pub(crate) fn request(&self) -> pb::RevokeRequest {
        let what = match &self.account {
            Some(account) => What::Account(account.clone()),
            None => What::Everything(self.everything),
        };
        pb::RevokeRequest {
            what: Some(what),
            issued_until: self.issued_until,
        }
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        revoke(client, out, self.request(), &self.whose(), self.yes).await
    }

    /// What will be void.
    pub(crate) fn whose(&self) -> String {
        let until = self.issued_until.as_ref();
        let until = until.map(|at| format!("issued until {}", view::time(Some(at))));
        match (&self.account, until) {
            (Some(account), None) => format!("all tokens of {account}"),
            (Some(account), Some(until)) => format!("tokens of {account} {until}"),
            (None, None) => "all tokens of everybody, this login among them,".to_owned(),
            (None, Some(until)) => format!("tokens of everybody {until}"),
        }
    }
}

async fn revoke(
    client: &mut Client,
    out: Output,
    request: pb::RevokeRequest,
    whose: &str,
    yes: bool,
) -> Result {
    prompt::confirm(&format!("{whose} will be void"), yes)?;
    let value = view::json("RevokeRequest", &request)?;
    call(client.accounts().await?.revoke(request)).await?;
    out.done(
        &format!("revoked: {}", whose.trim_end_matches(',')),
        &json!({ "revoked": value }),
    )?;
    Ok(())
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::Issue(issue) => {
                let mut accounts = client.accounts().await?;
                let file = issue.to.open()?;
                let answer = call(accounts.issue_token(issue.request())).await?;
                issued(&answer, &issue.account, &issue.to.to, file, out)
            }
            Self::Rotate(rotate) => {
                let mut accounts = client.accounts().await?;
                let file = rotate.to.open()?;
                let request = pb::RotateTokenRequest {
                    name: rotate.account.clone(),
                    id: rotate.id.clone(),
                };
                let answer = match call(accounts.rotate_token(request)).await {
                    Ok(answer) => answer,
                    Err(failure) => {
                        let tokens = list(client, &rotate.account).await.unwrap_or_default();
                        return Err(anew(failure, rotate, &tokens));
                    }
                };
                issued(&answer, &rotate.account, &rotate.to.to, file, out)
            }
            Self::List { account } => {
                let tokens = list(client, account).await?;
                out.table(
                    &["ID", "STATE", "SERVICES", "ISSUED", "EXPIRES", "COMMENT"],
                    tokens.iter().map(row).collect(),
                    &format!("{account} has no tokens"),
                    &view::json_list("Token", &tokens)?,
                )?;
                Ok(())
            }
            Self::Revoke { id, yes } => {
                let request = pb::RevokeRequest {
                    what: Some(What::Token(id.clone())),
                    issued_until: None,
                };
                revoke(client, out, request, &format!("the token {id}"), *yes).await
            }
        }
    }
}

async fn list(client: &mut Client, account: &str) -> Result<Vec<pb::Token>> {
    let request = pb::ListTokensRequest {
        name: account.to_owned(),
    };
    let list = call(client.accounts().await?.list_tokens(request)).await?;
    Ok(list.tokens)
}

/// What is left to do for one that is void already, as all are after `mcias restore`.
fn anew(failure: Failure, rotate: &Rotate, tokens: &[pb::Token]) -> Failure {
    let void = |token: &&pb::Token| token.id == rotate.id && !is_valid(token);
    let Some(void) = tokens.iter().find(void) else {
        return failure;
    };
    let services = void
        .services
        .iter()
        .map(|name| format!(" --service {name}"));
    let (services, file) = (services.collect::<String>(), rotate.to.to.to.as_deref());
    let file = file.map_or("FILE".into(), std::path::Path::to_string_lossy);
    failure.hint(format_args!(
        "`mciasctl token issue {}{services} --to {file} --replace` makes a new one in its place",
        rotate.account
    ))
}

fn issued(
    answer: &pb::IssueTokenResponse,
    account: &str,
    to: &To,
    file: Option<PrivateFile>,
    out: Output,
) -> Result {
    let expires = view::time(answer.expires.as_ref());
    let notes = format!("token {} of {account}, good until {expires}", answer.id);
    let value = view::json("IssueTokenResponse", answer)?;
    to.deliver(file, &answer.token, &notes, "token", value, out)
}

fn has_expired(token: &pb::Token) -> bool {
    let now = Timestamp::from(std::time::SystemTime::now()).seconds;
    token.expires.as_ref().is_some_and(|at| at.seconds <= now)
}

/// Whether it lets anybody in.
pub(crate) fn is_valid(token: &pb::Token) -> bool {
    !token.revoked && !has_expired(token)
}

pub(crate) fn row(token: &pb::Token) -> Vec<String> {
    let state = match (token.revoked, has_expired(token)) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "valid",
    };
    vec![
        token.id.clone(),
        state.to_owned(),
        view::names(&token.services),
        view::time(token.issued.as_ref()),
        view::time(token.expires.as_ref()),
        view::text(&token.comment),
    ]
}
