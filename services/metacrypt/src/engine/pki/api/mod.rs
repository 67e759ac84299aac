//! The engine's methods.

pub(super) mod acme;
pub(super) mod certificates;
mod default;
mod inventory;
mod issuers;
mod message;
mod profiles;
#[cfg(test)]
mod tests;
mod urls;
pub(super) mod wanted;

use mc_proto::metacrypt::v1::{
    CreateIssuerRequest, CreateRootRequest, DeleteIssuerRequest, DeleteIssuerResponse,
    DeletePkiProfileRequest, DeletePkiProfileResponse, GetCertificateRequest, GetIssuerRequest,
    GetPkiProfileRequest, GetUrlsRequest, ImportIssuerRequest, IssueCertificateRequest,
    IssuedCertificate, ListCertificatesRequest, ListCertificatesResponse, ListIssuersRequest,
    ListIssuersResponse, ListPkiProfilesRequest, ListPkiProfilesResponse, PkiCertificate,
    PkiIssuer, PkiProfile, PkiUrls, PutPkiProfileRequest, RenewCertificateRequest,
    RevokeCertificateRequest, SetDefaultRequest, SetUrlsRequest, SignCsrRequest,
    UpdateIssuerRequest, pki_server::Pki,
};

use super::signed::Refusal;
use crate::engine::EngineError;

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

methods! {
    Pki:
    create_root: CreateRootRequest => PkiIssuer = issuers::create_root,
    create_issuer: CreateIssuerRequest => PkiIssuer = issuers::create_issuer,
    import_issuer: ImportIssuerRequest => PkiIssuer = issuers::import_issuer,
    list_issuers: ListIssuersRequest => ListIssuersResponse = issuers::list_issuers,
    get_issuer: GetIssuerRequest => PkiIssuer = issuers::get_issuer,
    set_default: SetDefaultRequest => PkiIssuer = default::set,
    update_issuer: UpdateIssuerRequest => PkiIssuer = issuers::update_issuer,
    delete_issuer: DeleteIssuerRequest => DeleteIssuerResponse = issuers::delete_issuer,
    set_urls: SetUrlsRequest => PkiUrls = urls::set,
    get_urls: GetUrlsRequest => PkiUrls = urls::get,
    put_profile: PutPkiProfileRequest => PkiProfile = profiles::put_profile,
    get_profile: GetPkiProfileRequest => PkiProfile = profiles::get_profile,
    list_profiles: ListPkiProfilesRequest => ListPkiProfilesResponse = profiles::list_profiles,
    delete_profile: DeletePkiProfileRequest => DeletePkiProfileResponse = profiles::delete_profile,
    issue: IssueCertificateRequest => IssuedCertificate = certificates::issue,
    sign: SignCsrRequest => IssuedCertificate = certificates::sign,
    renew: RenewCertificateRequest => IssuedCertificate = certificates::renew,
    revoke: RevokeCertificateRequest => PkiCertificate = certificates::revoke,
    get_certificate: GetCertificateRequest => PkiCertificate = certificates::get_certificate,
    list_certificates: ListCertificatesRequest => ListCertificatesResponse = inventory::list_certificates,
}
