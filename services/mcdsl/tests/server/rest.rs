//! REST: fields from path, query and body, errors as JSON, and what is refused.

use serde_json::{Value, json};

use crate::notes::Running;

struct Client {
    running: Running,
    header: String,
}

impl Client {
    async fn start() -> Self {
        let running = Running::start(|_| {}).await;
        let header = format!("Authorization: Bearer {}", running.tokens.of("user"));
        Self { running, header }
    }

    async fn send(&self, more: &[&str], path: &str) -> (u16, Value) {
        let more = [&["-H", &self.header], more].concat();
        let (status, body) = self.running.curl(&more, path).await;
        (
            status,
            serde_json::from_str(&body).unwrap_or(Value::String(body)),
        )
    }

    async fn put(&self, name: &str, body: &str) -> (u16, Value) {
        let more = [
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
        ];
        self.send(&more, &format!("/v1/notes/{name}")).await
    }
}

#[tokio::test]
async fn fields_come_from_path_body_and_query() {
    let client = Client::start().await;
    let (status, note) = client
        .put(
            "a",
            r#"{"text": "one", "tags": ["x", "y"], "importance": "IMPORTANCE_HIGH"}"#,
        )
        .await;
    let wanted = json!({
        "name": "a", "text": "one", "tags": ["x", "y"], "changed": "1970-01-01T00:00:00Z",
        "revision": u64::MAX.to_string(), "importance": "IMPORTANCE_HIGH",
    });
    assert_eq!((status, &note), (200, &wanted));
    client.put("b%2Fc%20d", r#"{"tags": ["x"]}"#).await;
    assert_eq!(client.send(&[], "/v1/notes/a").await, (200, wanted));
    let (status, escaped) = client.send(&[], "/v1/notes/b%2Fc%20d").await;
    assert_eq!(
        (status, &escaped["name"]),
        (200, &json!("b/c d")),
        "{escaped}"
    );
    for (query, count) in [
        ("", 2),
        ("?tags=x", 2),
        ("?tags=x&tags=y", 1),
        ("?important=true", 1),
        ("?important=false&limit=7", 2),
    ] {
        let (status, listed) = client.send(&[], &format!("/v1/notes{query}")).await;
        assert_eq!(
            (status, listed["notes"].as_array().unwrap().len()),
            (200, count),
            "{query}: {listed}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_and_refused() {
    let client = Client::start().await;
    let deep = "[".repeat(5000);
    for (description, more, path, status, word) in [
        (
            "an unknown field",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                r#"{"txet": ""}"#,
            ][..],
            "/v1/notes/a",
            400,
            "txet",
        ),
        (
            "another type",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                r#"{"text": 7}"#,
            ],
            "/v1/notes/a",
            400,
            "string",
        ),
        (
            "a field of the path",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                r#"{"name": "b"}"#,
            ],
            "/v1/notes/a",
            400,
            "name",
        ),
        (
            "no JSON",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                "{",
            ],
            "/v1/notes/a",
            400,
            "JSON",
        ),
        (
            "no object",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                "[]",
            ],
            "/v1/notes/a",
            400,
            "object",
        ),
        (
            "a key said twice",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                r#"{"text": "a", "text": "b"}"#,
            ],
            "/v1/notes/a",
            400,
            "\"text\" is said twice",
        ),
        (
            "a key said twice further in",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                r#"{"changed": {"a": 1, "a": 2}}"#,
            ],
            "/v1/notes/a",
            400,
            "said twice",
        ),
        (
            "very deep",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                &deep,
            ],
            "/v1/notes/a",
            400,
            "recursion",
        ),
        (
            "a form",
            &["-X", "PUT", "-d", "text=a"],
            "/v1/notes/a",
            415,
            "application/json",
        ),
        (
            "nothing, and not JSON",
            &["-X", "PUT"],
            "/v1/notes/a",
            415,
            "application/json",
        ),
        (
            "a page of another site",
            &["-H", "Sec-Fetch-Site: cross-site"],
            "/v1/notes",
            403,
            "another site",
        ),
        (
            "a page of another site, behind one of this",
            &[
                "-H",
                "Sec-Fetch-Site: same-origin",
                "-H",
                "Sec-Fetch-Site: cross-site",
            ],
            "/v1/notes",
            403,
            "another site",
        ),
        ("no number", &[], "/v1/notes?limit=many", 400, "limit"),
        ("a negative number", &[], "/v1/notes?limit=-1", 400, "limit"),
        ("said twice", &[], "/v1/notes?limit=1&limit=2", 400, "limit"),
        (
            "an unknown parameter",
            &[],
            "/v1/notes?limits=1",
            400,
            "limits",
        ),
        (
            "a query beside a body",
            &[
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/json",
                "-d",
                "{}",
            ],
            "/v1/notes/a?text=b",
            400,
            "the query",
        ),
        ("what is not there", &[], "/v1/notes/none", 404, "none"),
    ] {
        let (got, error) = client.send(more, path).await;
        assert_eq!(got, status, "{description}: {error}");
        assert_eq!(error["code"], json!(status), "{description}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{description}: {error}");
    }
    let (status, error) = client.send(&[], "/v1/nothing").await;
    assert_eq!(status, 404, "{error}");
}

