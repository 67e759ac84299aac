//! gRPC: tonic on both sides, with a proxy between them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer},
    server::{HealthReporter, HealthService},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{NAME, Site};
use crate::{http::requests::Client, world::World};

/// The deadlines that a backend was told.
type Deadlines = Arc<Mutex<Vec<String>>>;

struct Backend {
    address: SocketAddr,
    reporter: HealthReporter,
    deadlines: Deadlines,
}

impl Backend {
    /// Health (unary, server streaming) and reflection (bidirectional streaming).
    fn start(world: &World) -> Result<Self> {
        let (listener, address): (TcpListener, _) = world.listen()?;
        let reporter = HealthReporter::new();
        let deadlines = Deadlines::default();
        let notes = Arc::clone(&deadlines);
        let health = HealthServer::with_interceptor(
            HealthService::from_health_reporter(reporter.clone()),
            move |request: tonic::Request<()>| {
                if let Some(deadline) = request.metadata().get("grpc-timeout") {
                    let deadline = deadline.to_str().unwrap_or("not ASCII").to_owned();
                    notes.lock().expect("no test panics with it").push(deadline);
                }
                Ok(request)
            },
        );
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        world.backend_runtime.spawn(
            Server::builder()
                .add_service(health)
                .add_service(reflection)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Ok(Self {
            address,
            reporter,
            deadlines,
        })
    }
}

/// A channel over one connection.
async fn channel(stream: Client) -> Result<Channel> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("one connection is enough")) }
    });
    // What is connected to speaks TLS already: only requests are told that it does.
    let endpoint = Endpoint::from_shared(format!("http://{NAME}"))?;
    let endpoint = endpoint.origin(format!("https://{NAME}").parse()?);
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[test]
fn calls_of_each_kind_pass() -> Result<()> {
    let site = Site::bare()?;
    let backend = Backend::start(&site.world)?;
    site.route(&format!("--backend {} --protocol h2c", backend.address))?;
    let stream = site.connect("h2")?;
    let reporter = backend.reporter.clone();
    site.run(async move {
        let channel = channel(stream).await?;
        let mut health = HealthClient::new(channel.clone());

        // Unary; a deadline that is far away.
        let mut request = tonic::Request::new(asked(""));
        request.set_timeout(Duration::from_secs(77));
        let status = health.check(request).await?.into_inner().status;
        ensure!(status == ServingStatus::Serving as i32, "{status}");

        // An error is in the trailers, or in the head where there is no message.
        let error = health.check(asked("nobody")).await.unwrap_err();
        ensure!(error.code() == Code::NotFound, "{error:?}");

        // Server streaming: each change when it comes.
        reporter
            .set_service_status("some", ServingStatus::Unknown)
            .await;
        let mut watch = health.watch(asked("some")).await?.into_inner();
        for status in [ServingStatus::NotServing, ServingStatus::Serving] {
            reporter.set_service_status("some", status).await;
            loop {
                let message = watch.message().await?.context("the stream ended")?;
                if message.status == status as i32 {
                    break;
                }
            }
        }
        drop(watch);

        // Bidirectional: the next question depends on the last answer.
        let (ask, questions) = tokio::sync::mpsc::channel(1);
        let question = |message| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        ask.send(question(MessageRequest::ListServices(String::new())))
            .await?;
        let mut reflection = ServerReflectionClient::new(channel);
        let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
        let mut answers = reflection
            .server_reflection_info(questions)
            .await?
            .into_inner();
        for _ in 0..10 {
            let answer = answers.next().await.context("the stream ended")??;
            ensure!(
                answer.message_response.is_some() && answer.original_request.is_some(),
                "{answer:?}"
            );
            let symbol = "grpc.health.v1.Health".to_owned();
            ask.send(question(MessageRequest::FileContainingSymbol(symbol)))
                .await?;
        }
        drop(ask);
        while answers.next().await.transpose()?.is_some() {}
        let trailers = answers.trailers().await?.context("no trailers")?;
        ensure!(trailers.get("grpc-status").is_none_or(|s| s == "0"));
        Ok(())
    })?;
    let told = backend.deadlines.lock().expect("no test panics with it");
    ensure!(
        told.len() == 1 && told[0].starts_with("77"),
        "{told:?}, the deadline is the backend's too"
    );
    Ok(())
}

/// Takes requests and never answers.
fn silent(world: &World) -> Result<SocketAddr> {
    world.serve(|stream| async {
        let service =
            service_fn(|_| std::future::pending::<hyper::Result<hyper::Response<String>>>());
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
}

#[test]
fn failures_are_told_as_grpc_has_them() -> Result<()> {
    let site = Site::bare()?;
    let silent = silent(&site.world)?;
    for (description, options, code, says) in [
        (
            "no answer in time",
            format!("--backend {silent} --response-timeout 300ms"),
            Code::DeadlineExceeded,
            "there was no answer in time",
        ),
        (
            "no backend listens",
            "--backend 10.9.2.2:1".to_owned(),
            Code::Unavailable,
            "the backend failed",
        ),
        (
            "a message that is too large",
            format!("--backend {silent} --max-body 3"),
            Code::ResourceExhausted,
            "the request is too large",
        ),
    ] {
        site.route(&format!("{options} --protocol h2c"))?;
        let stream = site.connect("h2")?;
        let error = site.run(async move {
            let mut health = HealthClient::new(channel(stream).await?);
            Ok(health.check(asked("")).await.unwrap_err())
        })?;
        ensure!(
            error.code() == code && error.message().contains(says),
            "{description}: {error:?}"
        );
    }
    Ok(())
}

#[test]
fn a_deadline_ends_what_is_not_answered() -> Result<()> {
    let site = Site::bare()?;
    let silent = silent(&site.world)?;
    site.route(&format!("--backend {silent} --protocol h2c"))?;
    let stream = site.connect("h2")?;
    site.run(async move {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        // So often that a backend at fault would be ejected.
        for _ in 0..6 {
            let request = Request::post(format!("https://{NAME}/some.Service/Call"))
                .header("content-type", "application/grpc")
                .header("grpc-timeout", "50m")
                .body(Empty::new())?;
            let response = sender.send_request(request).await?;
            ensure!(
                response.status() == 200 && response.headers()["grpc-status"] == "4",
                "{response:?}"
            );
        }
        Ok(())
    })?;
    // It is the client's clock: nothing is held against the backend.
    let backends = site.world.json(&["backend", "list", NAME])?;
    ensure!(backends[0]["connect_failures"] == 0, "{backends}");
    (site.world).wait_metric("mc_proxy_errors_total", &["reason=\"grpc_deadline\""], 6.0)
}
