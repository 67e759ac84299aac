//! Answers of protobuf as JSON, in one pass: what prost-reflect writes, for messages as prost encodes them. Others it writes itself ([`super::Call`]).

use std::io::Write as _;

use base64_simd::STANDARD;
use prost_reflect::{DynamicMessage, SerializeOptions};

use super::{
    shape::{Field, Of, Shape},
    wire::{self, Part, Value},
};

/// How JSON is written: all fields, with their names as they are defined.
pub(super) fn options() -> SerializeOptions {
    SerializeOptions::new()
        .skip_default_fields(false)
        .use_proto_field_name(true)
}

/// Adds to `to` what a message says. `Err`: it is not as prost encodes it; what `to` has then is nothing.
pub(super) fn object(shape: &Shape, message: &[u8], to: &mut Vec<u8>) -> Result<(), ()> {
    let mut rest = message;
    let mut part = wire::next(&mut rest)?;
    let mut first = true;
    to.push(b'{');
    for field in &shape.fields {
        let said = part.filter(|part| part.number == field.number);
        if said.is_none() && field.presence {
            continue;
        }
        if !std::mem::take(&mut first) {
            to.push(b',');
        }
        text(&field.name, to);
        to.push(b':');
        match said {
            Some(said) if field.list => part = list(field, said, &mut rest, to)?,
            Some(said) => {
                value(field, said.value, to)?;
                part = wire::next(&mut rest)?;
            }
            None if field.list => to.extend_from_slice(b"[]"),
            None => value(field, default(&field.of), to)?,
        }
    }
    to.push(b'}');
    // What is left is said twice, in another order, or no field.
    part.map_or(Ok(()), |_| Err(()))
}

/// A list, and what comes behind it.
fn list<'w>(
    field: &Field,
    first: Part<'w>,
    rest: &mut &'w [u8],
    to: &mut Vec<u8>,
) -> Result<Option<Part<'w>>, ()> {
    to.push(b'[');
    let begin = to.len();
    let mut part = Some(first);
    while let Some(entry) = part.filter(|part| part.number == field.number) {
        match entry.value {
            Value::Bytes(mut packed) if field.of.is_number() => {
                while !packed.is_empty() {
                    entry_of(field, Value::Number(wire::varint(&mut packed)?), begin, to)?;
                }
            }
            one => entry_of(field, one, begin, to)?,
        }
        part = wire::next(rest)?;
    }
    to.push(b']');
    Ok(part)
}

fn entry_of(field: &Field, one: Value<'_>, begin: usize, to: &mut Vec<u8>) -> Result<(), ()> {
    if to.len() > begin {
        to.push(b',');
    }
    value(field, one, to)
}

fn default(of: &Of) -> Value<'static> {
    match of {
        Of::Text | Of::Bytes | Of::Message(_) | Of::Known(_) => Value::Bytes(&[]),
        Of::Double => Value::Double(0.0),
        _ => Value::Number(0),
    }
}

fn value(field: &Field, value: Value<'_>, to: &mut Vec<u8>) -> Result<(), ()> {
    match (&field.of, value) {
        (Of::Bool, Value::Number(number)) => {
            to.extend_from_slice(if number == 0 { b"false" } else { b"true" });
            Ok(())
        }
        // Of 32 bits the lower half is what counts, as prost reads it.
        (Of::I32, Value::Number(number)) => plain(number as i32, to),
        (Of::U32, Value::Number(number)) => plain(number as u32, to),
        (Of::I64, Value::Number(number)) => quoted(number as i64, to),
        (Of::U64, Value::Number(number)) => quoted(number, to),
        (Of::Enum(of), Value::Number(number)) => match of.get_value(number as i32) {
            Some(value) => {
                text(value.name(), to);
                Ok(())
            }
            None => plain(number as i32, to),
        },
        (Of::Double, Value::Double(number)) if number.is_finite() => {
            serde_json::to_writer(to, &number).map_err(|_| ())
        }
        (Of::Text, Value::Bytes(bytes)) => {
            text(std::str::from_utf8(bytes).map_err(|_| ())?, to);
            Ok(())
        }
        (Of::Bytes, Value::Bytes(bytes)) => {
            // As a Vec grows, not to the byte.
            to.reserve(STANDARD.encoded_length(bytes.len()) + 2);
            to.push(b'"');
            STANDARD.encode_append(bytes, to);
            to.push(b'"');
            Ok(())
        }
        (Of::Message(shape), Value::Bytes(message)) => object(shape, message, to),
        (Of::Known(of), Value::Bytes(message)) => {
            let message = DynamicMessage::decode(of.clone(), message).map_err(|_| ())?;
            let mut json = serde_json::Serializer::new(to);
            let written = message.serialize_with_options(&mut json, &options());
            written.map_err(|_| ())
        }
        _ => Err(()),
    }
}

fn plain(number: impl std::fmt::Display, to: &mut Vec<u8>) -> Result<(), ()> {
    write!(to, "{number}").map_err(|_| ())
}

/// JSON's numbers have 53 bits for many.
fn quoted(number: impl std::fmt::Display, to: &mut Vec<u8>) -> Result<(), ()> {
    write!(to, "\"{number}\"").map_err(|_| ())
}

fn text(text: &str, to: &mut Vec<u8>) {
    // Looks at all of it at once, which is faster than where the first one is.
    let marked = |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, marked) {
        // Writing to a Vec cannot fail.
        let _ = serde_json::to_writer(to, text);
        return;
    }
    to.reserve(text.len() + 2);
    to.push(b'"');
    to.extend_from_slice(text.as_bytes());
    to.push(b'"');
}
