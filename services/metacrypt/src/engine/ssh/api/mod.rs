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
    ListSshCertificatesRequest, ListSshCertificatesResponse, ListSshProfilesRequest,
    ListSshProfilesResponse, ListSshRevocationsRequest, ListSshRevocationsResponse,
    PutSshProfileRequest, RevokeSshCertificateRequest, SignSshKeyRequest, SshCa, SshCertificate,
    SshProfile, SshRevocation, UseSshCaKeyRequest, ssh_server::Ssh,
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
    create_ssh_ca_key: CreateSshCaKeyRequest => SshCa = authorities::create_key,
    get_ssh_ca: GetSshCaRequest => SshCa = authorities::get,
    use_ssh_ca_key: UseSshCaKeyRequest => SshCa = authorities::use_key,
    delete_ssh_ca_key: DeleteSshCaKeyRequest => SshCa = authorities::delete_key,
    put_ssh_profile: PutSshProfileRequest => SshProfile = profiles::put,
    list_ssh_profiles: ListSshProfilesRequest => ListSshProfilesResponse = profiles::list,
    get_ssh_profile: GetSshProfileRequest => SshProfile = profiles::get,
    delete_ssh_profile: DeleteSshProfileRequest => DeleteSshProfileResponse = profiles::delete,
    sign_ssh_key: SignSshKeyRequest => SshCertificate = certificates::sign,
    list_ssh_certificates: ListSshCertificatesRequest => ListSshCertificatesResponse = certificates::list,
    get_ssh_certificate: GetSshCertificateRequest => SshCertificate = certificates::get,
    revoke_ssh_certificate: RevokeSshCertificateRequest => SshCertificate = certificates::revoke,
    create_ssh_revocation: CreateSshRevocationRequest => SshRevocation = revocations::create,
    list_ssh_revocations: ListSshRevocationsRequest => ListSshRevocationsResponse = revocations::list,
    delete_ssh_revocation: DeleteSshRevocationRequest => DeleteSshRevocationResponse = revocations::delete,
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
