//! REST: HTTP and JSON translated to gRPC in the process, by what the methods' definitions say.
//!
//! A REST request becomes the gRPC request that it stands for and goes through the same service, access checks and audit included:
//! there is no second way in. Who may call is asked first, by the head alone; the body of one who may not is not read. JSON is protobuf's mapping, with the names of the fields as they are defined; a body may be the message
//! itself, and so may the answer. Rejected: handlers generated for the methods (tonic-rest), which call the service beside what guards it.

mod call;
mod error;
mod flaw;
mod input;
mod json;
mod media;
mod read;
mod shape;
mod wire;
mod write;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts as _, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use mc_proto::{Level, Method};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message as _};
use tonic::Status;

pub(crate) use self::error::{Error, code_name};

/// An answer of REST that refuses, for paths beside the definition: the same JSON.
#[must_use]
pub fn refusal(status: Status) -> Response {
    Error::from(status).into_response()
}

use self::{input::Input, media::Media, shape::Shape};
use super::{
    access::Access,
    api::MAX_PUBLIC_BODY,
    body::{self, Kind},
};

/// The REST paths of a package's methods, answered by `grpc`. `access`: what guards `grpc`, asked here before the request is read.
///
/// # Panics
/// If a method's message is not among the descriptors, which are made in one step with the methods, or has what none has (a map; a test asks them all).
pub(super) fn router(
    package: &str,
    pool: &DescriptorPool,
    grpc: &Router,
    access: Option<&Arc<Access>>,
) -> Router {
    let mut paths: HashMap<&str, (MethodRouter, Vec<&str>)> = HashMap::new();
    for method in mc_proto::METHODS.iter().filter(|m| m.package == package) {
        let Some(rest) = method.rest else { continue };
        let message = |name| {
            let message = pool.get_message_by_name(name).expect("made with it");
            let shape = Shape::of(&message).expect("no message has a map");
            (message, shape)
        };
        let (input, in_shape) = message(method.input);
        let (output, shape) = message(method.output);
        let call = Arc::new(Call {
            method,
            input: Input {
                rest,
                message: input,
                shape: in_shape,
            },
            output,
            shape,
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
    /// Of the output.
    shape: Arc<Shape>,
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
        let call = Arc::clone(&self);
        let run = async move |parts| {
            let answer = call.run(parts, body).await;
            answer.unwrap_or_else(Error::into_response)
        };
        match &self.access {
            Some(access) => access.guard(self.method, parts, refuse, run).await,
            None => run(parts).await,
        }
    }

    async fn run(&self, mut parts: Parts, mut body: Body) -> Result<Response, Error> {
        let bound = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|e| Error::invalid(e.body_text()))?;
        let bound: Vec<(&str, &str)> = bound.iter().collect();
        let as_it_is = media::wants_protobuf(&parts.headers);
        let query = parts.uri.query().unwrap_or_default();
        let message = if self.input.rest.body {
            if !query.is_empty() {
                return Err(Error::invalid(
                    "the query: this takes what is asked in the body alone; say it there",
                ));
            }
            let media = media::of_body(&parts.headers)?;
            if self.method.access.level == Level::Public {
                body = body::bounded(body, Kind::Plain, MAX_PUBLIC_BODY, None);
            }
            let body = axum::body::to_bytes(body, usize::MAX).await;
            let body = body.map_err(|e| Error::of_body(&e))?;
            let mut message = call::begin(body.len());
            match media {
                Media::Json => self.input.json(&body, &bound, &mut message)?,
                Media::Protobuf => self.input.protobuf(&body, &bound, &mut message)?,
            }
            message
        } else {
            let fields = self.input.query(query)?;
            let message = self.input.message(fields, bound)?.encode_to_vec();
            let mut to = call::begin(message.len());
            to.extend_from_slice(&message);
            to
        };
        let answer = call::unary(&self.grpc, self.method.path, parts, message).await?;
        if as_it_is {
            return Ok(([(header::CONTENT_TYPE, media::PROTOBUF)], answer).into_response());
        }
        let text = self.json(&answer);
        let text = text.ok_or_else(|| Status::internal("the answer cannot be written as JSON"))?;
        Ok(([(header::CONTENT_TYPE, media::JSON)], text).into_response())
    }

    /// An answer as JSON.
    fn json(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(answer.len() + answer.len() / 2);
        if write::object(&self.shape, answer, &mut text).is_ok() {
            return Some(text);
        }
        text.clear();
        let message = DynamicMessage::decode(self.output.clone(), answer).ok()?;
        let mut json = serde_json::Serializer::new(&mut text);
        (message.serialize_with_options(&mut json, &write::options())).ok()?;
        Some(text)
    }
}

/// By what browsers say (Fetch metadata): pages of others have no business here. A person may type the address.
fn from_another_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site != "same-origin" && site != "none")
}

#[cfg(test)]
mod tests;
