//! What operators and their tools see: health, reflection, metrics, the headers of answers.

use mc_testkit::wait_for_async;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::notes::Running;

const NOTES: &str = "metacircular.example.v1.Notes";

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// Waits until all names say so.
async fn said(channel: &Channel, wanted: ServingStatus) {
    let mut client = HealthClient::new(channel.clone());
    for name in ["", NOTES] {
        let says = async || {
            let answer = client.check(of(name)).await.unwrap();
            (answer.into_inner().status() == wanted).then_some(())
        };
        wait_for_async("the health", says).await.unwrap();
    }
}

#[tokio::test]
async fn health_follows_the_service() {
    let running = Running::start(|_| {}).await;
    let channel = running.channel().await;
    let mut client = HealthClient::new(channel.clone());
    for name in ["", NOTES] {
        let first = client.check(of(name)).await.unwrap().into_inner().status();
        assert_eq!(first, ServingStatus::Serving, "{name:?} from the start");
    }
    let unknown = client.check(of("metacircular.mcias.v1.Auth")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    running.sealed.send_replace(true);
    said(&channel, ServingStatus::NotServing).await;
    running.sealed.send_replace(false);
    said(&channel, ServingStatus::Serving).await;
    running.handle.set_serving(false);
    said(&channel, ServingStatus::NotServing).await;
    running.handle.set_serving(true);
    said(&channel, ServingStatus::Serving).await;

    let mut watch = client.watch(of(NOTES)).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().map(|now| now.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));
    drop(running);
    assert_eq!(next().await, Some(ServingStatus::NotServing), "it stops");
}

async fn reflected(
    running: &Running,
    asked: MessageRequest,
) -> Result<Option<MessageResponse>, Status> {
    let mut client = ServerReflectionClient::new(running.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(asked),
    };
    let asked = tokio_stream::iter([request]);
    let mut answers = client.server_reflection_info(asked).await?.into_inner();
    Ok(answers
        .message()
        .await?
        .and_then(|answer| answer.message_response))
}

#[tokio::test]
async fn reflection_shows_this_service_alone() {
    let running = Running::start(|_| {}).await;
    let listed = reflected(&running, MessageRequest::ListServices(String::new())).await;
    let Ok(Some(MessageResponse::ListServicesResponse(listed))) = listed else {
        panic!("{listed:?}");
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|of| of.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", NOTES]);
    for (symbol, known) in [
        (NOTES, true),
        ("google.api.HttpRule", true),
        ("grpc.health.v1.Health", true),
        ("metacircular.mcias.v1.Auth", false),
    ] {
        let asked = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let answer = reflected(&running, asked).await;
        assert_eq!(answer.is_ok(), known, "{symbol}: {answer:?}");
    }
}

#[tokio::test]
async fn answers_are_not_kept_nor_taken_for_something_else() {
    let running = Running::start(|_| {}).await;
    let hsts = "strict-transport-security: max-age=63072000";
    let all = ["cache-control: no-store", "x-content-type-options: nosniff"];
    let grpc = ["-X", "POST", "-H", "Content-Type: application/grpc"];
    let token = format!("Authorization: Bearer {}", running.tokens.of("user"));
    let panics = [
        "-X",
        "PUT",
        "-H",
        &token,
        "-H",
        "Content-Type: application/json",
        "-d",
        "{}",
    ];
    for (description, more, path, rest) in [
        ("REST", &[][..], "/v1/ping", true),
        ("a refusal", &[], "/v1/notes", true),
        ("nothing there", &[], "/v1/nothing", true),
        ("the document", &[], "/openapi.json", true),
        ("a panic", &panics, "/v1/notes/panic", true),
        ("gRPC", &grpc, "/metacircular.example.v1.Notes/Ping", false),
        (
            "no such method",
            &grpc,
            "/metacircular.example.v1.Notes/None",
            false,
        ),
    ] {
        let more = [&["-i"], more].concat();
        let (_, answer) = running.curl(&more, path).await;
        let answer = answer.to_lowercase();
        for line in all {
            assert_eq!(answer.matches(line).count(), 1, "{description}: {answer}");
        }
        assert_eq!(answer.contains(hsts), rest, "{description}: {answer}");
    }
}

#[tokio::test]
async fn refused_connections_are_in_the_metrics() {
    let running = Running::start(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(running.handle.address)
        .await
        .unwrap();
    stream.write_all(b"no header at all\r\n").await.unwrap();
    // The end, or a reset: what was sent is not read.
    let _ = stream.read(&mut [0; 1]).await;
    let mut scrape = tokio::net::TcpStream::connect(running.handle.metrics.unwrap())
        .await
        .unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    scrape.write_all(request).await.unwrap();
    let mut text = String::new();
    scrape.read_to_string(&mut text).await.unwrap();
    let line = "connections_refused_total{reason=\"proxy_header\"} 1\n";
    assert!(text.contains(line) && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn streams_that_anybody_may_have_are_bounded_for_each_source() {
    const MOST: usize = 16;
    let running = Running::start(|_| {}).await;
    let mut client = HealthClient::new(running.channel().await);
    let mut held = Vec::new();
    for n in 0..MOST {
        let mut watch = client.watch(of("")).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{n}");
        held.push(watch);
    }
    let more = client.watch(of("")).await.map(drop).unwrap_err();
    assert_eq!(more.code(), Code::ResourceExhausted, "{more}");
    let services = MessageRequest::ListServices(String::new());
    let reflection = reflected(&running, services).await.unwrap_err();
    assert_eq!(reflection.code(), Code::ResourceExhausted, "{reflection}");
    let asked = client.check(of("")).await;
    assert!(asked.is_ok(), "what is no stream is answered");
    held.pop();
    let again = async || client.clone().watch(of("")).await.ok();
    wait_for_async("its place", again).await.unwrap();
}

#[tokio::test]
async fn what_reflection_is_asked_is_short() {
    let running = Running::start(|_| {}).await;
    for (description, length, wanted) in [
        ("a name", 100, true),
        ("nearly 4 KiB", 4000, true),
        ("more", 4096, false),
    ] {
        let asked = MessageRequest::FileContainingSymbol("x".repeat(length));
        let got = reflected(&running, asked).await;
        // That there is no such symbol may be an answer or a status; to what is not read there is neither.
        let answered = match got {
            Ok(answer) => answer.is_some(),
            Err(status) => status.code() == Code::NotFound,
        };
        assert_eq!(answered, wanted, "{description}");
    }
}
