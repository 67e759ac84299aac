//! The engine's methods.

mod authorities;
mod certificates;
mod profiles;
mod revocations;

use std::{sync::Arc, time::SystemTime};

use mc_proto::metacrypt::v1::{
    CreateSshCaKeyRequest, CreateSshRevocationRequest, DeleteSshCaKeyRequest,
    DeleteSshProfileRequest, DeleteSshProfileResponse, DeleteSshRevocationRequest,
    DeleteSshRevocationResponse, GetSshCaRequest, GetSshCertificateRequest, GetSshProfileRequest,
    ListSshCasRequest, ListSshCasResponse, ListSshCertificatesRequest, ListSshCertificatesResponse,
    ListSshProfilesRequest, ListSshProfilesResponse, ListSshRevocationsRequest,
    ListSshRevocationsResponse, PutSshProfileRequest, RevokeSshCertificateRequest,
    SignSshKeyRequest, SshCa, SshCertificate, SshProfile, SshRevocation, UseSshCaKeyRequest,
    ssh_server::Ssh,
};
use mcdsl::server::Caller;

use super::{KIND, PROFILES, seconds};
use crate::{
    api::Api,
    engine::{Act, EngineError},
    entered::Entered,
};

methods! {
    Ssh:
    create_ca_key: CreateSshCaKeyRequest => SshCa = authorities::create_key,
    get_ca: GetSshCaRequest => SshCa = authorities::get,
    list_cas: ListSshCasRequest => ListSshCasResponse = authorities::list,
    use_ca_key: UseSshCaKeyRequest => SshCa = authorities::use_key,
    delete_ca_key: DeleteSshCaKeyRequest => SshCa = authorities::delete_key,
    put_profile: PutSshProfileRequest => SshProfile = profiles::put,
    list_profiles: ListSshProfilesRequest => ListSshProfilesResponse = profiles::list,
    get_profile: GetSshProfileRequest => SshProfile = profiles::get,
    delete_profile: DeleteSshProfileRequest => DeleteSshProfileResponse = profiles::delete,
    sign: SignSshKeyRequest => SshCertificate = certificates::sign,
    list_certificates: ListSshCertificatesRequest => ListSshCertificatesResponse = certificates::list,
    get_certificate: GetSshCertificateRequest => SshCertificate = certificates::get,
    revoke: RevokeSshCertificateRequest => SshCertificate = certificates::revoke,
    create_revocation: CreateSshRevocationRequest => SshRevocation = revocations::create,
    list_revocations: ListSshRevocationsRequest => ListSshRevocationsResponse = revocations::list,
    delete_revocation: DeleteSshRevocationRequest => DeleteSshRevocationResponse = revocations::delete,
}

/// A time that a client sent, in seconds.
fn when(field: &str, sent: Option<impl TryInto<SystemTime>>) -> Result<Option<u64>, EngineError> {
    let second = |sent: SystemTime| seconds(sent);
    let wrong = |_| EngineError::field(field, "no time");
    let time = sent.map(|sent| sent.try_into().map_err(|_| ()));
    time.transpose().map(|time| time.map(second)).map_err(wrong)
}

/// Lets a caller in to a profile.
fn to_profile(
    api: &Api,
    caller: &Caller,
    action: Act,
    mount: &str,
    name: &str,
) -> Result<Arc<Entered>, EngineError> {
    api.0.enter(caller, &KIND, action, mount, &[PROFILES, name])
}
