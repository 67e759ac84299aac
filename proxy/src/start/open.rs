//! What is open before the daemon is, or is opened first: locks, and the sockets of admin API and metrics.

use std::{
    fs::{File, TryLockError},
    io,
    os::fd::{AsFd, OwnedFd},
};

use mcdsl::telemetry::TelemetryError;
use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::{admin, config::Config, upgrade::Inherited};

/// The sockets of admin API and metrics: inherited, or new. The latter may come later.
pub(super) async fn open_services(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<(UnixListener, Metrics), StartError> {
    let socket = match inherited.unix(&config.admin_socket) {
        Some(open) => admin::adopt(open, &config.admin_socket)?,
        None => admin::bind(&config.admin_socket)?,
    };
    let Some(address) = config.metrics else {
        return Ok((socket, Ok(None)));
    };
    let metrics = match inherited.tcp(address) {
        Some(open) => {
            let adopted = open.set_nonblocking(true);
            let adopted = adopted.and_then(|()| TcpListener::from_std(open));
            Ok(adopted.map_err(StartError::Descriptors)?)
        }
        None => mcdsl::telemetry::bind_metrics(address, false).await,
    };
    Ok((socket, metrics.map(Some)))
}

/// What the metrics are served on, if they are; or why not yet.
pub(super) type Metrics = Result<Option<TcpListener>, TelemetryError>;

/// More of them, for the daemon that takes over.
pub(super) fn descriptors(
    socket: &UnixListener,
    metrics: Option<&TcpListener>,
) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = vec![descriptor(socket)?];
    if let Some(metrics) = metrics {
        descriptors.push(descriptor(metrics)?);
    }
    Ok(descriptors)
}

/// One more of a socket.
pub(super) fn descriptor(socket: &impl AsFd) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}

/// The lock of the root: inherited, or taken.
pub(super) fn lock(config: &Config, inherited: &mut Inherited) -> Result<File, StartError> {
    let path = &config.lock;
    let failed = |source| StartError::Root {
        path: path.clone(),
        source,
    };
    if let Some(root) = path.parent() {
        std::fs::create_dir_all(root).map_err(failed)?;
    }
    let file = match inherited.lock(path) {
        Some(file) => file,
        None => File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Running(path.clone())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
