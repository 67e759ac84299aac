//! The subcommands that call the running service: each area has a module with its arguments, the requests made of them, and how answers are shown.
//!
//! A call carries the token of the person's login (`mciasctl login --service metacrypt`), or that of a file. What nobody but the person may see is asked
//! for, or read from stdin; it is no argument.

mod audit;
mod files;
mod input;
mod mount;
mod pki;
mod policy;
mod profile;
mod seal;
mod seconds;
mod ssh;
mod terminal;
#[cfg(test)]
mod tests;
mod transit;
mod user;
mod words;

use std::{
    fmt,
    fs::File,
    future::ready,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use mc_proto::metacrypt::v1::{
    ListMountsRequest, acme_client::AcmeClient, audit_log_client::AuditLogClient,
    pki_client::PkiClient, sealing_client::SealingClient, ssh_client::SshClient,
    system_client::SystemClient, transit_client::TransitClient,
    user_to_user_client::UserToUserClient,
};
use mcdsl::{
    cli::{
        Bearer, Exit, Failure, Login, Mcias, Output, Place, ServerUrl, call, message_json,
        token_file,
    },
    config::GLOBAL,
    server::REASON,
};
use serde_json::Value;
use tonic::{Response, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{engine::CONFIRM, start::SERVICE};

type Result<T = ()> = std::result::Result<T, Failure>;
type Authorized = InterceptedService<Channel, Bearer>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Closes the seal of the running service: what is under way ends, and no key is left in its memory
    Seal(seal::Seal),
    /// Gives the seal another password, by whoever knows one of its secrets
    Password(seal::Password),
    /// Gives the seal another master key, with a new recovery key and new shares, which are printed once
    Rotate(seal::Rotate),
    /// Mounts of engines
    #[command(subcommand)]
    Mount(mount::Command),
    /// Who may do what behind the seal
    #[command(subcommand)]
    Policy(policy::Command),
    /// Who did what, and whether the log is as it was written
    #[command(subcommand)]
    Audit(audit::Command),
    /// Keys that encrypt and sign for others
    #[command(subcommand)]
    Transit(transit::Command),
    /// Certificates (X.509) for servers and clients
    #[command(subcommand)]
    Pki(pki::Command),
    /// Certificates for SSH, of those who log in and of machines
    #[command(subcommand)]
    Ssh(ssh::Command),
    /// What accounts write to each other, so that nobody else reads it
    #[command(subcommand)]
    User(user::Command),
}

/// Which service, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    #[command(flatten)]
    pub(crate) server: Server,
    /// MCIAS, where one is logged in, like https://auth.example.org [default: as of `mciasctl login --save`]
    #[arg(long, global = true, env = "MCIAS_SERVER", value_name = "URL", help_heading = GLOBAL)]
    mcias: Option<ServerUrl>,
    /// The CA that the certificate of MCIAS leads to, PEM [default: as of `mciasctl login --save`]
    #[arg(long, global = true, env = "MCIAS_CA", value_name = "FILE", help_heading = GLOBAL)]
    mcias_ca: Option<PathBuf>,
    /// Holds a token to be used instead of one's login
    #[arg(long, global = true, env = "MC_TOKEN_FILE", value_name = "FILE", help_heading = GLOBAL)]
    token_file: Option<PathBuf>,
    /// Prints JSON, errors included
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
}

/// Where the service is.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    /// Its address, like https://crypt.example.org; port 443 unless it says another [default: this machine, as its configuration says]
    #[arg(long, global = true, env = "METACRYPT_SERVER", value_name = "URL", help_heading = GLOBAL)]
    pub(crate) server: Option<ServerUrl>,
    /// The CA that its certificate leads to, PEM [default: `tls_ca` of the configuration, else `ca_cert`]
    #[arg(long, global = true, env = "METACRYPT_CA", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) ca: Option<PathBuf>,
}

impl Command {
    /// What is done with the files of this machine, without the service.
    pub(crate) fn offline(&self) -> Option<&audit::Command> {
        match self {
            Self::Audit(command) => command.is_offline().then_some(command),
            _ => None,
        }
    }

    /// Does it; `find` knows the service's address and CA of what was said.
    ///
    /// # Errors
    /// Whatever there is to tell.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        find: impl FnOnce(&Server) -> Result<Place>,
    ) -> Result {
        let done = self.call(connection, find).await;
        let shown = match self {
            Self::Ssh(ssh::Command::Sign(sign)) => format!("ssh profile show {}", sign.profile()),
            Self::Pki(command) => command.profile_shown(),
            _ => String::new(),
        };
        done.map_err(|failure| words::told(failure, &shown, connection.token_file.as_deref()))
    }

    async fn call(
        &self,
        connection: &Connection,
        find: impl FnOnce(&Server) -> Result<Place>,
    ) -> Result {
        let client = &Client {
            place: find(&connection.server)?,
            bearer: connection.bearer().await?,
        };
        let out = connection.output();
        match self {
            Self::Seal(command) => command.run(client, out).await,
            Self::Password(command) => command.run(client, out).await,
            Self::Rotate(command) => command.run(client, out).await,
            Self::Mount(command) => command.run(client, out).await,
            Self::Policy(command) => command.run(client, out).await,
            Self::Audit(command) => command.run(client, out).await,
            Self::Transit(command) => command.run(client, out).await,
            Self::Pki(command) => command.run(client, out).await,
            Self::Ssh(command) => command.run(client, out).await,
            Self::User(command) => command.run(client, out).await,
        }
    }
}

