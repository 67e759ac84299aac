//! Bodies of JSON, in which nothing is said twice: of two values one would count, and who checks may not take the same one.

use std::{collections::HashSet, fmt};

use prost_reflect::{Kind, MessageDescriptor};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

use super::{flaw::name, input::Invalid};

/// The fields that a body says.
///
/// # Errors
/// If it is not one JSON object and says so; deeper ones than serde_json's 128 levels are none.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Invalid> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Once(Value::Object(fields))) => Ok(fields),
        Ok(_) => Err(Invalid("the body is JSON, but not an object".to_owned())),
        Err(e) if e.classify() == Category::Data => Err(Invalid(format!("the body: {e}"))),
        Err(e) => Err(Invalid(format!("the body is not JSON: {e}"))),
    }
}

/// A field that two keys say: protobuf's JSON knows `a_field` and `aField`.
pub(super) fn twice(fields: &Map<String, Value>, message: &MessageDescriptor) -> Option<String> {
    let mut seen = HashSet::new();
    for (key, value) in fields {
        let field = message.get_field_by_name(key);
        // What is not there is refused by who reads the message.
        let Some(field) = field.or_else(|| message.get_field_by_json_name(key)) else {
            continue;
        };
        if !seen.insert(field.number()) {
            return Some(field.name().to_owned());
        }
        let Kind::Message(mut inner) = field.kind() else {
            continue;
        };
        let values: Vec<&Value> = match value {
            Value::Object(entries) if field.is_map() => {
                let Kind::Message(of) = inner.map_entry_value_field().kind() else {
                    continue;
                };
                inner = of;
                entries.values().collect()
            }
            Value::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        // Those have a JSON of their own (Struct, Any).
        if inner.full_name().starts_with("google.protobuf.") {
            continue;
        }
        let objects = values.into_iter().filter_map(Value::as_object);
        if let Some(key) = objects.filter_map(|object| twice(object, &inner)).next() {
            return Some(key);
        }
    }
    None
}

/// JSON in which no object has a key twice.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Build).map(Self)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Once(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, Once(value))) = object.next_entry::<String, _>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!("{} is said twice", name(&key))));
            }
            fields.insert(key, value);
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    #[test]
    fn a_field_has_one_spelling_in_a_body() {
        let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
        for (description, message, body, wanted) in [
            (
                "one spelling",
                "mcias.v1.ChangePasswordRequest",
                r#"{"old_password": "a", "newPassword": "b"}"#,
                None,
            ),
            (
                "two",
                "mcias.v1.ChangePasswordRequest",
                r#"{"old_password": "a", "oldPassword": "b"}"#,
                Some("old_password"),
            ),
            (
                "two in a list's message",
                "mcias.v1.ListAccountsResponse",
                r#"{"accounts": [{}, {"second_factor_required": true, "secondFactorRequired": false}]}"#,
                Some("second_factor_required"),
            ),
            (
                "what is not there",
                "mcias.v1.ChangePasswordRequest",
                r#"{"old": 1, "Old": {"a": 1}}"#,
                None,
            ),
        ] {
            let message = pool.get_message_by_name(&format!("metacircular.{message}"));
            let fields = object(body.as_bytes()).unwrap_or_else(|_| panic!("{description}"));
            let got = twice(&fields, &message.unwrap());
            assert_eq!(got.as_deref(), wanted, "{description}");
        }
    }
}
