//! What of requests and answers is secret, by their definition, and what the audit log has of it.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use mc_proto::{
    Method, OPENAPI,
    metacrypt::v1::{AuditEntry, AuditHashRequest, EncryptRequest, Plaintext},
};
use serde_json::Value;

use crate::{
    policy::{encrypt, vault},
    world::{Clients, World},
};

/// Secrets that were sent or answered: as JSON has them, and as they are.
#[derive(Default)]
pub(crate) struct Secrets(BTreeSet<(String, Vec<u8>)>);

impl Secrets {
    /// Notes those of a call.
    pub(crate) fn note(&mut self, method: &Method, request: &str, answer: &str) {
        let documents: Value = serde_json::from_str(OPENAPI).unwrap();
        let document = &documents[method.package];
        let rest = method.rest.unwrap();
        let path = rest.path.replace("{*", "{");
        let operation = &document["paths"][path][rest.verb.to_lowercase()];
        let sent = &operation["requestBody"]["content"]["application/json"]["schema"];
        let answered = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(!answered.is_null(), "{operation:#}");
        for (schema, text) in [(sent, request), (answered, answer)] {
            self.find(document, schema, &serde_json::from_str(text).unwrap());
        }
    }

    fn find(&mut self, document: &Value, schema: &Value, value: &Value) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.find(document, &document["components"]["schemas"][name], value);
        }
        match value {
            Value::Array(all) => {
                for one in all {
                    self.find(document, &schema["items"], one);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.find(document, &schema["properties"][name], field);
                }
            }
            Value::String(text) if schema["format"] == "password" && !text.is_empty() => {
                let bytes = match schema["contentEncoding"] == "base64" {
                    true => BASE64.decode(text.as_bytes()).unwrap(),
                    false => text.as_bytes().to_vec(),
                };
                self.0.insert((text.clone(), bytes));
            }
            _ => {}
        }
    }

    /// That the log has none of them, and AuditHash finds each.
    pub(crate) async fn are_not_in_the_log(&self, world: &World, admin: &mut Clients) {
        assert!(self.0.len() > 8, "{}", self.0.len());
        for (text, bytes) in &self.0 {
            let request = AuditHashRequest {
                input: bytes.clone(),
                before: 0,
            };
            let found = admin.system.audit_hash(request).await.unwrap();
            let found = found.into_inner().entries;
            let rows = world.audit();
            let clear = String::from_utf8_lossy(bytes);
            let has = |text: &str| rows.iter().any(|row| row.3.contains(text));
            let sent = text.chars().take(24).collect::<String>();
            // A short word may be a mount's name as well.
            let told = has(text) || clear.len() > 8 && has(&clear);
            assert!(!told, "{sent}… is in the log");
            let of = |entry: &AuditEntry| !entry.action.ends_with("AuditHash");
            assert!(found.iter().any(of), "{sent}… has no HMAC in the log");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_a_plaintext_to_who_has_it_alone() {
    let world = World::open().await;
    let mut admin = world.admin().await;
    vault(&mut admin, &["app"]).await;
    let plaintext = |text: &str| Plaintext {
        plaintext: text.into(),
        ..Plaintext::default()
    };
    // At the end of a batch.
    let mut plaintexts = vec![plaintext("other"); 40];
    plaintexts[39] = plaintext("4711-0815");
    for plaintexts in [plaintexts.clone(), plaintexts, vec![plaintext("other")]] {
        let request = EncryptRequest {
            plaintexts,
            ..encrypt("vault", "app")
        };
        admin.transit.encrypt(request).await.unwrap();
    }
    let request = || AuditHashRequest {
        input: b"4711-0815".to_vec(),
        before: 0,
    };
    for wanted in [
        ["/Encrypt", "/Encrypt"].as_slice(),
        &["/AuditHash", "/Encrypt", "/Encrypt"],
    ] {
        let found = admin.system.audit_hash(request()).await.unwrap();
        let found = found.into_inner();
        let actions = found.entries.iter().map(|entry| &*entry.action);
        let same = actions
            .clone()
            .zip(wanted)
            .all(|(is, wanted)| is.ends_with(wanted));
        assert!(same && actions.count() == wanted.len(), "{found:?}");
        assert_eq!(found.before, 0);
        let encrypted = &found.entries[found.entries.len() - 2..];
        assert_ne!(
            encrypted[0].detail, encrypted[1].detail,
            "nobody compares them"
        );
    }
    let older = AuditHashRequest {
        before: 1,
        ..request()
    };
    let found = admin.system.audit_hash(older).await.unwrap();
    assert!(found.into_inner().entries.is_empty());
    let nothing = AuditHashRequest::default();
    let refused = admin.system.audit_hash(nothing).await.unwrap_err();
    assert!(refused.message().contains("input"), "{refused:?}");
    let rows = world.audit();
    assert!(!rows.iter().any(|row| row.3.contains("4711-0815")));
}
