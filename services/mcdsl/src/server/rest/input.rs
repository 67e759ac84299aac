//! What a path, a query and a body say, as the message that they stand for. Nothing of HTTP or gRPC: bytes in, a message out.

use std::sync::Arc;

use mc_proto::Rest;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, prost::Message as _,
};
use serde_json::{Map, Value, json};

use super::{
    flaw,
    json::{object, twice},
    read,
    shape::Shape,
    wire,
};

/// What is wrong with it.
#[derive(Debug)]
pub(super) struct Invalid(pub(super) String);

/// A method's request.
pub(super) struct Input {
    pub(super) rest: Rest,
    pub(super) message: MessageDescriptor,
    pub(super) shape: Arc<Shape>,
}

impl Input {
    /// Adds to `to` the message, encoded, of what a body of JSON says, and of what the path binds beside it.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub(super) fn json(
        &self,
        body: &[u8],
        bound: &[(&str, &str)],
        to: &mut Vec<u8>,
    ) -> Result<(), Invalid> {
        let begin = to.len();
        if self.at_once(body, bound, to).is_some() {
            return Ok(());
        }
        to.truncate(begin);
        let message = self.message(object(body)?, bound.iter().copied())?;
        to.extend_from_slice(&message.encode_to_vec());
        Ok(())
    }

    /// The same without a tree of values, of what is right and of no seldom spelling.
    fn at_once(&self, body: &[u8], bound: &[(&str, &str)], to: &mut Vec<u8>) -> Option<()> {
        let said = match body {
            [] => 0,
            body => read::object(&self.shape, body, to)?,
        };
        for (name, _) in bound {
            let name = name.trim_start_matches('*');
            let outer = name.split_once('.').map_or(name, |(outer, _)| outer);
            if said & (1 << self.shape.find(outer)?) != 0 {
                return None;
            }
        }
        let bound = self.message(Map::new(), bound.iter().copied()).ok()?;
        to.extend_from_slice(&bound.encode_to_vec());
        Some(())
    }

    /// Adds to `to` the message of a body that is one already. What the path binds may be in it if it says the same.
    ///
    /// # Errors
    /// If it is no such message, says something twice, or something else than the path.
    pub(super) fn protobuf(
        &self,
        body: &[u8],
        bound: &[(&str, &str)],
        to: &mut Vec<u8>,
    ) -> Result<(), Invalid> {
        wire::check(&self.shape, body)?;
        let path = self.message(Map::new(), bound.iter().copied())?;
        let path = path.encode_to_vec();
        for (name, _) in bound {
            let name = name.trim_start_matches('*');
            let says = wire::said(&self.shape, body, name);
            if says.is_some() && says != wire::said(&self.shape, &path, name) {
                return Err(Invalid(format!("{name}: the path says another")));
            }
        }
        to.extend_from_slice(body);
        // Of a field that is there twice the last one counts, and of messages each field.
        to.extend_from_slice(&path);
        Ok(())
    }

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
        let unknown = || Invalid(format!("the request has no field {}", flaw::name(name)));
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
