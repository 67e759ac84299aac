//! REST: HTTP and JSON translated to gRPC in the process, by what the methods' definitions say.
//!
//! A REST request becomes the gRPC request that it stands for and goes through the same service, access checks and audit included:
//! there is no second way in. Who may call is asked first, by the head alone; the body of one who may not is not read. JSON is protobuf's mapping, with the names of the fields as they are defined. Rejected: handlers
//! generated for the methods (tonic-rest), which call the service beside what guards it.

mod codec;
mod error;
mod flaw;
mod input;
mod json;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts as _, RawPathParams, Request},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use mc_proto::{Level, Method};
use prost_reflect::{DescriptorPool, MessageDescriptor, SerializeOptions};
use tonic::{Status, client::Grpc, metadata::MetadataMap};

pub(crate) use self::error::{Error, code_name};
use self::{codec::Dynamic, input::Input, json::object};
use super::{
    access::Access,
    api::MAX_PUBLIC_BODY,
    body::{self, Kind},
    linger::Unread,
};

/// Fields of a request's head that mean the same to gRPC.
const PASSED_ON: [HeaderName; 2] = [header::AUTHORIZATION, header::USER_AGENT];

/// The REST paths of a package's methods, answered by `grpc`. `access`: what guards `grpc`, asked here before the request is read.
///
/// # Panics
/// If a method's message is not among the descriptors, which are made in one step with the methods.
pub(super) fn router(
    package: &str,
    pool: &DescriptorPool,
    grpc: &Router,
    access: Option<&Arc<Access>>,
) -> Router {
    let mut paths: HashMap<&str, (MethodRouter, Vec<&str>)> = HashMap::new();
    for method in mc_proto::METHODS.iter().filter(|m| m.package == package) {
        let Some(rest) = method.rest else { continue };
        let message = |name| pool.get_message_by_name(name).expect("made with it");
        let call = Arc::new(Call {
            method,
            input: Input {
                rest,
                message: message(method.input),
            },
            output: message(method.output),
            grpc: grpc.clone(),
            access: access.cloned(),
        });
        let filter = match rest.verb {
            "GET" => MethodFilter::GET,
            "PUT" => MethodFilter::PUT,
            "POST" => MethodFilter::POST,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::PATCH,
        };
        let handler = on(filter, move |request: Request| {
            Arc::clone(&call).answer(request)
        });
        let (path, verbs) = paths.entry(rest.path).or_default();
        *path = std::mem::take(path).merge(handler);
        verbs.push(rest.verb);
    }
    let mut router = Router::new();
    for (path, (handlers, verbs)) in paths {
        let others = async move || Error::method_not_allowed(&verbs);
        router = router.route(path, handlers.fallback(others));
    }
    router
}

/// A method as REST has it.
struct Call {
    method: &'static Method,
    input: Input,
    output: MessageDescriptor,
    grpc: Router,
    access: Option<Arc<Access>>,
}

impl Call {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        if from_another_site(&parts.headers) {
            let status = Status::permission_denied("the request came from another site");
            return Error::from(status).into_response();
        }
        let refuse = |status| Error::from(status).into_response();
        let unread = Unread::new(&parts, body);
        let (call, body) = (Arc::clone(&self), unread.clone());
        let run = async move |parts| {
            let answer = call.run(parts, &body).await;
            answer.unwrap_or_else(Error::into_response)
        };
        let answer = match &self.access {
            Some(access) => access.guard(self.method, parts, refuse, run).await,
            None => run(parts).await,
        };
        unread.answered(answer)
    }

    async fn run(&self, mut parts: Parts, body: &Unread) -> Result<Response, Error> {
        let bound = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|e| Error::invalid(e.body_text()))?;
        let fields = if self.input.rest.body {
            check_type(&parts.headers)?;
            let mut all = body.take();
            if self.method.access.level == Level::Public {
                all = body::bounded(all, Kind::Plain, MAX_PUBLIC_BODY, None);
            }
            let body = axum::body::to_bytes(all, usize::MAX).await;
            object(&body.map_err(|e| Error::of_body(&e))?)?
        } else {
            self.input.query(parts.uri.query().unwrap_or_default())?
        };
        let message = self.input.message(fields, &bound)?;

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
            .unary(
                request,
                PathAndQuery::from_static(self.method.path),
                Dynamic(self.output.clone()),
            )
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
}

/// By what browsers say (Fetch metadata): pages of others have no business here. A person may type the address.
fn from_another_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site != "same-origin" && site != "none")
}

/// # Errors
/// If it is not JSON. What a form of another site may send without asking is none.
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let text = "the body's Content-Type must be application/json";
    Err(Error::from_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

#[cfg(test)]
mod tests;
