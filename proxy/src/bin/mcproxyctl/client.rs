//! The connection to the daemon, and how its errors become exit codes.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mc_proto::mcproxy::v1::admin_client::AdminClient;
use mcdsl::cli::{Exit, Failure, chain, status_failure};
use tokio::net::UnixStream;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::Result;

/// The daemon answers at once; only a repair of full maps or an import of all rules takes seconds, and an upgrade as long as the new
/// daemon is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// All rules with samples, and a dump of full maps: 65,536 routes of some 600 bytes.
const MAX_ANSWER: usize = 128 << 20;

/// Connects at the first call, so that what is wrong with the input is told first.
pub(crate) struct Client {
    socket: PathBuf,
    admin: Option<AdminClient<Channel>>,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            admin: None,
        }
    }

    /// The generated client, connected.
    pub(crate) async fn admin(&mut self) -> Result<&mut AdminClient<Channel>> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => connect(&self.socket).await?,
        };
        Ok(self.admin.insert(admin))
    }
}

async fn connect(socket: &Path) -> Result<AdminClient<Channel>> {
    // First by hand: the kind of the error says what to do, and tonic buries it.
    UnixStream::connect(socket)
        .await
        .map_err(|e| unreachable(socket, &e))?;
    let path = socket
        .to_str()
        .ok_or_else(|| Failure::usage(format_args!("{} is not UTF-8", socket.display())))?;
    let channel = Endpoint::from_shared(format!("unix:{path}"))
        .map_err(|e| Failure::usage(format_args!("{path} is not a socket path: {}", chain(&e))))?
        .timeout(REQUEST_TIMEOUT)
        .connect()
        .await
        .map_err(|e| {
            let what = format!("cannot talk to mc-proxy at {path}: {}", chain(&e));
            Failure::new(Exit::Unavailable, what)
        })?;
    Ok(AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

fn unreachable(socket: &Path, e: &io::Error) -> Failure {
    let at = socket.display();
    match e.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Refused,
            format_args!("permission denied on the admin socket {at}"),
        )
        .hint("the socket belongs to the daemon's user; run as root (sudo mcproxyctl …)"),
        io::ErrorKind::NotFound => Failure::new(
            Exit::Unavailable,
            format_args!("mc-proxy is not running, or still starts: there is no admin socket {at}"),
        )
        .hint(
            "start it with `systemctl start mc-proxy`, or name its socket with --socket or --root",
        ),
        io::ErrorKind::ConnectionRefused => Failure::new(
            Exit::Unavailable,
            format_args!("mc-proxy is not running: nobody listens on {at}"),
        )
        .hint(
            "start it with `systemctl start mc-proxy`; `journalctl -u mc-proxy` says why it ended",
        ),
        _ => Failure::new(
            Exit::Unavailable,
            format_args!("cannot connect to the admin socket {at}: {e}"),
        ),
    }
}

/// Awaits an answer.
pub(crate) async fn call<T>(
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match answer.await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(failure(&status)),
    }
}

/// Awaits the answer to an addition that `--replace` could force.
pub(crate) async fn call_add<T>(
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match answer.await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == Code::AlreadyExists => {
            Err(failure(&status).hint("--replace changes what exists"))
        }
        Err(status) => Err(failure(&status)),
    }
}

pub(crate) fn failure(status: &Status) -> Failure {
    let failure = status_failure(status);
    match status.code() {
        Code::Unimplemented => {
            failure.hint("the running daemon is older than this mcproxyctl; restart it")
        }
        Code::Unavailable => failure.hint("the daemon went away; see `journalctl -u mc-proxy`"),
        _ => failure,
    }
}
