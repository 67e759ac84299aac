use super::*;

/// Head, body and trailers of a response that comes `size` bytes at a time, then is closed. Pieces are joined up to `most` bytes.
fn read(asked: Asked, bytes: &[u8], size: usize, most: usize) -> Result<Read, Malformed> {
    let (mut reader, mut input) = (Reader::new(asked), BytesMut::new());
    let mut read = Read::default();
    for some in bytes.chunks(size) {
        input.extend_from_slice(some);
        if read.head.is_none() {
            read.head = reader.head(&mut input)?.map(|head| head.status().as_u16());
        }
        while read.head.is_some() && !reader.ended() {
            match reader.body(&mut input)? {
                None => break,
                Some(Piece::Data(data)) => {
                    let data = reader.join(data, &mut input, most);
                    read.body.extend_from_slice(&data);
                }
                Some(Piece::Trailers(trailers)) => read.trailers = trailers,
                Some(Piece::End) => {}
            }
        }
    }
    read.left = input.to_vec();
    read.whole = reader.closed();
    read.closes = reader.closes();
    Ok(read)
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    head: Option<u16>,
    body: Vec<u8>,
    trailers: HeaderMap,
    left: Vec<u8>,
    whole: bool,
    closes: bool,
}

fn all_ways(asked: Asked, text: &str) -> Result<Read, Malformed> {
    let whole = read(asked, text.as_bytes(), text.len().max(1), 0);
    for size in (1..8).chain([text.len().max(1)]) {
        for most in [0, 3, 1000] {
            assert_eq!(
                read(asked, text.as_bytes(), size, most),
                whole,
                "{size} bytes at a time of {text:?}, joined up to {most}"
            );
        }
    }
    whole
}

#[test]
fn a_body_ends_where_its_head_says() {
    let get = Asked::default();
    let head = Asked { head: true };
    for (description, asked, text, status, body, left, closes) in [
        (
            "by its length",
            get,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP",
            200,
            "abc",
            "HTTP",
            false,
        ),
        (
            "empty",
            get,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            "",
            false,
        ),
        (
            "chunks, an extension, no trailers",
            get,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nx",
            200,
            "abc0123456789",
            "x",
            false,
        ),
        (
            "by the connection's end",
            get,
            "HTTP/1.1 200 OK\r\n\r\nabc",
            200,
            "abc",
            "",
            true,
        ),
        (
            "HEAD has none",
            head,
            "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n",
            200,
            "",
            "",
            true,
        ),
        (
            "HEAD, chunked, has none",
            head,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            200,
            "",
            "",
            true,
        ),
        (
            "304 has none",
            get,
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            304,
            "",
            "",
            false,
        ),
        (
            "304 that tells a length may send it",
            get,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 30\r\n\r\n",
            304,
            "",
            "",
            true,
        ),
        (
            "304 that tells a coding may send it",
            get,
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            304,
            "",
            "",
            true,
        ),
        (
            "204 has none",
            get,
            "HTTP/1.1 204 No Content\r\n\r\n",
            204,
            "",
            "",
            true,
        ),
        (
            "interim ones come first",
            get,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            "a",
            "",
            false,
        ),
        (
            "a tunnel begins behind the head",
            get,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhello",
            101,
            "",
            "hello",
            false,
        ),
        (
            "connection: close",
            get,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\na",
            200,
            "a",
            "",
            true,
        ),
        (
            "1.0 closes",
            get,
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            "a",
            "",
            true,
        ),
        (
            "1.0 that stays",
            get,
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\na",
            200,
            "a",
            "",
            false,
        ),
        (
            "lines that end with LF alone",
            get,
            "HTTP/1.1 200 OK\nContent-Length: 1\n\na",
            200,
            "a",
            "",
            false,
        ),
    ] {
        let read = all_ways(asked, text).expect(description);
        assert_eq!(
            (
                read.head,
                &read.body[..],
                &read.left[..],
                read.whole,
                read.closes
            ),
            (Some(status), body.as_bytes(), left.as_bytes(), true, closes),
            "{description}"
        );
    }
}

#[test]
fn trailers_follow_chunks() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\nrest";
    let read = all_ways(Asked::default(), text).unwrap();
    let sums: Vec<_> = read.trailers.get_all("x-sum").iter().collect();
    assert_eq!(sums, ["1", "2"]);
    assert_eq!((&read.body[..], &read.left[..]), (&b"a"[..], &b"rest"[..]));
}

