//! Messages as JSON: the same that REST answers, so that a script reads one form of both.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::{Exit, Failure};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(mc_proto::DESCRIPTORS).ok());

/// A message of the definition, by its full name (`metacircular.mcias.v1.Account`), as protobuf's JSON with the fields' own names.
///
/// # Errors
/// [`Exit::Failure`] if there is no message of that name, or it is not this one.
pub fn message_json(name: &str, message: &impl prost::Message) -> Result<Value, Failure> {
    let failed = || {
        let what = format!("an internal error: {name} cannot be written as JSON");
        Failure::new(Exit::Failure, what)
    };
    let descriptor = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(name));
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor.ok_or_else(failed)?, bytes.as_slice());
    let message = message.map_err(|_| failed())?;
    if message.unknown_fields().next().is_some() {
        return Err(failed());
    }
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|_| failed())
}

#[cfg(test)]
mod tests {
    use mc_proto::mcias::v1::Account;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_rests() {
        let account = Account {
            name: "ada".to_owned(),
            account_type: 1,
            created: "2026-01-02T03:04:05Z".parse().ok(),
            ..Account::default()
        };
        let value = message_json("metacircular.mcias.v1.Account", &account).unwrap();
        let wanted = [
            ("name", json!("ada")),
            ("account_type", json!("ACCOUNT_TYPE_HUMAN")),
            ("created", json!("2026-01-02T03:04:05Z")),
            ("roles", json!([])),
            ("has_totp", json!(false)),
        ];
        for (key, want) in wanted {
            assert_eq!(value[key], want, "{key}");
        }
        for other in [
            "metacircular.mcias.v1.Nothing",
            "metacircular.mcias.v1.Rule",
        ] {
            assert!(message_json(other, &account).is_err(), "{other}");
        }
    }
}
