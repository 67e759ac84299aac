//! Binding and serving the Unix socket: gRPC, and REST for the same methods (`curl --unix-socket`).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::Router;
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use mc_proto::mcproxy::v1::admin_server::AdminServer;
use nix::{
    sys::stat::{Mode, umask},
    unistd::geteuid,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server, Uri},
};
use tonic_health::ServingStatus;

use super::AdminService;
use crate::control::Control;

/// Of the API's definition.
const PACKAGE: &str = "metacircular.mcproxy.v1";
/// Largest request: an import of 32,768 rules with comments.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Requests of one connection at once.
const MAX_CONCURRENT: usize = 16;

/// The admin socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind the admin socket {path}")]
pub struct SocketError {
    /// Its path.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// Binds the admin socket with mode 0600. The caller holds the root's lock, so a socket that is there already
/// belongs to a daemon that is gone.
///
/// # Errors
/// [`SocketError`].
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        // Bind refuses whatever else is there: it is not ours to remove.
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    // The umask closes the instant between bind and chmod.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Uses an admin socket that is open already.
///
/// # Errors
/// [`SocketError`].
pub fn adopt(
    open: std::os::unix::net::UnixListener,
    path: &Path,
) -> Result<UnixListener, SocketError> {
    let adopted = open.set_nonblocking(true);
    let adopted = adopted.and_then(|()| UnixListener::from_std(open));
    adopted.map_err(|source| SocketError {
        path: path.to_owned(),
        source,
    })
}

/// Serves until cancelled.
///
/// # Errors
/// If the transport fails.
pub async fn serve(
    listener: UnixListener,
    control: Arc<Control>,
    cancel: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AdminServer<AdminService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mc_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let drains = {
        let control = Arc::clone(&control);
        async move {
            control.listeners.drained().await;
            let stopped = ServingStatus::NotServing;
            health.set_service_status("", stopped).await;
            health.set_not_serving::<AdminServer<AdminService>>().await;
        }
    };
    let admin = AdminServer::new(AdminService::new(control)).max_decoding_message_size(MAX_MESSAGE);
    let incoming = UnixListenerStream::new(listener).filter(|stream| {
        let taken = stream.as_ref().map_or(true, permitted);
        std::future::ready(taken)
    });
    // Nobody is accepted once it is cancelled, be it that the task runs late.
    let incoming = incoming.take_until(cancel.clone().cancelled_owned());
    let grpc = Routes::new(admin)
        .add_service(health_service)
        .add_service(reflection)
        .prepare()
        .into_axum_router();
    let api = mcdsl::server::api(PACKAGE, grpc, Router::new(), MAX_MESSAGE)?;
    let serving = Server::builder()
        .accept_http1(true)
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .add_routes(Routes::from(api))
        .serve_with_incoming_shutdown(incoming, cancel.cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return Ok(served?),
        () = drains => {}
    }
    Ok(serving.await?)
}

/// A client's channel to the socket.
///
/// # Errors
/// If nothing answers there.
pub async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The authority is required by HTTP/2 and means nothing on a Unix socket.
    Endpoint::from_static("http://mc-proxy")
        .connect_with_connector(connector)
        .await
}

fn permitted(stream: &UnixStream) -> bool {
    let permitted = stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw());
    if !permitted {
        tracing::warn!(peer = ?stream.peer_cred().map(|p| p.uid()).ok(), "admin connection refused");
    }
    permitted
}
