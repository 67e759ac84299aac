//! Requests of programs: JSON and queries as messages, and where messages of gRPC begin.

#[path = "../../mcdsl/src/server/rest/flaw.rs"]
mod flaw;
#[path = "../../mcdsl/src/server/rest/input.rs"]
mod input;
#[path = "../../mcdsl/src/server/rest/json.rs"]
mod json;
#[path = "../../mcdsl/src/server/prefix.rs"]
mod prefix;
#[path = "../../mcdsl/src/server/rest/read.rs"]
mod read;
#[path = "../../mcdsl/src/server/rest/shape.rs"]
mod shape;
#[path = "../../mcdsl/src/server/rest/wire.rs"]
mod wire;
#[path = "../../mcdsl/src/server/rest/write.rs"]
mod write;

use std::sync::{Arc, LazyLock};

use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, SerializeOptions,
    prost::Message as _,
    prost_types::{
        DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
        FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto,
        field_descriptor_proto::{Label, Type},
    },
};
use serde_json::{Map, Value};

use self::{
    input::{Input, Invalid},
    json::object,
    prefix::{PREFIX, Prefix},
    shape::Shape,
};
use crate::Rest;

/// A path that binds a text and a number within another message.
static INPUT: LazyLock<Input> = LazyLock::new(|| input("t.All"));
/// The same of a message that is read in one pass.
static PLAIN: LazyLock<Input> = LazyLock::new(|| input("t.Plain"));

fn input(message: &str) -> Input {
    let message = pool().get_message_by_name(message).expect("it is there");
    // `All` has none: it is read the long way.
    let none = || Arc::new(Shape { fields: Vec::new() });
    Input {
        rest: Rest {
            verb: "POST",
            path: "/v1/{a_text}/{tree.number}",
            bound: &["a_text", "tree.number"],
            body: true,
        },
        shape: Shape::of(&message).unwrap_or_else(none),
        message,
    }
}

