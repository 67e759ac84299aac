use std::sync::Mutex;

use futures_util::future::join_all;
use h2::server;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn parts(method: Method) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = hyper::Uri::from_static("https://a.example/");
    request.into_parts().0
}

fn body(text: &'static str) -> Option<Full<Bytes>> {
    Some(Full::from(text))
}

/// Answers each request with its body, `streams` at once at most. Returns how many there were at once.
async fn echo(stream: DuplexStream, streams: u32) -> u32 {
    let made = server::Builder::new()
        .max_concurrent_streams(streams)
        .handshake::<_, Bytes>(stream)
        .await;
    let mut connection = made.expect("HTTP/2");
    let most = Arc::new(Mutex::new((0, 0)));
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let most = Arc::clone(&most);
        let begun = move |n: i32| {
            let mut most = most.lock().unwrap();
            most.0 += n;
            most.1 = most.0.max(most.1);
        };
        tokio::spawn(async move {
            begun(1);
            let mut body = request.into_body();
            let mut sender = respond.send_response(Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                tokio::task::yield_now().await;
                sender.send_data(data, false).unwrap();
            }
            begun(-1);
            sender.send_data(Bytes::new(), true).unwrap();
        });
    }
    let most = most.lock().unwrap().1;
    u32::try_from(most).expect("it counts up first")
}

/// Answers each request with as many frames of data as are wanted, and an end if it is.
async fn frames(stream: DuplexStream, data: &'static [u8], count: usize, ends: bool) {
    let made = server::Builder::new()
        .max_send_buffer_size(u32::MAX as usize)
        .handshake::<_, Bytes>(stream)
        .await;
    let mut connection = made.expect("HTTP/2");
    let mut open = Vec::new();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        for _ in 0..count {
            sender.send_data(Bytes::from_static(data), false).unwrap();
        }
        if ends {
            (sender.send_data(Bytes::from_static(b"end"), true)).unwrap();
        }
        open.push((respond, sender));
    }
}

#[tokio::test]
async fn empty_frames_are_nothing() {
    let (ours, theirs) = tokio::io::duplex(1024);
    tokio::spawn(frames(theirs, b"", 300, true));
    let mut http2 = Http2::new(ours).await.unwrap();
    let response = http2.send(&parts(Method::GET), &mut body(""), LIMIT).await;
    let collected = response.unwrap().into_body().collect().await;
    assert_eq!(collected.unwrap().to_bytes(), "end");
}

#[tokio::test]
async fn frames_that_have_come_are_one_piece() {
    const COUNT: usize = 40_000;
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    tokio::spawn(frames(theirs, b"x", COUNT, true));
    let mut http2 = Http2::new(ours).await.unwrap();
    let response = http2.send(&parts(Method::GET), &mut body(""), LIMIT).await;
    let mut body = response.unwrap().into_body();
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().expect("data");
        assert!(data.len() < crate::http::body::JOINED + "end".len());
        (pieces, bytes) = (pieces + 1, bytes + data.len());
        // Until all that can come has come.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(bytes, COUNT + "end".len());
    assert!(pieces < COUNT / 100, "{pieces} pieces");
}

