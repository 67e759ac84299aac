//! What messages look like in JSON and in protobuf, read from their descriptors once: so that a request is read by it without a tree of values between.

use std::sync::Arc;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// Fields of a message at most: they are counted in the bits of a number.
const MAX_FIELDS: usize = 64;

/// A message's fields, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) fields: Vec<Field>,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    json_name: String,
    pub(super) number: u32,
    pub(super) list: bool,
    /// Whether one that is not there is told from one that is the default.
    pub(super) presence: bool,
    /// Of which `oneof`.
    pub(super) oneof: Option<String>,
    pub(super) of: Of,
}

/// What a field takes.
#[derive(Debug)]
pub(super) enum Of {
    Bool,
    Text,
    Bytes,
    I32,
    I64,
    U32,
    U64,
    Double,
    Enum(EnumDescriptor),
    Message(Arc<Shape>),
    /// Protobuf's own, which have a JSON of theirs.
    Known(MessageDescriptor),
}

impl Shape {
    /// `None`: it has what no definition here has (maps, numbers of other kinds, messages within themselves).
    pub(super) fn of(message: &MessageDescriptor) -> Option<Arc<Self>> {
        within(message, &mut Vec::new())
    }

    /// Where the field of that name is, in either spelling.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let named = |field: &Field| field.name == name || field.json_name == name;
        self.fields.iter().position(named)
    }

    pub(super) fn numbered(&self, number: u32) -> Option<(usize, &Field)> {
        let at = self
            .fields
            .binary_search_by_key(&number, |field| field.number);
        at.ok().map(|at| (at, &self.fields[at]))
    }
}

/// `around`: the messages that it is within.
fn within(message: &MessageDescriptor, around: &mut Vec<String>) -> Option<Arc<Shape>> {
    if around.iter().any(|name| name == message.full_name()) {
        return None;
    }
    around.push(message.full_name().to_owned());
    let fields = message.fields().map(|field| made(&field, around));
    let mut fields = fields.collect::<Option<Vec<Field>>>()?;
    around.pop();
    fields.sort_by_key(|field| field.number);
    let one_meaning = |field: &Field| {
        let same = |other: &&Field| {
            [&other.name, &other.json_name]
                .iter()
                .any(|name| [&field.name, &field.json_name].contains(name))
        };
        fields.iter().filter(same).count() == 1
    };
    let usable = fields.len() <= MAX_FIELDS && fields.iter().all(one_meaning);
    usable.then(|| Arc::new(Shape { fields }))
}

fn made(field: &FieldDescriptor, around: &mut Vec<String>) -> Option<Field> {
    let of = match field.kind() {
        _ if field.is_map() || field.is_group() => return None,
        Kind::Bool => Of::Bool,
        Kind::String => Of::Text,
        Kind::Bytes => Of::Bytes,
        Kind::Int32 => Of::I32,
        Kind::Int64 => Of::I64,
        Kind::Uint32 => Of::U32,
        Kind::Uint64 => Of::U64,
        Kind::Double => Of::Double,
        Kind::Enum(of) => Of::Enum(of),
        Kind::Message(of) if of.full_name().starts_with("google.protobuf.") => Of::Known(of),
        Kind::Message(of) => Of::Message(within(&of, around)?),
        _ => return None,
    };
    Some(Field {
        name: field.name().to_owned(),
        json_name: field.json_name().to_owned(),
        number: field.number(),
        list: field.is_list(),
        presence: field.supports_presence(),
        oneof: field
            .containing_oneof()
            .map(|oneof| oneof.name().to_owned()),
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    #[test]
    fn every_method_has_one() {
        let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).unwrap();
        for method in mc_proto::METHODS {
            for name in [method.input, method.output] {
                let message = pool.get_message_by_name(name).unwrap();
                assert!(Shape::of(&message).is_some(), "{name}");
            }
        }
    }
}
