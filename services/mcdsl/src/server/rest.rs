//! REST: HTTP and JSON translated to gRPC in the process, by what the methods' definitions say.
//!
//! A REST request becomes the gRPC request that it stands for and goes through the same service, access checks and audit included:
//! there is no second way in. JSON is protobuf's mapping, with the names of the fields as they are defined. Rejected: handlers
//! generated for the methods (tonic-rest), which call the service beside what guards it.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest as _, FromRequestParts as _, RawPathParams, Request},
    http::{HeaderMap, HeaderName, StatusCode, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use mc_proto::Rest;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    SerializeOptions,
};
use serde_json::{Map, Value, json};
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

/// Fields of a request's head that mean the same to gRPC.
const PASSED_ON: [HeaderName; 2] = [header::AUTHORIZATION, header::USER_AGENT];

/// The REST paths of a package's methods, answered by `grpc`.
///
/// # Panics
/// If a method's message is not among the descriptors, which are made in one step with the methods.
pub(super) fn router(package: &str, pool: &DescriptorPool, grpc: &Router) -> Router {
    let mut paths: HashMap<&str, MethodRouter> = HashMap::new();
    for method in mc_proto::METHODS.iter().filter(|m| m.package == package) {
        let Some(rest) = method.rest else { continue };
        let message = |name| pool.get_message_by_name(name).expect("made with it");
        let call = Arc::new(Call {
            path: PathAndQuery::from_static(method.path),
            rest,
            input: message(method.input),
            output: message(method.output),
            grpc: grpc.clone(),
        });
        let filter = match rest.verb {
            "GET" => MethodFilter::GET,
            "PUT" => MethodFilter::PUT,
            "POST" => MethodFilter::POST,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::PATCH,
        };
        let handler = on(filter, move |request: Request| {
            let call = Arc::clone(&call);
            async move {
                call.answer(request)
                    .await
                    .unwrap_or_else(Error::into_response)
            }
        });
        let path = paths.entry(rest.path).or_default();
        *path = std::mem::take(path).merge(handler);
    }
    let mut router = Router::new();
    for (path, handlers) in paths {
        router = router.route(path, handlers);
    }
    router
}

/// A method as REST has it.
struct Call {
    path: PathAndQuery,
    rest: Rest,
    input: MessageDescriptor,
    output: MessageDescriptor,
    grpc: Router,
}

impl Call {
    async fn answer(&self, request: Request) -> Result<Response, Error> {
        let (mut parts, body) = request.into_parts();
        if from_another_site(&parts.headers) {
            return Err(Status::permission_denied("the request came from another site").into());
        }
        let bound = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|e| Error::invalid(e.body_text()))?;
        let mut fields = if self.rest.body {
            let request = Request::from_parts(parts.clone(), body);
            let body = Bytes::from_request(request, &()).await;
            let body = body.map_err(|e| Error::from_status(e.status(), e.body_text()))?;
            object(&parts.headers, &body)?
        } else {
            self.query(parts.uri.query().unwrap_or_default())?
        };
        for (name, text) in &bound {
            self.set(&mut fields, name.trim_start_matches('*'), text)?;
        }
        let message = self.message(fields)?;