#[tokio::test]
async fn the_message_itself_is_taken_and_given() {
    use mc_proto::example::v1::{Importance, Note};
    use prost::Message as _;
    let client = Client::start().await;
    let file = |name: &str| client.running.directory.path().join(name);
    let (sent, got) = (file("sent"), file("got"));
    let data = format!("@{}", sent.display());
    let note = Note {
        text: "one".to_owned(),
        tags: vec!["x".to_owned()],
        importance: Importance::High.into(),
        ..Note::default()
    };
    const PUT: [&str; 4] = ["-X", "PUT", "-H", "Content-Type: application/protobuf"];
    let accept = ["-H", "Accept: application/protobuf", "-o"];
    let got_text = got.display().to_string();
    std::fs::write(&sent, note.encode_to_vec()).unwrap();
    let more = [&PUT[..], &["--data-binary", &data], &accept, &[&got_text]].concat();
    let (status, said) = client.send(&more, "/v1/notes/a").await;
    assert_eq!(status, 200, "{said}");
    let answered = Note::decode(&*std::fs::read(&got).unwrap()).unwrap();
    assert_eq!((&*answered.name, &*answered.text), ("a", "one"));
    assert_eq!(answered.importance, note.importance);
    // In JSON it is the same; the other way round, too.
    let (_, text) = client.send(&[], "/v1/notes/a").await;
    assert_eq!(
        (&text["text"], &text["tags"]),
        (&json!("one"), &json!(["x"]))
    );
    let more = [&accept[..], &[&got_text]].concat();
    client.send(&more, "/v1/notes/a").await;
    assert_eq!(
        Note::decode(&*std::fs::read(&got).unwrap()).unwrap(),
        answered
    );
    for (description, bytes, path, status, word) in [
        (
            "another name than the path's",
            answered.encode_to_vec(),
            "/v1/notes/b",
            400,
            "name: the path says another",
        ),
        ("no message", b"{}".to_vec(), "/v1/notes/a", 400, "protobuf"),
        (
            "JSON by another name",
            br#"{"text": "a"}"#.to_vec(),
            "/v1/notes/a",
            400,
            "protobuf",
        ),
    ] {
        std::fs::write(&sent, bytes).unwrap();
        let more = [&PUT[..], &["--data-binary", &data], &accept[..2]].concat();
        let (got, error) = client.send(&more, path).await;
        assert_eq!(got, status, "{description}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{description}: {error}");
    }
    // Whom nobody knows is refused before a word of it is read.
    let (status, _) = client
        .running
        .curl(&[&PUT[..], &["--data-binary", "x"]].concat(), "/v1/notes/a")
        .await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let client = Client::start().await;
    let file = client.running.directory.path().join("head");
    let head = file.display().to_string();
    for (description, verb, path, allowed) in [
        ("a list", "POST", "/v1/notes", "GET, HEAD"),
        ("a thing", "PATCH", "/v1/notes/a", "DELETE, GET, HEAD, PUT"),
        ("no method at all", "NONE", "/v1/notes", "GET, HEAD"),
        ("the document", "DELETE", "/openapi.json", "GET, HEAD"),
    ] {
        let (status, error) = client.send(&["-X", verb, "-D", &head], path).await;
        assert_eq!(status, 405, "{description}: {error}");
        assert_eq!(error["code"], json!(405), "{description}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(allowed), "{description}: {error}");
        let head = std::fs::read_to_string(&file).unwrap();
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let allow = fields.find(|(name, _)| name.eq_ignore_ascii_case("allow"));
        assert_eq!(allow.map(|(_, v)| v.trim()), Some(allowed), "{description}");
    }
}

#[tokio::test]
async fn a_body_is_bounded_and_a_panic_is_one_requests() {
    let client = Client::start().await;
    let file = client.running.directory.path().join("large");
    std::fs::write(&file, format!(r#"{{"text": "{}"}}"#, "a".repeat(2 << 20))).unwrap();
    let data = format!("@{}", file.display());
    let head = client.running.directory.path().join("head");
    let told = head.display().to_string();
    let more = [
        "-D",
        &told,
        // Over HTTP/2 it is told to stop (RST_STREAM NO_ERROR, RFC 9113 §8.1), which curl 7 takes for a failure.
        "--http1.1",
        "-X",
        "PUT",
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &data,
    ];
    let (status, error) = client.send(&more, "/v1/notes/a").await;
    assert_eq!(status, 413, "{error}");
    // curl asks first (Expect), and is not told to send what would be refused.
    let told = std::fs::read_to_string(&head).unwrap();
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
    let (status, error) = client.put("panic", "{}").await;
    assert_eq!(status, 500, "{error}");
    let (status, _) = client.put("a", "{}").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_document_names_every_path() {
    let client = Client::start().await;
    let (status, document) = client.send(&[], "/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    for method in mc_proto::METHODS
        .iter()
        .filter(|m| m.package == crate::notes::PACKAGE)
    {
        let Some(rest) = method.rest else { continue };
        let operation = &document["paths"][rest.path][rest.verb.to_lowercase()];
        assert!(operation["operationId"].is_string(), "{}", method.path);
        let content = &operation["responses"]["200"]["content"];
        let both = ["application/json", "application/protobuf"];
        for of in [content, &operation["requestBody"]["content"]] {
            let kinds = of.as_object().map(|of| of.keys().collect::<Vec<_>>());
            assert!(kinds.is_none_or(|kinds| kinds == both), "{}", method.path);
        }
        assert!(content.is_object(), "{}", method.path);
        let public = method.access.level == mc_proto::Level::Public;
        assert_eq!(operation["security"].is_null(), public, "{}", method.path);
    }
    let properties = &document["components"]["schemas"]["Note"]["properties"];
    assert_eq!(properties["revision"]["format"], json!("uint64"));
    assert_eq!(properties["changed"]["format"], json!("date-time"));
}
