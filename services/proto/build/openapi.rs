//! OpenAPI 3.1 documents, one per package: what `build/rest.rs` and the JSON mapping of protobuf make of its methods.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::{methods::Method, rest, secrets::is_secret};

/// By package.
pub(crate) fn documents(methods: &[Method]) -> BTreeMap<String, Value> {
    let mut by_package: BTreeMap<String, Vec<&Method>> = BTreeMap::new();
    for method in methods.iter().filter(|method| method.rest.is_some()) {
        by_package.entry(method.package()).or_default().push(method);
    }
    let document = |(package, methods): (String, Vec<&Method>)| {
        let document = document(&package, &methods);
        (package, document)
    };
    by_package.into_iter().map(document).collect()
}

fn document(package: &str, methods: &[&Method]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for method in methods {
        let Some(rest) = &method.rest else { continue };
        // OpenAPI has no name for what takes several segments.
        let path = rest.path.replace("{*", "{");
        let operation = operation(method, &mut schemas);
        paths
            .entry(path)
            .or_default()
            .insert(rest.verb.to_owned(), operation);
    }
    let service = package.split('.').nth(1).unwrap_or(package);
    json!({
        "openapi": "3.1.0",
        "info": {"title": service, "version": "v1"},
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "An access token of MCIAS.",
            }},
        },
    })
}

fn operation(method: &Method, schemas: &mut Schemas) -> Value {
    let Some(rest) = &method.rest else {
        return Value::Null;
    };
    let descriptor = &method.descriptor;
    let service = descriptor.parent_service();
    let mut parameters = Vec::new();
    let input = descriptor.input();
    let bound = rest
        .bound
        .iter()
        .filter_map(|name| Some((name.clone(), rest::find(&input, name)?)));
    let mut fields: Vec<_> = bound.collect();
    if !rest.body {
        let others = rest::leaves(&input)
            .into_iter()
            .filter(|(name, _)| !rest.bound.contains(name));
        fields.extend(others);
    }
    for (name, field) in fields {
        let place = if rest.bound.contains(&name) {
            "path"
        } else {
            "query"
        };
        parameters.push(json!({
            "name": name,
            "in": place,
            "required": place == "path",
            "description": comment(&field.parent_message().parent_file(), field.path()),
            "schema": schemas.field(&field),
        }));
    }
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), descriptor.name()),
        "tags": [service.name()],
        "description": comment(&service.parent_file(), descriptor.path()),
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done.",
                "content": {
                    "application/json": {"schema": schemas.message(&descriptor.output())},
                    "application/protobuf": {"schema": message(&descriptor.output())},
                },
            },
            "default": {
                "description": "It failed.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "x-access": {
            "level": method.access.level,
            "callers": method.access.callers,
            "needs_unsealed": method.access.needs_unsealed,
            "other_audiences": method.access.other_audiences,
        },
    });
    if rest.body {
        let mut schema = schemas.object(&input, &rest.bound);
        if rest.bound.is_empty() {
            schema = schemas.message(&input);
        }
        operation["requestBody"] = json!({"required": true, "content": {
            "application/json": {"schema": schema},
            "application/protobuf": {"schema": message(&input)},
        }});
    }
    if method.access.level != "PUBLIC" {
        operation["security"] = json!([{"token": []}]);
    }
    operation
}

/// A message as protobuf encodes it, by its name.
fn message(of: &MessageDescriptor) -> Value {
    json!({"type": "string", "format": "binary", "description": of.full_name()})
}

/// Messages and enums that were named.
#[derive(Default)]
struct Schemas {
    done: BTreeMap<String, Value>,
    begun: BTreeSet<String>,
}

impl Schemas {
    fn finish(mut self) -> BTreeMap<String, Value> {
        let error = json!({
            "type": "object",
            "description": "As gRPC's status.",
            "required": ["code", "status", "message"],
            "properties": {
                "code": {"type": "integer", "description": "HTTP's status code."},
                "status": {"type": "string", "description": "gRPC's code, e.g. NOT_FOUND."},
                "message": {"type": "string"},
            },
        });
        self.done.insert("Error".to_owned(), error);
        self.done
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => return json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => {
                return json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"});
            }
            "google.protobuf.Empty" | "google.protobuf.Struct" => return json!({"type": "object"}),
            "google.protobuf.Value" => return json!({}),
            _ => {}
        }
        let name = short(message.full_name());
        if self.begun.insert(name.clone()) {
            let schema = self.object(message, &[]);
            self.done.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// Without what is said elsewhere.
    fn object(&mut self, message: &MessageDescriptor, but: &[String]) -> Value {
        let mut properties = Map::new();
        for field in message
            .fields()
            .filter(|f| !but.iter().any(|name| name == f.name()))
        {
            let mut schema = self.field(&field);
            let text = comment(&message.parent_file(), field.path());
            if let (Some(schema), false) = (schema.as_object_mut(), text.is_empty()) {
                schema.insert("description".to_owned(), text.into());
            }
            properties.insert(field.name().to_owned(), schema);
        }
        json!({
            "type": "object",
            "description": comment(&message.parent_file(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let value = self.field(&entry.map_entry_value_field());
            return json!({"type": "object", "additionalProperties": value});
        }
        let mut one = match field.kind() {
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            // A number in JavaScript has 53 bits.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64"})
            }
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Message(message) => self.message(&message),
            Kind::Enum(kind) => self.enumeration(&kind),
        };
        if is_secret(field) {
            one["format"] = "password".into();
        }
        if field.is_list() {
            return json!({"type": "array", "items": one});
        }
        one
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> Value {
        let name = short(kind.full_name());
        if self.begun.insert(name.clone()) {
            let names: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
            let description = comment(&kind.parent_file(), kind.path());
            let schema = json!({"type": "string", "enum": names, "description": description});
            self.done.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}

/// Without the package.
fn short(name: &str) -> String {
    let mut parts = name
        .split('.')
        .skip_while(|part| !part.starts_with(|c: char| c.is_ascii_uppercase()));
    let first = parts.next().unwrap_or(name).to_owned();
    parts.fold(first, |name, part| name + "." + part)
}

/// What stands above a definition.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location =
        info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map_or("", |location| location.leading_comments());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}
