//! The engine's methods.

pub(super) mod acme;
pub(super) mod certificates;
mod inventory;
mod issuers;
mod message;
mod profiles;
#[cfg(test)]
mod tests;
pub(super) mod wanted;

use mc_proto::metacrypt::v1::{
    CreateIssuerRequest, CreateRootRequest, DeleteIssuerRequest, DeleteIssuerResponse,
    DeletePkiProfileRequest, DeletePkiProfileResponse, GetCertificateRequest, GetIssuerRequest,
    GetPkiProfileRequest, GetUrlsRequest, ImportIssuerRequest, IssueCertificateRequest,
    IssuedCertificate, ListCertificatesRequest, ListCertificatesResponse, ListIssuersRequest,
    ListIssuersResponse, ListPkiProfilesRequest, ListPkiProfilesResponse, PkiCertificate,
    PkiIssuer, PkiProfile, PkiUrls, PutPkiProfileRequest, RenewCertificateRequest,
    RevokeCertificateRequest, SetUrlsRequest, SignCsrRequest, UpdateIssuerRequest, pki_server::Pki,
};
use mcdsl::server::Caller;
use tonic::{Request, Response, Status, async_trait};

use super::signed::Refusal;
use crate::{api::Api, engine::EngineError};

/// Most entries of an answer.
const PAGE: usize = 100;

/// How many are asked for.
fn limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(limit @ 1..PAGE) => limit,
        _ => PAGE,
    }
}

/// Of names in their order those behind `after` that may be read, at most so many; and the last of them, if there are more.
fn page(
    names: Vec<String>,
    may: &dyn Fn(&str) -> bool,
    after: &str,
    limit: usize,
) -> (Vec<String>, String) {
    let behind = names.into_iter().filter(|name| **name > *after);
    let mut these: Vec<_> = behind.filter(|name| may(name)).take(limit + 1).collect();
    if these.len() <= limit {
        return (these, String::new());
    }
    these.truncate(limit);
    let next = these.last().cloned().unwrap_or_default();
    (these, next)
}

type Answer<T> = Result<Response<T>, Status>;

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Request(field, why) => Self::field(field, why),
            Refusal::Precondition(why) => Self::Precondition(why),
            Refusal::Flaw(_) => Self::Unsound(refusal.to_string()),
            Refusal::Key(error) => error.into(),
        }
    }
}

impl From<x509_cert::der::Error> for EngineError {
    fn from(error: x509_cert::der::Error) -> Self {
        Refusal::from(error).into()
    }
}

/// The methods, each of which is a function of the same name in one of the modules.
macro_rules! methods {
    ($($module:ident::$name:ident: $request:ty => $response:ty,)+) => {
        #[async_trait]
        impl Pki for Api {
            $(async fn $name(&self, request: Request<$request>) -> Answer<$response> {
                let caller = Caller::of(&request)?;
                let answer = $module::$name(self, &caller, request.into_inner()).await;
                Ok(Response::new(answer?))
            })+
        }
    };
}

methods! {
    issuers::create_root: CreateRootRequest => PkiIssuer,
    issuers::create_issuer: CreateIssuerRequest => PkiIssuer,
    issuers::import_issuer: ImportIssuerRequest => PkiIssuer,
    issuers::list_issuers: ListIssuersRequest => ListIssuersResponse,
    issuers::get_issuer: GetIssuerRequest => PkiIssuer,
    issuers::update_issuer: UpdateIssuerRequest => PkiIssuer,
    issuers::delete_issuer: DeleteIssuerRequest => DeleteIssuerResponse,
    issuers::set_urls: SetUrlsRequest => PkiUrls,
    issuers::get_urls: GetUrlsRequest => PkiUrls,
    profiles::put_profile: PutPkiProfileRequest => PkiProfile,
    profiles::get_profile: GetPkiProfileRequest => PkiProfile,
    profiles::list_profiles: ListPkiProfilesRequest => ListPkiProfilesResponse,
    profiles::delete_profile: DeletePkiProfileRequest => DeletePkiProfileResponse,
    certificates::issue: IssueCertificateRequest => IssuedCertificate,
    certificates::sign: SignCsrRequest => IssuedCertificate,
    certificates::renew: RenewCertificateRequest => IssuedCertificate,
    certificates::revoke: RevokeCertificateRequest => PkiCertificate,
    certificates::get_certificate: GetCertificateRequest => PkiCertificate,
    inventory::list_certificates: ListCertificatesRequest => ListCertificatesResponse,
}
