//! What is told of a request that is wrong, and written down, has none of its values.

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
            sealed: Box::new(|| false),
            tasks: tokio_util::task::TaskTracker::new(),
            public_streams: Arc::default(),
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
