//! How a value is read: serde's side of the tree.

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer as _, Visitor},
    forward_to_deserialize_any,
};

use toml::Value;

use super::{Error, Node, Source, located, parse_value};

macro_rules! numbers {
    ($($method:ident => $ty:ty, $visit:ident, $what:literal);+ $(;)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.scalar(visitor, |text, visitor| match text.parse::<$ty>() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(de::Error::custom(format!(concat!("{:?} is not ", $what), text))),
            })
        }
    )+};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    numbers! {
        deserialize_bool => bool, visit_bool, "true or false";
        deserialize_i8 => i64, visit_i64, "a whole number";
        deserialize_i16 => i64, visit_i64, "a whole number";
        deserialize_i32 => i64, visit_i64, "a whole number";
        deserialize_i64 => i64, visit_i64, "a whole number";
        deserialize_u8 => u64, visit_u64, "a whole number, 0 or above";
        deserialize_u16 => u64, visit_u64, "a whole number, 0 or above";
        deserialize_u32 => u64, visit_u64, "a whole number, 0 or above";
        deserialize_u64 => u64, visit_u64, "a whole number, 0 or above";
        deserialize_f32 => f64, visit_f64, "a number";
        deserialize_f64 => f64, visit_f64, "a number";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.scalar(visitor, |text, visitor| visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.scalar(visitor, |text, visitor| match parse_value(text) {
            Ok(value) => value.deserialize_any(visitor).map_err(de::Error::custom),
            Err(_) => visitor.visit_str(text),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let origin = self.origin();
        let read = |node: Self| visitor.visit_map(Entries::new(node.fields(fields)?));
        read(self).map_err(|e| located(e, origin))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let origin = self.origin();
        self.no_parts();
        let read = |node: Self| {
            let head = node.child("", None, Vec::new());
            let head = Node {
                path: node.path.clone(),
                ..head
            };
            let Value::Table(table) = node.into_value()? else {
                return Err(de::Error::custom("expected a section"));
            };
            let entries = table.into_iter().map(|(key, value)| {
                let child = head.child(&key, Some(value), Vec::new());
                (key, child)
            });
            visitor.visit_map(Entries::new(entries.collect()))
        };
        read(self).map_err(|e| located(e, origin))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let origin = self.origin();
        let read = |node: Self| {
            let items = node.elements()?.into_iter().map(IntoNode);
            visitor.visit_seq(de::value::SeqDeserializer::new(items))
        };
        read(self).map_err(|e| located(e, origin))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let origin = self.origin();
        self.no_parts();
        let result = match self.source {
            Source::Variable { text, .. } => visitor.visit_enum(text.into_deserializer()),
            Source::File(value) => value
                .deserialize_enum(name, variants, visitor)
                .map_err(de::Error::custom),
            Source::Absent => Err(de::Error::custom("expected a value, not a section")),
        };
        result.map_err(|e| located(e, origin))
    }

    forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

struct IntoNode<'a>(Node<'a>);

impl<'de, 'a> de::IntoDeserializer<'de, Error> for IntoNode<'a> {
    type Deserializer = Node<'a>;
    fn into_deserializer(self) -> Node<'a> {
        self.0
    }
}

struct Entries<'a> {
    rest: std::vec::IntoIter<(String, Node<'a>)>,
    value: Option<Node<'a>>,
}

impl<'a> Entries<'a> {
    fn new(entries: Vec<(String, Node<'a>)>) -> Self {
        Self {
            rest: entries.into_iter(),
            value: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, node)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(node);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(node) => seed.deserialize(node),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
