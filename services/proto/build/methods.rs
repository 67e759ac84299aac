//! What the methods' options say, checked.

use std::{collections::HashMap, error::Error, fmt::Write as _};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

use crate::rest::{self, Rest};

/// A method of a service of ours.
pub(crate) struct Method {
    pub(crate) descriptor: MethodDescriptor,
    pub(crate) access: Access,
    /// `None`: it streams.
    pub(crate) rest: Option<Rest>,
}

/// Its option (`metacircular/options/v1/options.proto`).
pub(crate) struct Access {
    /// As the enum writes it.
    pub(crate) level: String,
    pub(crate) callers: Vec<String>,
    pub(crate) needs_unsealed: bool,
    pub(crate) audited: bool,
    pub(crate) other_audiences: bool,
}

impl Method {
    pub(crate) fn package(&self) -> String {
        self.descriptor.parent_service().package_name().to_owned()
    }

    /// `/package.Service/Method`.
    pub(crate) fn path(&self) -> String {
        let service = self.descriptor.parent_service();
        format!("/{}/{}", service.full_name(), self.descriptor.name())
    }

    pub(crate) fn streams(&self) -> bool {
        self.descriptor.is_client_streaming() || self.descriptor.is_server_streaming()
    }
}

/// Reads them all.
///
/// # Errors
/// What is missing or wrong, all of it, with what to write.
pub(crate) fn read(pool: &DescriptorPool) -> Result<Vec<Method>, Box<dyn Error>> {
    let (mut methods, mut wrong) = (Vec::new(), Vec::new());
    for service in pool.services() {
        for descriptor in service.methods() {
            match method(pool, descriptor.clone()) {
                Ok(method) => methods.push(method),
                Err(why) => wrong.push(format!("{}: {why}", descriptor.full_name())),
            }
        }
    }
    let mut paths: HashMap<_, String> = HashMap::new();
    for method in &methods {
        if let Some(rest) = &method.rest {
            let name = method.descriptor.full_name().to_owned();
            let key = (method.package(), rest.verb, rest.shape());
            if let Some(other) = paths.insert(key, name) {
                let name = method.descriptor.full_name();
                wrong.push(format!("{name}: {other} has the same REST path"));
            }
        }
    }
    wrong.extend(collisions(&methods));
    if wrong.is_empty() {
        Ok(methods)
    } else {
        Err(wrong.join("\n").into())
    }
}

/// Paths that the router of the server refuses to have beside one another, whatever their verbs: asked of that router, which would panic.
fn collisions(methods: &[Method]) -> Vec<String> {
    let mut routers: HashMap<String, (matchit::Router<()>, HashMap<&str, String>)> = HashMap::new();
    let mut wrong = Vec::new();
    for method in methods {
        let Some(rest) = &method.rest else { continue };
        let name = method.descriptor.full_name().to_owned();
        let (router, paths) = routers.entry(method.package()).or_default();
        if paths.contains_key(rest.path.as_str()) {
            continue;
        }
        match router.insert(rest.path.as_str(), ()) {
            Ok(()) => {
                paths.insert(&rest.path, name);
            }
            Err(matchit::InsertError::Conflict { with }) => {
                let other = paths.get(with.as_str()).map_or("another", String::as_str);
                wrong.push(format!(
                    "{name}: its REST path {:?} collides with {with:?} of {other}; name the fields at the same place alike, or choose another path",
                    rest.path
                ));
            }
            Err(error) => wrong.push(format!("{name}: its REST path {:?}: {error}", rest.path)),
        }
    }
    wrong
}

fn method(pool: &DescriptorPool, descriptor: MethodDescriptor) -> Result<Method, String> {
    let access = access(pool, &descriptor)?;
    let streams = descriptor.is_client_streaming() || descriptor.is_server_streaming();
    let rest = match (option(pool, &descriptor, "google.api.http"), streams) {
        (None, true) => None,
        (None, false) => {
            return Err("has no REST path; add e.g. option (google.api.http) = {get: \"/v1/things/{name}\"}".to_owned());
        }
        (Some(_), true) => {
            return Err("streams, which REST here cannot; remove its google.api.http".to_owned());
        }
        (Some(rule), false) => Some(rest::read(&rule, &descriptor.input())?),
    };
    Ok(Method {
        descriptor,
        access,
        rest,
    })
}

