//! Messages with secrets: their `Debug` is written here and not by prost, so that nothing that logs a request logs a password.

use std::{collections::BTreeMap, fmt::Write as _};

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

/// Whether the option says so (`metacircular/options/v1/options.proto`).
pub(crate) fn is_secret(field: &FieldDescriptor) -> bool {
    let pool = field.parent_pool();
    pool.get_extension_by_name("metacircular.options.v1.secret")
        .is_some_and(|secret| field.options().get_extension(&secret).as_bool() == Some(true))
}

/// The messages that have one, and those defined within these: prost leaves all of them out together.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let has = |message: &MessageDescriptor| message.fields().any(|field| is_secret(&field));
    let within = |message: &MessageDescriptor| {
        let mut outer = Some(message.clone());
        std::iter::from_fn(move || {
            let this = outer.take()?;
            outer = this.parent_message();
            Some(this)
        })
        .any(|message| has(&message))
    };
    let all = pool.all_messages().filter(|m| !m.is_map_entry());
    all.filter(within).collect()
}

/// What prost is to leave out.
pub(crate) fn paths(pool: &DescriptorPool) -> Vec<String> {
    let messages = messages(pool).into_iter();
    messages.map(|m| format!(".{}", m.full_name())).collect()
}

/// For each package the implementations, as Rust.
///
/// # Errors
/// A message with a secret that defines an enum, whose `Debug` prost would leave out too.
pub(crate) fn debug(pool: &DescriptorPool) -> Result<BTreeMap<String, String>, String> {
    let mut packages: BTreeMap<String, String> = BTreeMap::new();
    for message in messages(pool) {
        if let Some(inner) = message.child_enums().next() {
            let (name, inner) = (message.full_name(), inner.name().to_owned());
            return Err(format!(
                "{name} has a secret and defines {inner}; define {inner} outside of it"
            ));
        }
        let text = packages
            .entry(message.package_name().to_owned())
            .or_default();
        structure(&message, text);
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            enumeration(&oneof, text);
        }
    }
    Ok(packages)
}

/// For each package what gives the secrets of its messages, as Rust: of those that have some, or have messages that do.
///
/// # Errors
/// A secret that is neither text nor bytes, or in a map.
pub(crate) fn each(pool: &DescriptorPool) -> Result<BTreeMap<String, String>, String> {
    let mut packages: BTreeMap<String, String> = BTreeMap::new();
    let all = pool.all_messages().filter(|m| !m.is_map_entry());
    for message in all.filter(|message| reaches(message, &mut Vec::new())) {
        let mut body = String::new();
        for field in message.fields() {
            let of = field
                .containing_oneof()
                .filter(|oneof| !oneof.is_synthetic());
            let Some(one) = told(&field)? else { continue };
            let name = field.name().to_snake_case();
            let place = format!("&self.{}", identifier(&name));
            let _ = match of {
                Some(oneof) => {
                    let of = format!("&self.{}", identifier(&oneof.name().to_snake_case()));
                    let variant =
                        module(Some(message.clone())) + &oneof.name().to_upper_camel_case();
                    let name = field.name().to_upper_camel_case();
                    write!(
                        body,
                        "if let Some({variant}::{name}(one)) = {of} {{ {one} }}"
                    )
                }
                None if field.is_list() => write!(body, "for one in {place} {{ {one} }}"),
                None if field.supports_presence() => {
                    write!(body, "if let Some(one) = {place} {{ {one} }}")
                }
                None => write!(body, "{{ let one = {place}; {one} }}"),
            };
        }
        let path = module(message.parent_message()) + &message.name().to_upper_camel_case();
        let text = packages
            .entry(message.package_name().to_owned())
            .or_default();
        let _ = writeln!(
            text,
            "impl crate::Secrets for {path} {{\n    fn each_secret(&self, each: &mut dyn FnMut(&'static str, &[u8])) {{\n        {body}\n    }}\n}}"
        );
    }
    Ok(packages)
}

/// Whether a message has a secret, or has messages that do; `seen` are those that are being asked.
fn reaches(message: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
    if seen.iter().any(|name| name == message.full_name()) {
        return false;
    }
    seen.push(message.full_name().to_owned());
    message.fields().any(|field| {
        let inner = field.kind().as_message().cloned();
        is_secret(&field) || inner.is_some_and(|inner| !field.is_map() && reaches(&inner, seen))
    })
}

/// What is done with `one` of a field.
fn told(field: &FieldDescriptor) -> Result<Option<String>, String> {
    let bytes = matches!(field.kind(), Kind::String | Kind::Bytes);
    match (is_secret(field), field.kind().as_message()) {
        (true, _) if !bytes || field.is_map() => Err(format!(
            "{} is secret, and neither text nor bytes",
            field.full_name()
        )),
        (true, _) => Ok(Some(format!("each({:?}, one.as_ref());", field.name()))),
        (false, Some(inner)) if !field.is_map() && reaches(inner, &mut Vec::new()) => {
            Ok(Some("crate::Secrets::each_secret(one, each);".to_owned()))
        }
        (false, _) => Ok(None),
    }
}

// Writing to a String cannot fail.
fn structure(message: &MessageDescriptor, text: &mut String) {
    let path = module(message.parent_message()) + &message.name().to_upper_camel_case();
    let mut body = format!("f.debug_struct({:?})", message.name());
    for field in message.fields() {
        let of = field.containing_oneof();
        if of.is_none_or(|oneof| oneof.is_synthetic()) {
            let name = field.name().to_snake_case();
            let value = shown(&field, &format!("&self.{}", identifier(&name)));
            let _ = write!(body, ".field({name:?}, {value})");
        }
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let name = oneof.name().to_snake_case();
        let _ = write!(body, ".field({name:?}, &self.{})", identifier(&name));
    }
    implementation(&path, &(body + ".finish()"), text);
}

fn enumeration(oneof: &OneofDescriptor, text: &mut String) {
    let path = module(Some(oneof.parent_message().clone())) + &oneof.name().to_upper_camel_case();
    let mut body = "match self {".to_owned();
    for field in oneof.fields() {
        let name = field.name().to_upper_camel_case();
        let (bound, value) = match is_secret(&field) {
            true => ("_", SECRET),
            false => ("value", "value"),
        };
        let _ = write!(
            body,
            "Self::{name}({bound}) => f.debug_tuple({name:?}).field({value}).finish(),"
        );
    }
    implementation(&path, &(body + "}"), text);
}

const SECRET: &str = "&::core::format_args!(\"<secret>\")";

fn shown(field: &FieldDescriptor, value: &str) -> String {
    match is_secret(field) {
        true => SECRET.to_owned(),
        false => value.to_owned(),
    }
}

fn implementation(path: &str, body: &str, text: &mut String) {
    let _ = writeln!(
        text,
        "impl ::core::fmt::Debug for {path} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
         {body}\n    }}\n}}"
    );
}

/// Where prost has what a message defines.
fn module(message: Option<MessageDescriptor>) -> String {
    let Some(message) = message else {
        return String::new();
    };
    let name = message.name().to_snake_case();
    module(message.parent_message()) + &identifier(&name) + "::"
}

/// Of the words that a field may be called and Rust has taken: those in use elsewhere fail to compile, and belong here then.
fn identifier(name: &str) -> String {
    match name {
        "type" | "match" | "ref" | "use" | "mod" | "move" | "where" | "for" | "in" => {
            format!("r#{name}")
        }
        _ => name.to_owned(),
    }
}
