//! What a path, a query and a body say, as the message that they stand for. Nothing of HTTP or gRPC: bytes in, a message out.

use mc_proto::Rest;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{flaw, json::twice};

/// What is wrong with it.
#[derive(Debug)]
pub(super) struct Invalid(pub(super) String);

/// A method's request.
pub(super) struct Input {
    pub(super) rest: Rest,
    pub(super) message: MessageDescriptor,
}

impl Input {
    /// The message of what the body or the query says, and of what the path binds beside it.
    ///
    /// # Errors
    /// If something is said twice, is no field or none of its type.
    pub(super) fn message<'b>(
        &self,
        mut fields: Map<String, Value>,
        bound: impl IntoIterator<Item = (&'b str, &'b str)>,
    ) -> Result<DynamicMessage, Invalid> {
        for (name, text) in bound {
            self.set(&mut fields, name.trim_start_matches('*'), text)?;
        }
        if let Some(key) = twice(&fields, &self.message) {
            return Err(Invalid(format!("{key} is said twice, under two names")));
        }
        self.parse(fields)
    }

    fn parse(&self, fields: Map<String, Value>) -> Result<DynamicMessage, Invalid> {
        let object = Value::Object(fields);
        match (flaw::parse(&self.message, &object), object) {
            (None, Value::Object(fields)) => Err(Invalid(flaw::of(&self.message, fields))),
            (parsed, _) => parsed.ok_or_else(|| Invalid("the body is no object".to_owned())),
        }
    }

    /// The fields that a query says.
    ///
    /// # Errors
    /// If one is bound by the path, said twice, or none.
    pub(super) fn query(&self, query: &str) -> Result<Map<String, Value>, Invalid> {
        let mut fields = Map::new();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            if self.rest.bound.iter().any(|bound| *bound == name) {
                return Err(Invalid(format!("{name} is in the path")));
            }
            self.set(&mut fields, &name, &text)?;
        }
        Ok(fields)
    }

    /// Enters what the path or the query says as JSON would say it.
    fn set(&self, fields: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), Invalid> {
        let unknown = || Invalid(format!("there is no {} in the request", flaw::name(name)));
        let (fields, name, field) = match name.split_once('.') {
            None => (fields, name, self.message.get_field_by_name(name)),
            Some((outer, inner)) => {
                let outside = self.message.get_field_by_name(outer).ok_or_else(unknown)?;
                let kind = outside.kind();
                let field = kind.as_message().and_then(|m| m.get_field_by_name(inner));
                let object = fields.entry(outer).or_insert_with(|| json!({}));
                (object.as_object_mut().ok_or_else(unknown)?, inner, field)
            }
        };
        let field = field.ok_or_else(unknown)?;
        let value = value(&field, text);
        if field.is_list() {
            let list = fields.entry(name).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or_else(unknown)?.push(value);
        } else if fields.insert(name.to_owned(), value).is_some() {
            return Err(Invalid(format!("{name} is said twice")));
        }
        Ok(())
    }
}

/// Protobuf's JSON takes a text for anything but these.
fn value(field: &FieldDescriptor, text: &str) -> Value {
    match (field.kind(), text) {
        (Kind::Bool, "true") => Value::Bool(true),
        (Kind::Bool, "false") => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    }
}
