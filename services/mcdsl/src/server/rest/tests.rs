//! What is told of a request that is wrong, and written down, has none of its values; what is read and written in one pass is what prost-reflect reads and
//! writes.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use axum::body::{Body, to_bytes};
use mc_proto::AccountType;
use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use super::*;
use crate::{
    auth::{ADMIN, AuthError, Authenticator, Identity},
    server::{
        access::{Caller, Source, tests::identity},
        record::Audit,
    },
};

/// As a text and as numbers.
const MARKERS: [&str; 2] = ["m4rk3r", "48151623421"];

/// Knows everybody as an administrator of that type.
struct Anybody(AccountType);

impl Authenticator for Anybody {
    fn authenticate<'a>(
        &'a self,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        let mut known = identity();
        known.account_type = self.0;
        known.roles.push(ADMIN.to_owned());
        Box::pin(async { Ok(known) })
    }
}

/// The messages of the log's rows.
#[derive(Default)]
struct Rows(Mutex<Vec<String>>);

impl Audit for Rows {
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
        let about = caller.about.said().unwrap_or_default();
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(format!("{outcome:?} {about} {message}"));
        Box::pin(async { Ok(()) })
    }
}

/// Each of a message's fields, and of those of its messages, with a value of each type of JSON.
fn requests(of: &MessageDescriptor) -> Vec<Value> {
    let [text, number] = MARKERS;
    let number: u64 = number.parse().unwrap();
    let mut all = Vec::new();
    for field in of.fields() {
        let mut values = vec![
            json!(text),
            json!(number),
            json!(format!("-{number}.5")),
            json!(-(number as f64) - 0.5),
            json!(true),
            json!([text, number]),
            json!([[text]]),
            json!({ "x": text }),
        ];
        if let Kind::Message(inner) = field.kind() {
            values.extend(requests(&inner));
        }
        for value in values {
            all.push(json!({ field.name(): [value] }));
            all.push(json!({ field.name(): value }));
        }
    }
    all
}

#[tokio::test]
async fn no_value_of_a_request_is_told_or_written_down() {
    let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
    let rows = Arc::new(Rows::default());
    let mut refused = 0;
    for method in mc_proto::METHODS {
        let Some(rest) = method.rest else { continue };
        let system = method.access.callers == [AccountType::System];
        let kind = if system {
            AccountType::System
        } else {
            AccountType::Human
        };
        let access = Arc::new(Access {
            methods: std::iter::once((method.path, method)).collect(),
            authenticator: Arc::new(Anybody(kind)),
            audit: Some(Arc::clone(&rows) as Arc<dyn Audit>),
            sealed: crate::server::never_sealed(),
            tasks: tokio_util::task::TaskTracker::new(),
            public_streams: Arc::default(),
            scarce: Arc::default(),
        });
        let router = router(method.package, &pool, &Router::new(), Some(&access));
        let message = pool.get_message_by_name(method.input).unwrap();
        let bound = |with: &str| {
            let bind = |path: String, name: &&str| path.replace(&format!("{{{name}}}"), with);
            rest.bound.iter().fold(rest.path.to_owned(), bind)
        };
        let mut asked: Vec<(String, Value)> = Vec::new();
        for body in requests(&message) {
            asked.push((bound("7"), body));
        }
        for marker in MARKERS {
            asked.push((bound(marker), json!({})));
            for field in message.fields().filter(|_| !rest.body) {
                asked.push((
                    format!("{}?{}={marker}", bound("7"), field.name()),
                    json!({}),
                ));
            }
        }
        for (path, body) in asked {
            let request = Request::builder()
                .method(rest.verb)
                .uri(&path)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::AUTHORIZATION, "Bearer token")
                .extension(Source([192, 0, 2, 1].into()))
                .body(Body::from(body.to_string()))
                .unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            refused += u32::from(answer.status() == 400);
            let told = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
            let told = String::from_utf8_lossy(&told);
            for marker in MARKERS {
                assert!(!told.contains(marker), "{path} {body}: {told}");
            }
        }
    }
    assert!(refused > 1000, "{refused} of them were wrong");
    let rows = rows.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(rows.len() > 1000, "{} were written down", rows.len());
    for marker in MARKERS {
        let found = rows.iter().find(|row| row.contains(marker));
        assert_eq!(found, None);
    }
}

/// A request in which everything is said that can be.
fn filled(of: &MessageDescriptor) -> Value {
    let mut said = serde_json::Map::new();
    for field in of.fields() {
        let first = |of: &prost_reflect::OneofDescriptor| of.fields().next().map(|f| f.number());
        if (field.containing_oneof()).is_some_and(|of| first(&of) != Some(field.number())) {
            continue;
        }
        let value = match field.kind() {
            Kind::Bool => json!(true),
            Kind::String => json!("a \"quoted\" \\ text\n\u{1}, ü and 🂡"),
            Kind::Bytes => json!("AAEC/w=="),
            Kind::Int32 => json!(-7),
            Kind::Int64 => json!("-9007199254740993"),
            Kind::Uint32 => json!(7),
            Kind::Uint64 => json!("18446744073709551615"),
            Kind::Double => json!(1.5),
            Kind::Enum(of) => json!(of.values().last().unwrap().name()),
            Kind::Message(of) => match of.full_name() {
                "google.protobuf.Timestamp" => json!("2030-12-31T23:59:59.5Z"),
                _ => filled(&of),
            },
            other => panic!("{other:?}"),
        };
        let value = if field.is_list() {
            json!([value, value])
        } else {
            value
        };
        said.insert(field.name().to_owned(), value);
    }
    said.into()
}

