//! What is wrong with a request, told by the names of its fields and by what they take. Never by what they say: that may be a secret, and what is told
//! is written to the audit log. The errors of serde and prost-reflect repeat values.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

/// Characters of a name that there is not: who sends it chose it, and it may be long.
const MAX_NAME: usize = 64;

/// The message that an object says. Nothing of it is copied for that: it may be large.
pub(super) fn parse(of: &MessageDescriptor, object: &Value) -> Option<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(of.clone(), object, &options).ok()
}

/// A name that somebody sent, in quotes and cut.
pub(super) fn name(sent: &str) -> String {
    match sent.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{:?}…", &sent[..end]),
        None => format!("{sent:?}"),
    }
}

/// What is wrong with fields that are no such message: of the first that is wrong alone, its path and what it takes.
pub(super) fn of(message: &MessageDescriptor, fields: Map<String, Value>) -> String {
    let wrong = fields.into_iter().find_map(|(key, value)| {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        parse(message, &Value::Object(alone))
            .is_none()
            .then_some((key, value))
    });
    let Some((key, value)) = wrong else {
        // Each is right, so they are of one `oneof`.
        return "of its fields some exclude one another".to_owned();
    };
    let field = message.get_field_by_name(&key);
    let Some(field) = field.or_else(|| message.get_field_by_json_name(&key)) else {
        return format!("the request has no field {}", name(&key));
    };
    let takes = || format!("{}: expected {}", field.name(), expected(&field));
    if is_plain(&field.kind()) || field.is_map() {
        return takes();
    }
    let Kind::Message(inner) = field.kind() else {
        return takes();
    };
    let within = |fields| of(&inner, fields);
    match value {
        Value::Object(fields) if !field.is_list() => {
            format!("{}: {}", field.name(), within(fields))
        }
        Value::Array(list) if field.is_list() => {
            let wrong = list
                .into_iter()
                .enumerate()
                .find_map(|(at, one)| match one {
                    Value::Object(_) if parse(&inner, &one).is_some() => None,
                    Value::Object(fields) => Some((at, fields)),
                    _ => None,
                });
            wrong.map_or_else(takes, |(at, fields)| {
                format!("{}[{at}]: {}", field.name(), within(fields))
            })
        }
        _ => takes(),
    }
}

/// Not a message with fields of its own: protobuf's own have a JSON of theirs.
fn is_plain(kind: &Kind) -> bool {
    let message = kind.as_message();
    message.is_none_or(|message| message.full_name().starts_with("google.protobuf."))
}

/// What a field takes.
fn expected(field: &FieldDescriptor) -> String {
    let one = one(&field.kind());
    if field.is_map() {
        return "an object".to_owned();
    }
    match field.is_list() {
        true => format!("a list, of each {one}"),
        false => one,
    }
}

fn one(kind: &Kind) -> String {
    let text = match kind {
        Kind::Bool => "true or false",
        Kind::String => "a string",
        Kind::Bytes => "a string in base64",
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "a whole number of 32 bits, not negative",
        Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits, not negative",
        Kind::Enum(of) => {
            let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
            return format!("one of {}", names.join(", "));
        }
        Kind::Message(of) => match of.full_name() {
            "google.protobuf.Timestamp" => "a time, such as 2030-12-31T23:59:59Z",
            "google.protobuf.Duration" => "a time in seconds, such as 90s",
            _ => "an object",
        },
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_without_what_was_said() {
        let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
        let long = "x".repeat(100);
        for (description, message, sent, wanted) in [
            (
                "another type",
                "example.v1.Note",
                json!({"name": "a", "text": 7}),
                "text: expected a string",
            ),
            (
                "in a list",
                "example.v1.Note",
                json!({"tags": ["a", 7]}),
                "tags: expected a list, of each a string",
            ),
            (
                "no value of an enum",
                "example.v1.Note",
                json!({"importance": "secret"}),
                "importance: expected one of IMPORTANCE_UNSPECIFIED, IMPORTANCE_LOW, IMPORTANCE_HIGH",
            ),
            (
                "a negative number",
                "example.v1.Note",
                json!({"revision": "-1"}),
                "revision: expected a whole number of 64 bits, not negative",
            ),
            (
                "no time",
                "example.v1.Note",
                json!({"changed": "now"}),
                "changed: expected a time, such as 2030-12-31T23:59:59Z",
            ),
            (
                "within a list's message",
                "example.v1.ListNotesResponse",
                json!({"notes": [{"text": "a"}, {"text": []}]}),
                "notes[1]: text: expected a string",
            ),
            (
                "no message in a list",
                "example.v1.ListNotesResponse",
                json!({"notes": [7]}),
                "notes: expected a list, of each an object",
            ),
            (
                "what is not there, by a long name",
                "example.v1.Note",
                json!({ &*long: 1 }),
                &format!("the request has no field \"{}\"…", &long[..MAX_NAME]),
            ),
        ] {
            let message = pool.get_message_by_name(&format!("metacircular.{message}"));
            let (message, Value::Object(fields)) = (message.unwrap(), sent) else {
                unreachable!()
            };
            assert!(
                parse(&message, &Value::Object(fields.clone())).is_none(),
                "{description}"
            );
            assert_eq!(of(&message, fields), wanted, "{description}");
        }
    }
}
