//! Messages with secrets: their `Debug` is written here and not by prost, so that nothing that logs a request logs a password.

use std::{collections::BTreeMap, fmt::Write as _};

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, OneofDescriptor};

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
