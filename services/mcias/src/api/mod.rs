//! The API: what is asked, in terms of what the service does. Who may ask is decided before.

mod accounts;
mod admin;
mod auth;
mod profile;

use std::{future::Future, sync::Arc};

use mc_proto::mcias::v1::{
    accounts_server::AccountsServer, administration_server::AdministrationServer,
    auth_server::AuthServer, profile_server::ProfileServer,
};
use mcdsl::server::Caller;
use tonic::{Request, Response, Status, service::Routes};

use crate::{core::Mcias, error::Error};

/// Rows of a page, if nothing is said.
const PAGE: usize = 100;
/// Rows of a page at most.
const MAX_PAGE: usize = 1000;

/// The implementation of all methods.
#[derive(Clone)]
struct Api(Arc<Mcias>);

/// The methods of all services.
pub(crate) fn routes(mcias: &Arc<Mcias>) -> Routes {
    let api = Api(Arc::clone(mcias));
    Routes::new(AuthServer::new(api.clone()))
        .add_service(AccountsServer::new(api.clone()))
        .add_service(ProfileServer::new(api.clone()))
        .add_service(AdministrationServer::new(api))
}

impl Api {
    /// One call: who asks and what for.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        answer: impl FnOnce(Arc<Mcias>, Caller, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Error>>,
    {
        let caller = Caller::of(&request)?;
        let answered = answer(Arc::clone(&self.0), caller, request.into_inner()).await;
        Ok(Response::new(answered?))
    }
}

/// Rows of a page that were asked for.
fn page(limit: u32) -> usize {
    match usize::try_from(limit) {
        Ok(0) => PAGE,
        Ok(limit) => limit.min(MAX_PAGE),
        Err(_) => MAX_PAGE,
    }
}
