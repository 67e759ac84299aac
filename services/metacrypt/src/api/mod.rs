//! The API: what is asked, in terms of what the service does. Who may ask is decided before.

pub(crate) mod audit;
mod seal;
mod system;

use std::sync::Arc;

use mc_proto::metacrypt::v1::{
    audit_log_server::AuditLogServer, sealing_server::SealingServer, system_server::SystemServer,
};
use tonic::service::Routes;

use crate::{core::Metacrypt, engine::KINDS};

/// The implementation of all methods.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<Metacrypt>);

/// The methods of all services.
pub(crate) fn routes(api: &Api) -> Routes {
    let routes = Routes::new(SealingServer::new(api.clone()));
    let routes = routes
        .add_service(SystemServer::new(api.clone()))
        .add_service(AuditLogServer::new(api.clone()));
    KINDS
        .iter()
        .fold(routes, |routes, kind| (kind.routes)(routes, api))
}