impl Connection {
    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// The token that calls carry.
    async fn bearer(&self) -> Result<Bearer> {
        if let Some(path) = &self.token_file {
            return Bearer::new(&token_file(path)?);
        }
        let flags = ["--mcias", "--mcias-ca"];
        let mcias = Mcias::of(self.mcias.clone(), self.mcias_ca.clone(), flags)?;
        Login::new(SERVICE.name, mcias).bearer().await
    }
}

/// The service, with the caller's token.
pub(crate) struct Client {
    place: Place,
    bearer: Bearer,
}

impl Client {
    /// A service's client, by what makes it.
    async fn of<C>(&self, client: fn(Channel, Bearer) -> C) -> Result<C> {
        let channel = self.place.connect().await?;
        Ok(client(channel, self.bearer.clone()))
    }

    /// What is said of a list in which there is nothing: whether there is such a mount at all.
    async fn nothing(&self, mount: &str, engine: &str, said: &str) -> Result<String> {
        let mut system = self.system().await?;
        let mounts = call(system.list_mounts(ListMountsRequest {})).await?.mounts;
        let found = mounts.iter().find(|found| found.name == mount);
        match found.map(|found| &*found.engine) {
            None => Ok(format!("{said}, nor a mount {mount} that you may see")),
            Some(kind) if kind == engine => Ok(said.to_owned()),
            Some(kind) => Err(Failure::usage(format_args!(
                "{mount} is a mount of the engine {kind}, not {engine}"
            ))),
        }
    }

    async fn sealing(&self) -> Result<SealingClient<Authorized>> {
        self.of(SealingClient::with_interceptor).await
    }

    async fn system(&self) -> Result<SystemClient<Authorized>> {
        self.of(SystemClient::with_interceptor).await
    }

    async fn audit_log(&self) -> Result<AuditLogClient<Authorized>> {
        self.of(AuditLogClient::with_interceptor).await
    }

    async fn transit(&self) -> Result<TransitClient<Authorized>> {
        self.of(TransitClient::with_interceptor).await
    }

    async fn pki(&self) -> Result<PkiClient<Authorized>> {
        self.of(PkiClient::with_interceptor).await
    }

    async fn acme(&self) -> Result<AcmeClient<Authorized>> {
        self.of(AcmeClient::with_interceptor).await
    }

    async fn ssh(&self) -> Result<SshClient<Authorized>> {
        self.of(SshClient::with_interceptor).await
    }

    async fn user(&self) -> Result<UserToUserClient<Authorized>> {
        self.of(UserToUserClient::with_interceptor).await
    }
}

/// Where something is: the mount, and its name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    mount: String,
    name: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.name)
    }
}

/// `mount/name`.
fn at(text: &str) -> std::result::Result<At, String> {
    match text.split_once('/') {
        Some((mount, name)) if !name.is_empty() && !name.contains('/') => Ok(At {
            mount: mount_name(mount)?,
            name: name.to_owned(),
        }),
        _ => Err("write MOUNT/NAME, like transit/backup".to_owned()),
    }
}

/// A mount's name.
fn mount_name(text: &str) -> std::result::Result<String, String> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match (1..=64).contains(&text.len()) && text.bytes().all(letter) {
        true => Ok(text.to_owned()),
        false => Err("a mount's name is 1 to 64 small letters, digits and `-`".to_owned()),
    }
}

/// The name of what is in a mount that was named already, alone or as other commands take it (`MOUNT/NAME`); nothing is nothing.
///
/// # Errors
/// It is in another mount.
fn in_mount<'n>(option: &str, mount: &str, name: &'n str) -> Result<&'n str> {
    match name.split_once('/') {
        None => Ok(name),
        Some((of, name)) if of == mount => Ok(name),
        Some(_) => Err(Failure::usage(format_args!(
            "{option} {name}: it is in another mount than {mount}, of which the list is"
        ))),
    }
}

/// Looks at what somebody is to be asked about, so that nobody is asked about what there is not; `None`: nobody is asked, or who asks may not read it.
async fn seen<T>(
    yes: bool,
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<Option<T>> {
    if yes {
        return Ok(None);
    }
    match call(answer).await {
        Ok(found) => Ok(Some(found)),
        Err(refused) if refused.exit == Exit::Refused => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Awaits what removes something that has more in it than may be lost without a word: the request says that it is meant by `confirm`, a command by
/// `--with-all`.
async fn removed<T>(
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let answer = answer.await;
    let reason = |status: &Status| status.metadata().get(REASON).cloned();
    let reason = answer.as_ref().err().and_then(reason);
    call(ready(answer)).await.map_err(|failure| {
        match reason.is_some_and(|reason| reason == CONFIRM) {
            true => failure.hint("nothing was removed; say it again with --with-all"),
            false => failure,
        }
    })
}

/// A name of an enum without its beginning, as it is said on the command line.
fn said(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

/// A file of text that is no secret.
fn read_text(path: &Path, longest: u64) -> Result<String> {
    let unread = |e: io::Error| Failure::usage(format_args!("{}: {e}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(unread)?;
    let length = file.take(longest + 1).read_to_string(&mut text);
    match length.map_err(unread)? as u64 > longest {
        true => Err(Failure::usage(format_args!(
            "{}: it is longer than {longest} bytes",
            path.display()
        ))),
        false => Ok(text),
    }
}

/// A message of Metacrypt's definition, by its short name, as REST has it.
pub(crate) fn json(name: &str, message: &impl prost::Message) -> Result<Value> {
    message_json(&format!("metacircular.metacrypt.v1.{name}"), message)
}

/// Many of them.
fn json_list<M: prost::Message>(name: &str, messages: &[M]) -> Result<Value> {
    messages.iter().map(|message| json(name, message)).collect()
}
