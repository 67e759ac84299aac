//! The API: what is asked, in terms of what the service does. Who may ask is decided before.

mod seal;

use std::sync::Arc;

use mc_proto::metacrypt::v1::sealing_server::SealingServer;
use tonic::service::Routes;

use crate::core::Metacrypt;

/// The implementation of all methods.
#[derive(Clone)]
struct Api(Arc<Metacrypt>);

/// The methods of all services.
pub(crate) fn routes(metacrypt: &Arc<Metacrypt>) -> Routes {
    let api = Api(Arc::clone(metacrypt));
    Routes::new(SealingServer::new(api))
}