#[tokio::test]
async fn frames_that_nobody_takes_are_bounded_by_what_they_cost() {
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    // As many as the window of a stream lets come.
    tokio::spawn(frames(theirs, b"x", WINDOW as usize, false));
    let http2 = Http2::new(ours).await.unwrap();
    assert!(http2.settled().await);
    let mut untaken = Vec::new();
    for n in 0..4 {
        let lent = http2.lend();
        if http2.closed() {
            assert!(n > 0, "at the first stream");
            return;
        }
        let (parts, mut body) = (parts(Method::GET), body(""));
        match lent.expect("a stream").send(&parts, &mut body, LIMIT).await {
            Ok(response) => untaken.push(response.into_body()),
            Err(_) => return,
        }
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
    panic!("h2 keeps them all");
}

#[tokio::test]
async fn as_many_streams_are_lent_as_the_backend_takes_and_one_end_may_cost() {
    for (takes, wanted) in [(2, 2), (1000, MAX_STREAMS)] {
        let (ours, theirs) = tokio::io::duplex(1024);
        tokio::spawn(echo(theirs, takes));
        let http2 = Http2::new(ours).await.unwrap();
        assert!(http2.settled().await);
        let lent: Vec<_> = std::iter::from_fn(|| http2.lend())
            .take(2 * wanted)
            .collect();
        assert_eq!(lent.len(), wanted, "it takes {takes}");
    }
}

#[tokio::test]
async fn streams_are_lent_again_and_the_connection_ends_with_the_last_handle() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let echo = tokio::spawn(echo(theirs, 2));
    let http2 = Http2::new(ours).await.unwrap();
    assert!(http2.settled().await);
    for _ in 0..100 {
        let lent: Vec<_> = std::iter::from_fn(|| http2.lend()).collect();
        assert_eq!(lent.len(), 2);
        let ask = |mut http2: Http2| async move {
            let (parts, mut body) = (parts(Method::POST), body("some"));
            let response = http2.send(&parts, &mut body, LIMIT).await.unwrap();
            let collected = response.into_body().collect().await;
            collected.unwrap().to_bytes()
        };
        let answers = join_all(lent.into_iter().map(ask)).await;
        assert!(answers.iter().all(|answer| answer == "some"));
        assert!(http2.idle());
    }
    // With the last handle the connection ends.
    assert!(!http2.closed());
    drop(http2);
    let most = echo.await.unwrap();
    assert!((1..=2).contains(&most), "{most} at once");
}

#[tokio::test]
async fn a_backend_that_speaks_no_http2_is_known() {
    for (description, said, speaks) in [
        ("HTTP/1.1", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false),
        (
            "HTTP/1.0",
            b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n",
            false,
        ),
        ("TLS", b"\x15\x03\x03\x00\x02\x02\x16\0\0\0", false),
        ("nothing", b"", true),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let http2 = Http2::new(ours).await.unwrap();
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(http2.settled().await, speaks, "{description}");
        // It has closed before anything was written.
        let (gone, _) = tokio::io::duplex(1);
        let http2 = Http2::new(tokio::io::join(said, gone)).await.unwrap();
        assert_eq!(http2.settled().await, speaks, "{description}, reset");
    }
}

#[tokio::test]
async fn what_never_left_is_given_back() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let mut http2 = Http2::new(ours).await.unwrap();
    drop(theirs);
    while !http2.closed() {
        tokio::task::yield_now().await;
    }
    let mut body = body("some");
    let error = http2.send(&parts(Method::POST), &mut body, LIMIT).await;
    assert!(error.is_err() && body.is_some() && http2.stale());
}

#[tokio::test]
async fn a_backend_that_answers_no_ping_is_gone() {
    let short = Duration::from_millis(10);
    let (ours, theirs) = tokio::io::duplex(1024);
    let mut http2 = Http2::with_pings(ours, short, short).await.unwrap();
    let mut mute = server::handshake(theirs);
    let asking = async {
        let connection: Result<server::Connection<_, Bytes>, _> = (&mut mute).await;
        let mut connection = connection.unwrap();
        let request = connection.accept().await;
        // Nobody reads it any more.
        std::future::pending::<()>().await;
        drop((connection, request));
    };
    let (parts, mut body) = (parts(Method::POST), body(""));
    let sent = tokio::select! {
        sent = http2.send(&parts, &mut body, LIMIT) => sent,
        () = asking => unreachable!("it waits for ever"),
    };
    let error = super::super::SendError::from(sent.err().expect("no answer"));
    assert_eq!(error.reason(), "backend_closed");
}

#[test]
fn a_length_is_said_where_one_is_known_and_expected() {
    for (method, text, wanted) in [
        (Method::POST, "", Some("0")),
        (Method::POST, "some", Some("4")),
        (Method::GET, "", None),
        (Method::GET, "some", Some("4")),
        (Method::CONNECT, "", None),
    ] {
        // h2 takes a client's that is said twice, or is empty.
        for said in [&[][..], &["4"], &["4", "4"], &[""]] {
            let mut parts = parts(method.clone());
            for length in said {
                let length = HeaderValue::from_static(length);
                parts.headers.append(header::CONTENT_LENGTH, length);
            }
            let request = head(&parts, body(text).as_ref());
            let lengths = request.headers().get_all(header::CONTENT_LENGTH);
            let lengths: Vec<_> = lengths.iter().map(|l| l.to_str().unwrap()).collect();
            let wanted = Vec::from_iter(wanted);
            assert_eq!(lengths, wanted, "{method} {text:?}, said: {said:?}");
        }
    }
}