#[test]
fn what_is_read_and_written_at_once_is_as_the_long_way_has_it() {
    let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
    let (mut read, mut refused) = (0, 0);
    let names = mc_proto::METHODS.iter().flat_map(|m| [m.input, m.output]);
    for name in names {
        let message = pool.get_message_by_name(name).unwrap();
        let shape = Shape::of(&message).unwrap();
        let input = Input {
            rest: mc_proto::Rest {
                verb: "POST",
                path: "/v1/x",
                bound: &[],
                body: true,
            },
            message: message.clone(),
            shape: Arc::clone(&shape),
        };
        let filled = filled(&message);
        let mut bodies = vec![json!({}), filled.clone()];
        bodies.extend(requests(&message));
        for body in bodies {
            let text = body.to_string();
            let long = json::object(text.as_bytes()).and_then(|said| input.message(said, []));
            let mut wire = Vec::new();
            let at_once = read::object(&shape, text.as_bytes(), &mut wire);
            let Ok(long) = long else {
                assert_eq!(at_once, None, "{name} {text}");
                refused += 1;
                continue;
            };
            assert!(at_once.is_some() || body != filled, "{name} {text}");
            if at_once.is_some() {
                let same = DynamicMessage::decode(message.clone(), &*wire).unwrap();
                assert_eq!(same.encode_to_vec(), long.encode_to_vec(), "{name} {text}");
                assert!(wire::check(&shape, &wire).is_ok(), "{name} {text}");
                read += 1;
            }
            let encoded = long.encode_to_vec();
            assert!(wire::check(&shape, &encoded).is_ok(), "{name} {text}");
            let mut written = serde_json::Serializer::new(Vec::new());
            long.serialize_with_options(&mut written, &write::options())
                .unwrap();
            let mut own = Vec::new();
            write::object(&shape, &encoded, &mut own).unwrap();
            let own = String::from_utf8(own).unwrap();
            assert_eq!(own.as_bytes(), written.into_inner(), "{name} {text}");
        }
    }
    assert!(
        read > 500 && refused > 500,
        "{read} read, {refused} refused"
    );
}

#[test]
fn messages_of_protobuf_are_read_as_strictly_as_json() {
    let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
    let input = |message: &str, bound| {
        let message = pool.get_message_by_name(&format!("metacircular.{message}"));
        let message = message.unwrap();
        Input {
            rest: mc_proto::Rest {
                verb: "PUT",
                path: "/v1/x",
                bound,
                body: true,
            },
            shape: Shape::of(&message).unwrap(),
            message,
        }
    };
    let note = input("example.v1.Note", &["name"]);
    let list = input("example.v1.ListNotesResponse", &[]);
    let rule = input("metacrypt.v1.CreateRuleRequest", &[]);
    let path = &[("name", "a")][..];
    for (description, input, bound, sent, wanted) in [
        ("nothing", &note, path, &b""[..], Ok("\x0a\x01a")),
        (
            "a text",
            &note,
            path,
            b"\x12\x01t",
            Ok("\x12\x01t\x0a\x01a"),
        ),
        (
            "what the path says too",
            &note,
            path,
            b"\x0a\x01a",
            Ok("\x0a\x01a\x0a\x01a"),
        ),
        (
            "another than the path",
            &note,
            path,
            b"\x0a\x01b",
            Err("name: the path says another"),
        ),
        (
            "twice",
            &note,
            path,
            b"\x12\x01t\x12\x01u",
            Err("text is said twice"),
        ),
        (
            "no field",
            &note,
            path,
            b"\x7a\x01t",
            Err("the request has no field 15"),
        ),
        (
            "another type",
            &note,
            path,
            b"\x10\x01",
            Err("text: not what the field takes"),
        ),
        (
            "no text",
            &note,
            path,
            b"\x12\x01\xff",
            Err("text: not what the field takes"),
        ),
        (
            "cut off",
            &note,
            path,
            b"\x12\x05t",
            Err("the body is no message of protobuf, or was cut off"),
        ),
        (
            "within a list",
            &list,
            &[][..],
            b"\x0a\x00\x0a\x02\x28\x01\x0a\x03\x12\x01\xff",
            Err("notes[2]: text: not what the field takes"),
        ),
        (
            "no field of a message within",
            &rule,
            &[][..],
            b"\x0a\x03\xfa\x7f\x00",
            Err("rule: the request has no field 2047"),
        ),
    ] {
        let mut to = Vec::new();
        let got = input.protobuf(sent, bound, &mut to);
        let got = got.map(|()| &*to).map_err(|why| why.0);
        let wanted = wanted.map(str::as_bytes).map_err(str::to_owned);
        assert_eq!(got, wanted, "{description}");
    }
}