/// A message with a field of each kind.
fn pool() -> DescriptorPool {
    let field = |name: &str, number, kind: Type| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..Default::default()
    };
    let of = |name: &str, number, kind, type_name: &str| FieldDescriptorProto {
        type_name: Some(type_name.to_owned()),
        ..field(name, number, kind)
    };
    let repeated = |field: FieldDescriptorProto| FieldDescriptorProto {
        label: Some(Label::Repeated.into()),
        ..field
    };
    let chosen = |name: &str, number| FieldDescriptorProto {
        oneof_index: Some(0),
        ..field(name, number, Type::String)
    };
    let entry = DescriptorProto {
        name: Some("LabelsEntry".to_owned()),
        field: vec![
            field("key", 1, Type::String),
            of("value", 2, Type::Message, ".t.Tree"),
        ],
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let all = DescriptorProto {
        name: Some("All".to_owned()),
        field: vec![
            field("a_text", 1, Type::String),
            field("a_flag", 2, Type::Bool),
            field("small", 3, Type::Int32),
            field("large", 4, Type::Uint64),
            field("real", 5, Type::Double),
            field("bytes", 6, Type::Bytes),
            repeated(field("texts", 7, Type::String)),
            of("tree", 8, Type::Message, ".t.Tree"),
            repeated(of("labels", 9, Type::Message, ".t.All.LabelsEntry")),
            of("kind", 10, Type::Enum, ".t.Kind"),
            chosen("one_way", 11),
            chosen("other_way", 12),
            of("when", 13, Type::Message, ".google.protobuf.Timestamp"),
            of("any_json", 14, Type::Message, ".google.protobuf.Struct"),
        ],
        nested_type: vec![entry],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("way".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let tree = DescriptorProto {
        name: Some("Tree".to_owned()),
        field: vec![
            field("number", 1, Type::Uint32),
            repeated(of("below", 2, Type::Message, ".t.Tree")),
        ],
        ..Default::default()
    };
    let leaf = DescriptorProto {
        name: Some("Leaf".to_owned()),
        field: vec![
            field("number", 1, Type::Uint32),
            repeated(field("numbers", 2, Type::Int32)),
            field("text", 3, Type::String),
        ],
        ..Default::default()
    };
    let plain = DescriptorProto {
        name: Some("Plain".to_owned()),
        field: vec![
            field("a_text", 1, Type::String),
            field("a_flag", 2, Type::Bool),
            field("small", 3, Type::Int32),
            field("large", 4, Type::Uint64),
            field("real", 5, Type::Double),
            field("bytes", 6, Type::Bytes),
            repeated(field("texts", 7, Type::String)),
            of("tree", 8, Type::Message, ".t.Leaf"),
            repeated(of("leaves", 9, Type::Message, ".t.Leaf")),
            of("kind", 10, Type::Enum, ".t.Kind"),
            chosen("one_way", 11),
            chosen("other_way", 12),
            of("when", 13, Type::Message, ".google.protobuf.Timestamp"),
            field("larger", 14, Type::Int64),
            field("little", 15, Type::Uint32),
            repeated(field("many", 16, Type::Bytes)),
        ],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("way".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    };
    let kind = EnumDescriptorProto {
        name: Some("Kind".to_owned()),
        value: vec![value("KIND_UNSPECIFIED", 0), value("KIND_ONE", 1)],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("t.proto".to_owned()),
        package: Some("t".to_owned()),
        syntax: Some("proto3".to_owned()),
        dependency: ["struct", "timestamp"]
            .map(|name| format!("google/protobuf/{name}.proto"))
            .into(),
        message_type: vec![all, tree, leaf, plain],
        enum_type: vec![kind],
        ..Default::default()
    };
    let known = DescriptorPool::global();
    let known = known.file_descriptor_protos().cloned();
    let set = FileDescriptorSet {
        file: known.chain([file]).collect(),
    };
    DescriptorPool::from_file_descriptor_set(set).expect("it is well formed")
}

/// A request is refused, or is the message that it says: nothing is said twice, nothing is left out, and what the path binds stands.
pub fn request(text: &str, number: u32, body: &[u8]) {
    let bound = number.to_string();
    let bound = || [("a_text", text), ("tree.number", bound.as_str())];
    if let Ok(said) = object(body) {
        let said_text = said.contains_key("a_text") || said.contains_key("aText");
        let made = INPUT.message(said.clone(), bound());
        check(&made, &said, Some((text, number)));
        assert!(
            made.is_err() || !said_text,
            "what the path binds was said twice"
        );
        check(&INPUT.message(said.clone(), []), &said, None);
    }
    at_once(body, &bound());
    protobuf(body, text, number, &bound());
    let Ok(query) = std::str::from_utf8(body) else {
        return;
    };
    if let Ok(said) = INPUT.query(query) {
        let names = |name: &str| name == "a_text" || name == "tree.number";
        let pairs = || form_urlencoded::parse(query.as_bytes());
        assert!(!pairs().any(|(name, _)| names(&name)), "{query}");
        check(
            &INPUT.message(said.clone(), bound()),
            &said,
            Some((text, number)),
        );
    }
}

/// What is read in one pass is what is read the long way, and what is refused is refused so too.
fn at_once(body: &[u8], bound: &[(&str, &str)]) {
    let long = object(body).and_then(|said| PLAIN.message(said, bound.iter().copied()));
    let mut wire = Vec::new();
    let read = PLAIN.json(body, bound, &mut wire);
    match (read, long) {
        (Ok(()), Ok(long)) => same(&wire, &long),
        (Err(Invalid(short)), Err(Invalid(long))) => assert_eq!(short, long),
        (short, long) => panic!("{short:?}, but {long:?}"),
    }
}

fn same(wire: &[u8], long: &DynamicMessage) {
    let read = DynamicMessage::decode(long.descriptor(), wire).expect("what is read is one");
    let encoded = long.encode_to_vec();
    assert_eq!(read.encode_to_vec(), encoded);
    let mut own = Vec::new();
    let own = write::object(&PLAIN.shape, &encoded, &mut own).map(|()| own);
    let mut json = serde_json::Serializer::new(Vec::new());
    let written = long.serialize_with_options(&mut json, &write::options());
    if let (Ok(own), Ok(())) = (own, written) {
        assert_eq!(own, json.into_inner());
    }
}

/// A message is refused, or is itself with what the path binds.
fn protobuf(body: &[u8], text: &str, number: u32, bound: &[(&str, &str)]) {
    let mut wire = Vec::new();
    if PLAIN.protobuf(body, bound, &mut wire).is_err() {
        return;
    }
    let descriptor = PLAIN.message.clone();
    let made = DynamicMessage::decode(descriptor.clone(), &*wire).expect("it was checked");
    let said = DynamicMessage::decode(descriptor, body).expect("it was checked");
    let get = |name| made.get_field_by_name(name).expect("it is there");
    assert_eq!(get("a_text").as_str(), Some(text));
    let tree = get("tree");
    let tree = tree.as_message().expect("a message");
    let told = tree.get_field_by_name("number").expect("it is there");
    assert_eq!(told.as_u32(), Some(number));
    for name in ["bytes", "texts", "leaves", "kind", "many", "larger"] {
        assert_eq!(Some(get(name)), said.get_field_by_name(name), "{name}");
    }
    let mut json = Vec::new();
    // Nobody panics at what is no answer.
    let _ = write::object(&PLAIN.shape, body, &mut json);
}

fn check(
    made: &Result<DynamicMessage, Invalid>,
    said: &Map<String, Value>,
    bound: Option<(&str, u32)>,
) {
    let message = match made {
        Ok(message) => message,
        Err(Invalid(why)) => {
            assert!(!why.is_empty(), "nobody is told why");
            return;
        }
    };
    let descriptor = message.descriptor();
    for (name, value) in said {
        let field = descriptor.get_field_by_name(name);
        let field = field.or_else(|| descriptor.get_field_by_json_name(name));
        let field = field.expect("what is not there is refused");
        // A value that is the default's is one that is not sent.
        let default = matches!(field.kind(), Kind::String if value.as_str() == Some(""));
        if field.containing_oneof().is_some() && !value.is_null() && !default {
            assert!(message.has_field(&field), "{name} is lost");
        }
    }
    if let Some((text, number)) = bound {
        let get = |name| message.get_field_by_name(name).expect("it is there");
        assert_eq!(get("a_text").as_str(), Some(text));
        let tree = get("tree");
        let tree = tree.as_message().expect("a message");
        let told = tree.get_field_by_name("number").expect("it is there");
        assert_eq!(told.as_u32(), Some(number));
    }
    // As gRPC has it, and as an answer would be written.
    let bytes = message.encode_to_vec();
    let again = DynamicMessage::decode(descriptor, &*bytes).expect("what is encoded is decoded");
    assert_eq!(again.encode_to_vec(), bytes);
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = serde_json::Serializer::new(Vec::new());
    if message.serialize_with_options(&mut json, &options).is_ok() {
        let said = object(&json.into_inner()).map_err(|Invalid(why)| why);
        let again = INPUT.message(said.expect("JSON"), []);
        let again = again
            .map_err(|Invalid(why)| why)
            .expect("what is written is read");
        assert_eq!(again.encode_to_vec(), bytes);
    }
}

/// However a body comes, a message that says that it is too long is found, and no other.
pub fn frames(max: usize, body: &[u8]) {
    let mut wanted = false;
    let mut rest = body;
    while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
        let [_, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        wanted |= length > max;
        rest = after.get(length..).unwrap_or_default();
    }
    for size in [1, 2, 7, body.len().max(1)] {
        let mut prefix = Prefix::default();
        let found = body.chunks(size).any(|part| prefix.too_long(part, max));
        assert_eq!(found, wanted, "{size} bytes at a time");
    }
}