#[test]
fn what_ends_early_is_not_whole() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let read = all_ways(Asked::default(), text).unwrap();
        assert!(!read.whole, "{text:?}");
    }
}

#[test]
fn what_two_could_read_differently_is_refused() {
    use Malformed::*;
    let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    let chunked = |body: &str| format!("{}{body}", fields("Transfer-Encoding: chunked"));
    for (description, text, error) in [
        (
            "both lengths",
            fields("Content-Length: 1\r\nTransfer-Encoding: chunked"),
            Encoding,
        ),
        (
            "two lengths",
            fields("Content-Length: 1\r\nContent-Length: 1"),
            Length,
        ),
        ("a list of lengths", fields("Content-Length: 1, 1"), Length),
        ("a signed length", fields("Content-Length: +1"), Length),
        (
            "a length that overflows",
            fields("Content-Length: 18446744073709551616"),
            Length,
        ),
        (
            "chunked last of two",
            fields("Transfer-Encoding: gzip, chunked"),
            Encoding,
        ),
        (
            "chunked twice",
            fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Encoding,
        ),
        (
            "another encoding",
            fields("Transfer-Encoding: identity"),
            Encoding,
        ),
        (
            "chunked in 1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Encoding,
        ),
        (
            "another protocol",
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            Head,
        ),
        (
            "an HTTP/2 server",
            "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{3}\0\0\0d".to_owned(),
            Http2,
        ),
        (
            "an HTTP/2 server whose frames have an empty line",
            "\0\0\u{6}\u{4}\0\0\0\0\0\0\n\0\n\n\0".to_owned(),
            Http2,
        ),
        (
            "a server of TLS",
            "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{16}".to_owned(),
            Tls,
        ),
        ("a name with a space", fields("Content-Length : 1"), Head),
        ("a folded field", fields("A: 1\r\n 2"), Head),
        ("no size", chunked("x\r\n"), Chunk),
        ("an extension of no size", chunked(";x\r\n\r\n"), Chunk),
        ("a size without end", chunked(&"1".repeat(17)), Chunk),
        (
            "an extension without end",
            chunked(&format!("1;{}", "a".repeat(MAX_SIZE_LINE))),
            Chunk,
        ),
        ("more than its size", chunked("1\r\nab"), Chunk),
        (
            "interim ones without end",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(20),
            Interim,
        ),
        (
            "a head without end",
            format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_HEAD)),
            TooLarge,
        ),
        (
            "fields without end",
            fields(&"a: b\r\n".repeat(MAX_FIELDS + 1)),
            TooLarge,
        ),
        (
            "trailers without end",
            chunked(&format!("0\r\nA: {}", "a".repeat(MAX_HEAD))),
            TooLarge,
        ),
    ] {
        assert_eq!(
            all_ways(Asked::default(), &text),
            Err(error),
            "{description}"
        );
    }
}

#[test]
fn chunks_that_are_there_are_joined_up_to_a_limit() {
    let chunks = |sizes: &[usize]| -> String {
        let chunk = |n: &usize| format!("{n:x}\r\n{}\r\n", "x".repeat(*n));
        sizes.iter().map(chunk).collect()
    };
    for (description, input, pieces) in [
        ("one", chunks(&[5]), vec![5]),
        ("many small ones", chunks(&[1; 250]), vec![100, 100, 50]),
        (
            "one that does not fit",
            chunks(&[1, 1, 99, 1]),
            vec![2, 100],
        ),
        (
            "a large one is not copied",
            chunks(&[1, 1, 5000, 1]),
            vec![2, 5000, 1],
        ),
        (
            "one that is not whole",
            chunks(&[1, 1]) + "5\r\nab",
            vec![2, 2],
        ),
        ("the end", chunks(&[1, 1]) + "0\r\n\r\n", vec![2]),
        ("trailers", chunks(&[1, 1]) + "0\r\na: b\r\n\r\n", vec![2]),
    ] {
        let mut reader = Reader::new(Asked::default());
        let mut bytes = BytesMut::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        bytes.extend_from_slice(input.as_bytes());
        reader.head(&mut bytes).unwrap().expect("a head");
        let mut got = Vec::new();
        while let Some(Piece::Data(first)) = reader.body(&mut bytes).unwrap() {
            let at = first.as_ptr();
            let joined = reader.join(first.clone(), &mut bytes, 100);
            assert!(
                joined.len() > first.len() || joined.as_ptr() == at,
                "{description}"
            );
            got.push(joined.len());
        }
        assert_eq!(got, pieces, "{description}");
    }
}