fn access(pool: &DescriptorPool, descriptor: &MethodDescriptor) -> Result<Access, String> {
    let option = option(pool, descriptor, "metacircular.options.v1.access").ok_or(
        "does not say who may call it; add option (metacircular.options.v1.access) = {level: ADMIN}",
    )?;
    let level = enum_name(&option, "level");
    if level.ends_with("UNSPECIFIED") {
        return Err("its access has no level: PUBLIC, AUTHENTICATED or ADMIN".to_owned());
    }
    let callers: Vec<String> = enum_names(&option, "callers");
    if level == "PUBLIC" && !callers.is_empty() {
        return Err(
            "is PUBLIC, so that nobody's type of account is known; remove `callers`".to_owned(),
        );
    }
    let flag = |name| {
        option
            .get_field_by_name(name)
            .is_some_and(|value| value.as_bool() == Some(true))
    };
    let other_audiences = flag("other_audiences");
    let streams = descriptor.is_client_streaming() || descriptor.is_server_streaming();
    if other_audiences && (level != "AUTHENTICATED" || streams) {
        return Err("takes tokens for other services, which no method does that is PUBLIC, for ADMIN or streams; remove `other_audiences`".to_owned());
    }
    Ok(Access {
        level,
        callers,
        needs_unsealed: flag("needs_unsealed"),
        audited: flag("audited"),
        other_audiences,
    })
}

fn option(pool: &DescriptorPool, of: &MethodDescriptor, name: &str) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(name)?;
    let options = of.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

fn enum_names(message: &DynamicMessage, field: &str) -> Vec<String> {
    let Some(descriptor) = message.descriptor().get_field_by_name(field) else {
        return Vec::new();
    };
    let kind = descriptor.kind();
    let Some(kind) = kind.as_enum() else {
        return Vec::new();
    };
    let value = message.get_field(&descriptor);
    let numbers = match &*value {
        Value::List(list) => list.iter().filter_map(Value::as_enum_number).collect(),
        Value::EnumNumber(number) => vec![*number],
        _ => Vec::new(),
    };
    let name = |n| kind.get_value(n).map(|value| value.name().to_owned());
    numbers.into_iter().filter_map(name).collect()
}

fn enum_name(message: &DynamicMessage, field: &str) -> String {
    enum_names(message, field).pop().unwrap_or_default()
}

/// The table as Rust.
pub(crate) fn table(methods: &[Method]) -> String {
    let mut text = String::from("&[\n");
    for method in methods {
        let callers: Vec<String> = (method.access.callers.iter())
            .map(|caller| format!("AccountType::{}", camel(caller)))
            .collect();
        let rest = method.rest.as_ref().map_or("None".to_owned(), Rest::rust);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    Method {{ path: {:?}, package: {:?}, input: {:?}, output: {:?}, streams: {}, client_streams: {}, server_streams: {}, rest: {rest}, \
             access: Access {{ level: Level::{}, callers: &[{}], needs_unsealed: {}, audited: {}, other_audiences: {} }} }},",
            method.path(),
            method.package(),
            method.descriptor.input().full_name(),
            method.descriptor.output().full_name(),
            method.streams(),
            method.descriptor.is_client_streaming(),
            method.descriptor.is_server_streaming(),
            camel(&method.access.level),
            callers.join(", "),
            method.access.needs_unsealed,
            method.access.audited,
            method.access.other_audiences,
        );
    }
    text + "]\n"
}

fn camel(constant: &str) -> String {
    let (first, rest) = constant.split_at(1);
    first.to_owned() + &rest.to_lowercase()
}
