//! What is open before the daemon is, or is opened first: locks, and the sockets of admin API and metrics.

use std::{
    fs::{File, TryLockError},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::{admin, config::Config, upgrade::Inherited};

/// The sockets of admin API and metrics: inherited, or new.
pub(super) async fn open_services(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<(UnixListener, Option<TcpListener>), StartError> {
    let socket = match inherited.unix(&config.admin_socket) {
        Some(open) => admin::adopt(open, &config.admin_socket)?,
        None => admin::bind(&config.admin_socket)?,
    };
    let Some(address) = config.metrics else {
        return Ok((socket, None));
    };
    let metrics = match inherited.tcp(address) {
        Some(open) => {
            let adopted = open.set_nonblocking(true);
            adopted
                .and_then(|()| TcpListener::from_std(open))
                .map_err(StartError::Descriptors)?
        }
        None => mcdsl::telemetry::bind_metrics(address, false).await?,
    };
    Ok((socket, Some(metrics)))
}

/// More of them, for the daemon that takes over.
pub(super) fn descriptors(
    socket: &UnixListener,
    metrics: Option<&TcpListener>,
) -> io::Result<Vec<OwnedFd>> {
    let metrics = metrics.map(TcpListener::as_fd);
    [socket.as_fd()]
        .into_iter()
        .chain(metrics)
        .map(|d| d.try_clone_to_owned())
        .collect()
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
