//! Bodies of requests: how large they may be, and whose are read at all.

use mc_proto::{
    METHODS,
    example::v1::{Note, notes_client::NotesClient},
};
use mc_testkit::{ca::KeyExchange, grpc::code_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request};

use crate::notes::Running;

#[tokio::test]
async fn grpc_is_bounded_as_rest_is() {
    let running = Running::start(|_| {}).await;
    let mut client = NotesClient::new(running.channel().await);
    let token = format!("Bearer {}", running.tokens.of("user"));
    for (description, size, code) in [
        ("small", 1, Code::Ok),
        ("nearly 1 MiB", (1 << 20) - 100, Code::Ok),
        ("more than 1 MiB", 1 << 20, Code::ResourceExhausted),
        (
            "more than tonic's own bound",
            5 << 20,
            Code::ResourceExhausted,
        ),
    ] {
        let mut request = Request::new(Note {
            name: "a".to_owned(),
            text: "a".repeat(size),
            ..Note::default()
        });
        let value = token.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let got = client.put_note(request).await;
        let got = got.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(got, code, "{description}");
    }
}

#[tokio::test]
async fn who_may_not_call_is_told_before_a_body_is_read() {
    let running = Running::start(|_| {}).await;
    for (description, token, status) in [
        ("nobody", None, "401"),
        ("a bad token", Some("none".to_owned()), "401"),
        ("who may not", Some(running.tokens.of("system")), "403"),
    ] {
        let stream = tokio::net::TcpStream::connect(running.handle.address)
            .await
            .unwrap();
        let config = running.ca.client_config(KeyExchange::Classic).unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut tls = connector.connect(name, stream).await.unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        // Its body never comes, nor is its type said.
        let head = format!(
            "PUT /v1/notes/%FF HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n{}\r\n",
            token.unwrap_or_default()
        );
        tls.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).await.unwrap();
        let answer = std::str::from_utf8(&answer).unwrap();
        assert!(answer.ends_with(status), "{description}: {answer}");
        let (method, _, code) = running.log.lock().unwrap().pop().unwrap();
        assert!(method.ends_with("/PutNote"), "{description}: {method}");
        assert_ne!(code, Code::Ok, "{description}");
        assert!(
            running.log.lock().unwrap().is_empty(),
            "{description}: twice in the log"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_in_the_log_once() {
    let running = Running::start(|_| {}).await;
    let token = format!("Authorization: Bearer {}", running.tokens.of("user"));
    let json = "Content-Type: application/json";
    for (body, status, code) in [
        ("{", 400, Code::InvalidArgument),
        (r#"{"text": "a"}"#, 200, Code::Ok),
    ] {
        let more = ["-X", "PUT", "-H", &token, "-H", json, "-d", body];
        let (got, answer) = running.curl(&more, "/v1/notes/a").await;
        assert_eq!(got, status, "{body}: {answer}");
        let log = std::mem::take(&mut *running.log.lock().unwrap());
        let codes: Vec<_> = log.iter().map(|(_, _, code)| *code).collect();
        assert_eq!(codes, [code], "{body}");
    }
}

#[tokio::test]
async fn a_message_that_is_none_is_its_senders_fault() {
    let running = Running::start(|_| {}).await;
    let token = running.tokens.of("user");
    let channel = running.channel().await;
    let named = |name: &str| METHODS.iter().find(|m| m.path.ends_with(name)).unwrap();
    let put = named("example.v1.Notes/PutNote");
    for (description, message, code) in [
        ("whole", &b"\x0a\x01a"[..], Code::Ok),
        ("without its length", b"\x0a", Code::InvalidArgument),
        ("cut off", b"\x0a\x05a", Code::InvalidArgument),
        ("no text", b"\x0a\x01\xff", Code::InvalidArgument),
        (
            "another type",
            b"\x0d\x00\x00\x00\x00",
            Code::InvalidArgument,
        ),
    ] {
        let got = code_of(&channel, put, Some(&token), message).await;
        assert_eq!(got, code, "{description}");
        let log = std::mem::take(&mut *running.log.lock().unwrap());
        let codes: Vec<_> = log.iter().map(|(_, _, code)| *code).collect();
        assert_eq!(codes, [code], "{description}");
    }
    let watch = named("example.v1.Notes/WatchNotes");
    let system = running.tokens.of("system");
    let got = code_of(&channel, watch, Some(&system), b"\x0a").await;
    assert_eq!(got, Code::InvalidArgument, "a stream's");
}
