//! Protobuf's encoding, as far as messages here have it.

use prost_reflect::{
    DynamicMessage,
    prost::encoding::{decode_varint, encode_varint},
};

use super::{
    input::Invalid,
    shape::{Field, Of, Shape},
};

/// Messages within one another: as many as prost reads.
const MAX_DEPTH: usize = 100;

/// The types of the encoding.
pub(super) const VARINT: u32 = 0;
const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;

/// A field as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'w> {
    pub(super) number: u32,
    pub(super) value: Value<'w>,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'w> {
    Number(u64),
    Double(f64),
    Bytes(&'w [u8]),
}

/// The next field of a message. `Err`: it is none.
pub(super) fn next<'w>(rest: &mut &'w [u8]) -> Result<Option<Part<'w>>, ()> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = u32::try_from(varint(rest)?).map_err(|_| ())?;
    let value = match key & 7 {
        VARINT => Value::Number(varint(rest)?),
        FIXED64 => Value::Double(f64::from_le_bytes(
            take(rest, 8)?.try_into().map_err(|_| ())?,
        )),
        BYTES => {
            let length = usize::try_from(varint(rest)?).map_err(|_| ())?;
            Value::Bytes(take(rest, length)?)
        }
        _ => return Err(()),
    };
    let number = key >> 3;
    Ok(Some(Part { number, value }))
}

/// A number.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, ()> {
    decode_varint(rest).map_err(|_| ())
}

fn take<'w>(rest: &mut &'w [u8], length: usize) -> Result<&'w [u8], ()> {
    let (taken, left) = rest.split_at_checked(length).ok_or(())?;
    *rest = left;
    Ok(taken)
}

/// Begins a field.
pub(super) fn key(number: u32, kind: u32, to: &mut Vec<u8>) {
    encode_varint(u64::from((number << 3) | kind), to);
}

/// A field that is a number.
pub(super) fn number(number: u32, value: u64, to: &mut Vec<u8>) {
    key(number, VARINT, to);
    encode_varint(value, to);
}

/// A field that is a number with a point.
pub(super) fn double(number: u32, value: f64, to: &mut Vec<u8>) {
    key(number, FIXED64, to);
    to.extend_from_slice(&value.to_le_bytes());
}

/// A field that is bytes: their length, and what is to follow.
pub(super) fn length(number: u32, length: usize, to: &mut Vec<u8>) {
    key(number, BYTES, to);
    encode_varint(length as u64, to);
}

/// A field that is bytes.
pub(super) fn bytes(number: u32, value: &[u8], to: &mut Vec<u8>) {
    length(number, value.len(), to);
    to.extend_from_slice(value);
}

/// A field of which the length is known once it is written, by `write`.
pub(super) fn nested<E>(
    number: u32,
    to: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    key(number, BYTES, to);
    let begin = to.len();
    write(to)?;
    let end = to.len();
    encode_varint((end - begin) as u64, to);
    // The length before what it is of.
    let prefix = to.len() - end;
    to[begin..].rotate_right(prefix);
    Ok(())
}

/// Whether bytes are such a message in which nothing is said twice, as strictly as JSON is read.
///
/// # Errors
/// What is wrong, by the names of the fields.
pub(super) fn check(shape: &Shape, message: &[u8]) -> Result<(), Invalid> {
    check_within(shape, message, 0).map_err(|why| Invalid(why.into()))
}

/// Why a message is none; where it is comes before it.
struct Flaw {
    within: String,
    what: String,
}

impl From<Flaw> for String {
    fn from(flaw: Flaw) -> Self {
        flaw.within + flaw.what.as_str()
    }
}

fn flaw(what: impl Into<String>) -> Flaw {
    Flaw {
        within: String::new(),
        what: what.into(),
    }
}

fn check_within(shape: &Shape, mut rest: &[u8], depth: usize) -> Result<(), Flaw> {
    let broken = |()| flaw("the body is no message of protobuf, or was cut off");
    if depth > MAX_DEPTH {
        return Err(flaw("the body has messages too deep within one another"));
    }
    let (mut seen, mut entry) = (0_u64, None);
    while let Some(part) = next(&mut rest).map_err(broken)? {
        let Some((at, field)) = shape.numbered(part.number) else {
            return Err(flaw(format!("the request has no field {}", part.number)));
        };
        if field.list {
            entry = Some(match entry {
                Some((last, index)) if last == at => (at, index + 1),
                _ => (at, 0),
            });
        } else if seen & (1 << at) != 0 {
            return Err(flaw(format!("{} is said twice", field.name)));
        }
        let others = |(other, of): (usize, &Field)| {
            other != at && seen & (1 << other) != 0 && of.oneof == field.oneof
        };
        if field.oneof.is_some() && shape.fields.iter().enumerate().any(others) {
            return Err(flaw("of its fields some exclude one another"));
        }
        seen |= 1 << at;
        let fits = match (&field.of, part.value) {
            (Of::Text, Value::Bytes(text)) => std::str::from_utf8(text).is_ok(),
            (Of::Bytes, Value::Bytes(_)) | (Of::Double, Value::Double(_)) => true,
            (Of::Message(inner), Value::Bytes(message)) => {
                check_within(inner, message, depth + 1).map_err(|why| {
                    let place = match entry.filter(|_| field.list) {
                        Some((_, index)) => format!("{}[{index}]: ", field.name),
                        None => format!("{}: ", field.name),
                    };
                    Flaw {
                        within: place + why.within.as_str(),
                        ..why
                    }
                })?;
                true
            }
            (Of::Known(of), Value::Bytes(message)) => {
                let message = DynamicMessage::decode(of.clone(), message);
                message.is_ok_and(|message| message.unknown_fields().next().is_none())
            }
            (of, Value::Number(_)) => of.is_number(),
            (of, Value::Bytes(mut packed)) if field.list && of.is_number() => {
                while !packed.is_empty() {
                    varint(&mut packed).map_err(broken)?;
                }
                true
            }
            _ => false,
        };
        if !fits {
            return Err(flaw(format!("{}: not what the field takes", field.name)));
        }
    }
    Ok(())
}

impl Of {
    /// Whether it is sent as [`Value::Number`].
    pub(super) fn is_number(&self) -> bool {
        match self {
            Self::Bool | Self::I32 | Self::I64 | Self::U32 | Self::U64 | Self::Enum(_) => true,
            Self::Text | Self::Bytes | Self::Double | Self::Message(_) | Self::Known(_) => false,
        }
    }
}

/// What a message that was checked says of a field that is no list, within another one or not (`a.b`); `None`: nothing, or the default.
pub(super) fn said<'w>(shape: &Shape, message: &'w [u8], path: &str) -> Option<Value<'w>> {
    let (name, inner) = match path.split_once('.') {
        Some((name, inner)) => (name, Some(inner)),
        None => (path, None),
    };
    let field = &shape.fields[shape.find(name)?];
    let mut rest = message;
    while let Ok(Some(part)) = next(&mut rest) {
        if part.number != field.number {
            continue;
        }
        return match (inner, &field.of, part.value) {
            (Some(inner), Of::Message(of), Value::Bytes(message)) => said(of, message, inner),
            (Some(_), ..) | (_, _, Value::Number(0) | Value::Bytes([])) => None,
            (None, _, value) => Some(value),
        };
    }
    None
}