        let mut metadata = HeaderMap::new();
        for name in PASSED_ON {
            // All there are: that there may be one alone is for others to say.
            for value in parts.headers.get_all(&name) {
                metadata.append(&name, value.clone());
            }
        }
        let metadata = MetadataMap::from_headers(metadata);
        let request = tonic::Request::from_parts(metadata, parts.extensions, message);
        let mut grpc = Grpc::new(self.grpc.clone());
        // A Router is always ready.
        grpc.ready()
            .await
            .map_err(|_| Status::internal("not ready"))?;
        let answer = grpc
            .unary(request, self.path.clone(), Dynamic(self.output.clone()))
            .await?;
        let options = SerializeOptions::new()
            .skip_default_fields(false)
            .use_proto_field_name(true);
        let mut text = Vec::new();
        let mut json = serde_json::Serializer::new(&mut text);
        (answer.get_ref().serialize_with_options(&mut json, &options))
            .map_err(|_| Status::internal("the answer cannot be written as JSON"))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
    }

    fn message(&self, fields: Map<String, Value>) -> Result<DynamicMessage, Error> {
        let parse = |fields: Map<String, Value>| {
            let options = DeserializeOptions::new().deny_unknown_fields(true);
            DynamicMessage::deserialize_with_options(
                self.input.clone(),
                Value::Object(fields),
                &options,
            )
        };
        let all = match parse(fields.clone()) {
            Ok(message) => return Ok(message),
            Err(all) => all,
        };
        // Which it is, the error does not always say: the first that is wrong alone.
        let alone = |(name, value): (String, Value)| {
            let error = parse(Map::from_iter([(name.clone(), value)])).err()?;
            Some(Error::invalid(format!("{name}: {error}")))
        };
        Err(fields
            .into_iter()
            .find_map(alone)
            .unwrap_or_else(|| Error::invalid(all.to_string())))
    }

    fn query(&self, query: &str) -> Result<Map<String, Value>, Error> {
        let mut fields = Map::new();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            if self.rest.bound.iter().any(|bound| *bound == name) {
                return Err(Error::invalid(format!("{name} is in the path")));
            }
            self.set(&mut fields, &name, &text)?;
        }
        Ok(fields)
    }

    /// Enters what the path or the query says as JSON would say it.
    fn set(&self, fields: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), Error> {
        let unknown = || Error::invalid(format!("there is no {name:?} in the request"));
        let (fields, name, field) = match name.split_once('.') {
            None => (fields, name, self.input.get_field_by_name(name)),
            Some((outer, inner)) => {
                let outside = self.input.get_field_by_name(outer).ok_or_else(unknown)?;
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
            return Err(Error::invalid(format!("{name} is said twice")));
        }
        Ok(())
    }
}

/// By what browsers say (Fetch metadata): pages of others have no business here. A person may type the address.
fn from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

/// Protobuf's JSON takes a text for anything but these.
fn value(field: &FieldDescriptor, text: &str) -> Value {
    match (field.kind(), text) {
        (Kind::Bool, "true") => Value::Bool(true),
        (Kind::Bool, "false") => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    }
}

fn object(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Error> {
    // What a form of another site may send without asking is no JSON.
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let text = "the body's Content-Type must be application/json";
        return Err(Error::from_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::invalid("the body is JSON, but not an object")),
        Err(e) => Err(Error::invalid(format!("the body is not JSON: {e}"))),
    }
}

/// A gRPC status as HTTP and JSON.
pub(crate) struct Error {
    http: StatusCode,
    status: Status,
}

impl Error {
    fn invalid(message: impl Into<String>) -> Self {
        Status::invalid_argument(message).into()
    }

    /// There is nothing at that path.
    pub(super) fn not_found(path: &str) -> Self {
        Status::not_found(format!("there is nothing at {path}")).into()
    }

    /// The path is for other methods.
    pub(super) fn method_not_allowed() -> Self {
        Self {
            http: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::unimplemented("the path is not for this method"),
        }
    }

    /// A panic.
    pub(super) fn internal() -> Self {
        Status::internal("an internal error; see the service's log").into()
    }

    fn from_status(http: StatusCode, message: impl Into<String>) -> Self {
        let status = match http {
            StatusCode::PAYLOAD_TOO_LARGE => Status::resource_exhausted(message),
            _ => Status::invalid_argument(message),
        };
        Self { http, status }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(status.code()),
            status,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = json!({
            "code": self.http.as_u16(),
            "status": code_name(self.status.code()),
            "message": self.status.message(),
        });
        let text = body.to_string();
        let mut response = (
            self.http,
            [(header::CONTENT_TYPE, "application/json")],
            text,
        )
            .into_response();
        if self.http == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.status.metadata().get(header::RETRY_AFTER.as_str())
            && let Ok(wait) = header::HeaderValue::from_bytes(wait.as_bytes())
        {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

/// As `google/rpc/code.proto` maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code as protobuf writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Messages of which only the descriptor is known. It is the answer's.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(to)
            .map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), from)
            .map(Some)
            .map_err(|e| Status::internal(e.to_string()))
    }
}
