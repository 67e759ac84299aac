//! Requests of JSON as protobuf, in one pass. What is not read here (what is wrong, and some spellings that are seldom) is read again by who takes longer for it,
//! and tells what is wrong ([`super::input`]).

use std::{fmt, sync::LazyLock};

use base64_simd::STANDARD;
use prost_reflect::{DeserializeOptions, DynamicMessage, prost::Message as _};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    shape::{Field, Of, Shape},
    wire,
};

static STRICT: LazyLock<DeserializeOptions> =
    LazyLock::new(|| DeserializeOptions::new().deny_unknown_fields(true));

/// Adds to `to` the message that an object says, and gives the fields that it says, by their bits. `None`: it is not read; what `to` has then is nothing.
pub(super) fn object(shape: &Shape, body: &[u8], to: &mut Vec<u8>) -> Option<u64> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let seen = Object { shape, to }.deserialize(&mut from).ok()?;
    from.end().ok()?;
    Some(seen)
}

/// Nobody is told it: the body is read again.
fn not_here<E: Error>() -> E {
    E::custom("")
}

struct Object<'a> {
    shape: &'a Shape,
    to: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<u64, A::Error> {
        let (mut seen, fields) = (0_u64, &self.shape.fields);
        while let Some(at) = object.next_key_seed(Key(self.shape))? {
            let field = &fields[at];
            let excludes = |(other, of): (usize, &Field)| {
                seen & (1 << other) != 0 && (other == at || of.oneof == field.oneof)
            };
            let excluded = match field.oneof {
                Some(_) => fields.iter().enumerate().any(excludes),
                None => seen & (1 << at) != 0,
            };
            if excluded {
                return Err(not_here());
            }
            seen |= 1 << at;
            object.next_value_seed(Said {
                field,
                in_list: false,
                to: self.to,
            })?;
        }
        Ok(seen)
    }
}

/// A field's name, as its place.
struct Key<'a>(&'a Shape);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.0.find(name).ok_or_else(not_here)
    }
}

/// What is said of a field, or of one entry of its list.
struct Said<'a> {
    field: &'a Field,
    in_list: bool,
    to: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Said<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.field.list && !self.in_list {
            return from.deserialize_seq(self);
        }
        let number = self.field.number;
        match &self.field.of {
            Of::Message(shape) => wire::nested(number, self.to, |to| {
                Object { shape, to }.deserialize(from).map(drop)
            }),
            Of::Known(of) => {
                let options = &STRICT;
                let message = DynamicMessage::deserialize_with_options(of.clone(), from, options)?;
                wire::bytes(number, &message.encode_to_vec(), self.to);
                Ok(())
            }
            Of::Text | Of::Bytes => from.deserialize_str(self),
            _ => from.deserialize_any(self),
        }
    }
}

impl Said<'_> {
    fn number<E>(self, value: u64) -> Result<(), E> {
        wire::number(self.field.number, value, self.to);
        Ok(())
    }

    /// Numbers below zero have ten bytes, whatever they are of.
    fn signed<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(u64::from_ne_bytes(value.to_ne_bytes()))
    }

    fn bytes<E: Error>(self, text: &str) -> Result<(), E> {
        let length = STANDARD.decoded_length(text.as_bytes());
        let length = length.map_err(|_| not_here())?;
        wire::length(self.field.number, length, self.to);
        // As a Vec grows, not to the byte.
        self.to.reserve(length);
        let begin = self.to.len();
        let decoded = STANDARD.decode_append(text, self.to);
        match decoded {
            Ok(()) if self.to.len() - begin == length => Ok(()),
            _ => Err(not_here()),
        }
    }
}

impl<'de> Visitor<'de> for Said<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the field takes")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.of {
            Of::Bool => self.number(value.into()),
            _ => Err(not_here()),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.field.of {
            Of::U64 => self.number(value),
            Of::U32 if u32::try_from(value).is_ok() => self.number(value),
            Of::I64 if i64::try_from(value).is_ok() => self.number(value),
            Of::I32 | Of::Enum(_) if i32::try_from(value).is_ok() => self.number(value),
            _ => Err(not_here()),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.field.of {
            Of::I64 => self.signed(value),
            Of::I32 | Of::Enum(_) if i32::try_from(value).is_ok() => self.signed(value),
            _ => Err(not_here()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.of {
            Of::Double => {
                wire::double(self.field.number, value, self.to);
                Ok(())
            }
            _ => Err(not_here()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &self.field.of {
            Of::Text => {
                wire::bytes(self.field.number, text.as_bytes(), self.to);
                Ok(())
            }
            Of::Bytes => self.bytes(text),
            Of::U32 => match text.parse::<u32>() {
                Ok(value) => self.number(value.into()),
                Err(_) => Err(not_here()),
            },
            Of::U64 => match text.parse() {
                Ok(value) => self.number(value),
                Err(_) => Err(not_here()),
            },
            Of::I32 => match text.parse::<i32>() {
                Ok(value) => self.signed(value.into()),
                Err(_) => Err(not_here()),
            },
            Of::I64 => match text.parse() {
                Ok(value) => self.signed(value),
                Err(_) => Err(not_here()),
            },
            Of::Enum(of) => match of.get_value_by_name(text) {
                Some(value) => self.signed(value.number().into()),
                None => Err(not_here()),
            },
            _ => Err(not_here()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.field.list || self.in_list {
            return Err(not_here());
        }
        loop {
            let said = Said {
                field: self.field,
                in_list: true,
                to: &mut *self.to,
            };
            if list.next_element_seed(said)?.is_none() {
                return Ok(());
            }
        }
    }
}
