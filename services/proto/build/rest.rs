//! REST paths: what of `google.api.http` is understood, and what a request's fields may be.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

/// How a method is reached.
pub(crate) struct Rest {
    pub(crate) verb: &'static str,
    /// `/v1/things/{name}`: what is in braces is a field of the request and takes one segment, `{*name}` all that are left.
    pub(crate) path: String,
    /// The fields of the request that the path binds.
    pub(crate) bound: Vec<String>,
    /// The rest of the request is the body; otherwise the query.
    pub(crate) body: bool,
}

const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

impl Rest {
    /// The path without the names of its fields: two that are alike match the same requests.
    pub(crate) fn shape(&self) -> String {
        let segment = |segment: &str| match segment.strip_prefix('{') {
            Some(field) if field.starts_with('*') => "{*}".to_owned(),
            Some(_) => "{}".to_owned(),
            None => segment.to_owned(),
        };
        let segments: Vec<_> = self.path.split('/').map(segment).collect();
        segments.join("/")
    }

    /// As a literal of `mc_proto::Rest`.
    pub(crate) fn rust(&self) -> String {
        format!(
            "Some(Rest {{ verb: {:?}, path: {:?}, bound: &{:?}, body: {} }})",
            self.verb.to_uppercase(),
            self.path,
            self.bound,
            self.body
        )
    }
}

/// # Errors
/// What is wrong with the rule, and what to write.
pub(crate) fn read(rule: &DynamicMessage, input: &MessageDescriptor) -> Result<Rest, String> {
    let text = |field: &str| {
        let value = rule.get_field_by_name(field)?;
        let text = value.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let pattern = VERBS.into_iter().find_map(|v| text(v).map(|p| (v, p)));
    let (verb, path) =
        pattern.ok_or("its google.api.http has no get, put, post, delete or patch")?;
    let body = match text("body").as_deref() {
        None => false,
        Some("*") => true,
        Some(other) => {
            return Err(format!(
                "its REST body is {other:?}; write \"*\" (all that the path does not bind) or none"
            ));
        }
    };
    if body && matches!(verb, "get" | "delete") {
        return Err(format!("a {verb} has no body; remove it"));
    }
    let bound = bound(&path)?;
    for name in &bound {
        let field = find(input, name);
        let field = field.ok_or_else(|| {
            format!(
                "its REST path names {name:?}, which {} lacks",
                input.full_name()
            )
        })?;
        if field.is_list() || !scalar(&field) {
            return Err(format!(
                "its REST path names {name:?}, which is not one text, number or enum"
            ));
        }
        if body && name.contains('.') {
            return Err(format!(
                "its REST path names {name:?}, which the body has already"
            ));
        }
    }
    if !body {
        for (name, field) in leaves(input) {
            if field.is_map() || !scalar(&field) {
                return Err(format!(
                    "{name:?} cannot be said in a query; bind a body (\"*\")"
                ));
            }
        }
    }
    Ok(Rest {
        verb,
        path,
        bound,
        body,
    })
}

fn bound(path: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        format!(
            "its REST path {path:?} is not /v1/…, with fields as {{name}}, or {{*name}} at the end"
        )
    };
    let segments: Vec<&str> = path
        .strip_prefix("/v1/")
        .ok_or_else(wrong)?
        .split('/')
        .collect();
    let mut bound = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        match name {
            None if plain(segment) => {}
            Some(name) if plain(name) => bound.push(name.to_owned()),
            Some(name) if i + 1 == segments.len() && name.strip_prefix('*').is_some_and(plain) => {
                bound.push(name[1..].to_owned());
            }
            _ => return Err(wrong()),
        }
    }
    Ok(bound)
}

/// A field, or by `a.b` one of a message in it.
pub(crate) fn find(input: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    match name.split_once('.') {
        None => input.get_field_by_name(name),
        Some((first, rest)) => {
            let field = input.get_field_by_name(first)?;
            find(field.kind().as_message()?, rest)
        }
    }
}

/// What a query may say: the fields, and as `a.b` those of the messages in it, one level deep.
pub(crate) fn leaves(input: &MessageDescriptor) -> Vec<(String, FieldDescriptor)> {
    let mut leaves = Vec::new();
    for field in input.fields() {
        match field.kind() {
            Kind::Message(message) if !field.is_list() && !field.is_map() && !scalar(&field) => {
                let inner = message
                    .fields()
                    .map(|inner| (format!("{}.{}", field.name(), inner.name()), inner));
                leaves.extend(inner);
            }
            _ => leaves.push((field.name().to_owned(), field)),
        }
    }
    leaves
}

/// It is written as one text.
fn scalar(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => matches!(
            message.full_name(),
            "google.protobuf.Timestamp" | "google.protobuf.Duration"
        ),
        _ => true,
    }
}
