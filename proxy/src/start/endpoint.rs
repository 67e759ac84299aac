//! The metrics endpoint. An address that cannot be listened on keeps nobody from being served: it is tried again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mcdsl::telemetry;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use super::open::descriptor;
use crate::{control::Control, metrics};

/// Between the first two attempts; doubled after each.
const FIRST: Duration = Duration::from_secs(1);
/// Between attempts at most.
const LONGEST: Duration = Duration::from_secs(60);

/// Serves the metrics, if they are configured, until `stop`; once their address is free, if there is no listener yet.
pub(super) async fn serve(
    control: Arc<Control>,
    listener: Option<TcpListener>,
    stop: CancellationToken,
) {
    let listener = match (listener, control.config.metrics) {
        (Some(listener), _) => listener,
        (None, None) => return,
        (None, Some(address)) => {
            let later = stop.run_until_cancelled(listen(&control, address)).await;
            let Some(listener) = later else { return };
            listener
        }
    };
    let scraped = Arc::clone(&control);
    let render = move || metrics::render(&scraped);
    if let Err(error) = telemetry::serve_metrics(listener, render, stop).await {
        tracing::error!(%error, "the metrics endpoint ended");
    }
}

async fn listen(control: &Control, address: SocketAddr) -> TcpListener {
    let mut wait = FIRST;
    loop {
        sleep(wait).await;
        let bound = telemetry::bind_metrics(address, false).await;
        match bound.map(|listener| (descriptor(&listener), listener)) {
            Ok((Ok(open), listener)) => {
                tracing::info!(%address, "metrics are served at last");
                control.metrics_listen(open);
                return listener;
            }
            Ok((Err(error), _)) => control.metrics_fail(&error),
            Err(error) => control.metrics_fail(&error),
        }
        wait = LONGEST.min(2 * wait);
    }
}
