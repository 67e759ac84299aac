//! The engine's methods.

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::rand;
use mc_proto::metacrypt::v1::{
    CreateSshCaKeyRequest, CreateSshRevocationRequest, DeleteSshCaKeyRequest,
    DeleteSshProfileRequest, DeleteSshProfileResponse, DeleteSshRevocationRequest,
    DeleteSshRevocationResponse, GetSshCaRequest, GetSshCertificateRequest, GetSshProfileRequest,
    ListSshCertificatesRequest, ListSshCertificatesResponse, ListSshProfilesRequest,
    ListSshProfilesResponse, ListSshRevocationsRequest, ListSshRevocationsResponse,
    PutSshProfileRequest, RevokeSshCertificateRequest, SignSshKeyRequest, SshCa, SshCertificate,
    SshProfile, SshRevocation, UseSshCaKeyRequest, ssh_server::Ssh,
};
use mcdsl::{audit::Detail, server::Caller};
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, async_trait};

use super::{
    KIND, PROFILES, action, authority,
    authority::{Authority, Kind as Of},
    authority_path,
    certificate::{Certificate, NONCE, Stamp, issue},
    inventory::{self, Place},
    message, profile,
    profile::Profile,
    profile_path, published,
    revoked::{self, Revocation},
    seconds,
};
use crate::{
    api::Api,
    barrier::{Items, KeyError},
    engine::{Act, EngineError},
    entered::Entered,
};

/// Most entries of an answer.
const PAGE: usize = 100;
/// Where revocations of a whole are judged.
const REVOCATIONS: &str = "revocations";

fn limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(limit @ 1..PAGE) => limit,
        _ => PAGE,
    }
}

/// A time that a client sent, in seconds.
fn when(field: &str, sent: Option<impl TryInto<SystemTime>>) -> Result<Option<u64>, EngineError> {
    let second = |sent: SystemTime| seconds(sent);
    let wrong = |_| EngineError::field(field, "no time");
    let time = sent.map(|sent| sent.try_into().map_err(|_| ()));
    time.transpose().map(|time| time.map(second)).map_err(wrong)
}

/// What is told of a certificate, revoked or not.
fn told(items: &Items<'_>, found: Certificate) -> Result<SshCertificate, EngineError> {
    let revoked = revoked::is_revoked(items, &found)?;
    Ok(message::certificate(found, revoked))
}

impl Api {
    /// Lets a caller in to an authority.
    fn authority(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
        ca: &str,
    ) -> Result<(Arc<Entered>, Of), EngineError> {
        let of = Of::named(ca)?;
        let on = ["ca", of.name()];
        Ok((self.0.enter(caller, &KIND, action, mount, &on)?, of))
    }

    /// Lets a caller in to a profile.
    fn profile(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
        name: &str,
    ) -> Result<Arc<Entered>, EngineError> {
        let on = [PROFILES, name];
        self.0.enter(caller, &KIND, action, mount, &on)
    }

    /// Lets a caller in to a certificate, by the profile that it was signed by.
    async fn certificate(
        &self,
        caller: &Caller,
        action: Act,
        mount: &str,
        serial: u64,
    ) -> Result<(Arc<Entered>, Certificate), EngineError> {
        let find = move |items: &Items<'_>| {
            let found = inventory::find(items, serial)?;
            Ok(found.map(|found| {
                let judged = vec![PROFILES.to_owned(), found.profile.to_string()];
                (found, judged)
            }))
        };
        let visit = self.0.visit(caller, &KIND, mount)?;
        let asked = ["certificates", &serial.to_string()];
        visit
            .find(action, "certificate", &asked, &[PROFILES], find)
            .await
    }

    /// Changes an authority, and answers as it then is.
    async fn change_authority(
        &self,
        at: &Arc<Entered>,
        of: Of,
        detail: Detail,
        change: impl FnOnce(&mut Authority) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<Response<SshCa>, Status> {
        let now_s = seconds(self.0.seal.clock().now());
        let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let mut found = authority(items, of)?;
            change(&mut found)?;
            items.put(&authority_path(of), &found)?;
            // The list names the keys whose certificates it is about.
            revoked::touch(items, now_s)?;
            message::ca(of, &found)
        };
        Ok(Response::new(at.change(detail, change, published).await??))
    }
}

#[async_trait]
impl Ssh for Api {
    async fn create_ssh_ca_key(
        &self,
        request: Request<CreateSshCaKeyRequest>,
    ) -> Result<Response<SshCa>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, of) = self.authority(&caller, action::MANAGE_CA, &asked.mount, &asked.ca)?;
        let algorithm = message::algorithm_of(asked.algorithm)?;
        let now = self.0.seal.clock().now();
        let detail = Detail::new().text("algorithm", algorithm.name());
        let add = move |authority: &mut Authority| authority.add(algorithm, now);
        self.change_authority(&at, of, detail, add).await
    }

    async fn get_ssh_ca(
        &self,
        request: Request<GetSshCaRequest>,
    ) -> Result<Response<SshCa>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, of) = self.authority(&caller, action::READ_CA, &asked.mount, &asked.ca)?;
        let read = move |items: &Items<'_>, _: &Entered| message::ca(of, &authority(items, of)?);
        let ca = at.read(read).await?;
        at.done(Detail::new()).await?;
        Ok(Response::new(ca))
    }

    async fn use_ssh_ca_key(
        &self,
        request: Request<UseSshCaKeyRequest>,
    ) -> Result<Response<SshCa>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, of) = self.authority(&caller, action::MANAGE_CA, &asked.mount, &asked.ca)?;
        let detail = Detail::new().number("key", asked.number.into());
        let change = move |authority: &mut Authority| authority.use_key(asked.number);
        self.change_authority(&at, of, detail, change).await
    }

    async fn delete_ssh_ca_key(
        &self,
        request: Request<DeleteSshCaKeyRequest>,
    ) -> Result<Response<SshCa>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let (at, of) = self.authority(&caller, action::MANAGE_CA, &asked.mount, &asked.ca)?;
        let detail = Detail::new().number("key", asked.number.into());
        let change = move |authority: &mut Authority| authority.remove(asked.number);
        self.change_authority(&at, of, detail, change).await
    }

    async fn put_ssh_profile(
        &self,
        request: Request<PutSshProfileRequest>,
    ) -> Result<Response<SshProfile>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.profile(&caller, action::WRITE_PROFILE, &asked.mount, &asked.name)?;
        let sent = asked.profile.unwrap_or_default();
        let made = message::profile_of(at.name(), sent)?;
        let answer = message::profile(&made);
        let put = move |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
            Ok(items.put(&profile_path(at.name()), &made)?)
        };
        at.record(Detail::new(), put).await?;
        Ok(Response::new(answer))
    }

    async fn list_ssh_profiles(
        &self,
        request: Request<ListSshProfilesRequest>,
    ) -> Result<Response<ListSshProfilesResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let list = self
            .0
            .list(&caller, &KIND, action::READ_PROFILE, &asked.mount, PROFILES)?;
        let page = Page {
            place: "profiles/",
            after: asked.after,
            limit: limit(asked.limit),
        };
        let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
            page.read(items, may, |_, found: Profile| message::profile(&found))
        };
        let (profiles, next) = list.read(read).await?;
        Ok(Response::new(ListSshProfilesResponse { profiles, next }))
    }

    async fn get_ssh_profile(
        &self,
        request: Request<GetSshProfileRequest>,
    ) -> Result<Response<SshProfile>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.profile(&caller, action::READ_PROFILE, &asked.mount, &asked.name)?;
        let read = |items: &Items<'_>, at: &Entered| profile(items, at.name());
        let found = at.read(read).await?;
        at.done(Detail::new()).await?;
        Ok(Response::new(message::profile(&found)))
    }

    async fn delete_ssh_profile(
        &self,
        request: Request<DeleteSshProfileRequest>,
    ) -> Result<Response<DeleteSshProfileResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.profile(&caller, action::WRITE_PROFILE, &asked.mount, &asked.name)?;
        let delete = |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
            let there_was = items.delete(&profile_path(at.name()))?;
            let none = || EngineError::NotFound("profile", at.name().to_owned());
            there_was.then_some(()).ok_or_else(none)
        };
        at.record(Detail::new(), delete).await?;
        Ok(Response::new(DeleteSshProfileResponse {}))
    }

    async fn sign_ssh_key(
        &self,
        request: Request<SignSshKeyRequest>,
    ) -> Result<Response<SshCertificate>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let at = self.profile(&caller, action::SIGN, &asked.mount, &asked.profile)?;
        let now_s = seconds(self.0.seal.clock().now());
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| EngineError::from(KeyError::Random))?;
        let sign = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
            let profile = profile(items, at.name())?;
            let wanted = message::wanted(profile.kind, &asked)?;
            let allowed = at.proof()?;
            revoked::refuse(items, &allowed.subject().name, &wanted.key)?;
            let authority = authority(items, profile.kind)?;
            if authority.keys.is_empty() {
                return Err(EngineError::Precondition(format!(
                    "the mount has no authority for this; make one (CreateSshCaKey of {:?})",
                    profile.kind.name()
                )));
            }
            let stamp = Stamp {
                serial: inventory::serial(items, now_s)?,
                nonce,
                now_s,
            };
            let made = issue(allowed, &profile, &wanted, &authority.signing()?, stamp)?;
            inventory::keep(items, &made)?;
            let detail = Detail::new().text("serial", &made.serial.to_string());
            let detail = detail.text("key", &made.fingerprint);
            let principals = made.principals.iter().map(String::as_str);
            let detail = detail.list("principals", principals);
            Ok((message::certificate(made, false), detail))
        };
        let made = at.record_with(sign).await?;
        Ok(Response::new(made))
    }

    async fn list_ssh_certificates(
        &self,
        request: Request<ListSshCertificatesRequest>,
    ) -> Result<Response<ListSshCertificatesResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let list = self.0.list(
            &caller,
            &KIND,
            action::READ_CERTIFICATE,
            &asked.mount,
            PROFILES,
        )?;
        let now_s = seconds(self.0.seal.clock().now());
        let from_s = when("expires_from", asked.expires_from)?.unwrap_or(now_s);
        let until_s = when("expires_before", asked.expires_before)?.unwrap_or(u64::MAX);
        let first = Place {
            valid_before_s: from_s,
            serial: 0,
        };
        let after = match &*asked.after {
            "" => first,
            after => after.parse::<Place>()?.max(first),
        };
        let limit = limit(asked.limit);
        let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
            let wanted = |found: &Certificate| {
                let is = |asked: &str, name: &str| asked.is_empty() || asked == name;
                is(&asked.profile, found.profile.as_str())
                    && is(&asked.key_id, found.account.as_str())
                    && may(found.profile.as_str())
            };
            let (found, next) = inventory::list(items, after, until_s, limit, &wanted)?;
            let found = found.into_iter().map(|found| told(items, found));
            Ok((found.collect::<Result<_, EngineError>>()?, next))
        };
        let (certificates, next) = list.read(read).await?;
        let next = next.map(|next| next.to_string()).unwrap_or_default();
        Ok(Response::new(ListSshCertificatesResponse {
            certificates,
            next,
        }))
    }

    async fn get_ssh_certificate(
        &self,
        request: Request<GetSshCertificateRequest>,
    ) -> Result<Response<SshCertificate>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let find = self.certificate(
            &caller,
            action::READ_CERTIFICATE,
            &asked.mount,
            asked.serial,
        );
        let (at, found) = find.await?;
        let read = move |items: &Items<'_>, _: &Entered| told(items, found);
        let found = at.read(read).await?;
        at.done(Detail::new()).await?;
        Ok(Response::new(found))
    }

    async fn revoke_ssh_certificate(
        &self,
        request: Request<RevokeSshCertificateRequest>,
    ) -> Result<Response<SshCertificate>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let find = self.certificate(
            &caller,
            action::REVOKE_CERTIFICATE,
            &asked.mount,
            asked.serial,
        );
        let (at, found) = find.await?;
        let now_s = seconds(self.0.seal.clock().now());
        let revoke = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            revoked::revoke(items, &found, now_s)?;
            Ok(message::certificate(found, true))
        };
        let done = at.change(Detail::new(), revoke, published).await??;
        Ok(Response::new(done))
    }

    async fn create_ssh_revocation(
        &self,
        request: Request<CreateSshRevocationRequest>,
    ) -> Result<Response<SshRevocation>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let mount = asked.mount.clone();
        let what = message::whole_of(asked)?;
        let on = [REVOCATIONS, &what.id()?];
        let at = self
            .0
            .enter(&caller, &KIND, action::WRITE_REVOCATION, &mount, &on)?;
        let now_s = seconds(self.0.seal.clock().now());
        let add = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let id = revoked::add(items, what.clone(), now_s)?;
            let revocation = Revocation {
                what,
                revoked_s: now_s,
            };
            Ok(message::revocation(&id, revocation))
        };
        let done = at.change(Detail::new(), add, published).await??;
        Ok(Response::new(done))
    }

    async fn list_ssh_revocations(
        &self,
        request: Request<ListSshRevocationsRequest>,
    ) -> Result<Response<ListSshRevocationsResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let list = self.0.list(
            &caller,
            &KIND,
            action::READ_REVOCATION,
            &asked.mount,
            REVOCATIONS,
        )?;
        let page = Page {
            place: revoked::WHOLE,
            after: asked.after,
            limit: limit(asked.limit),
        };
        let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
            page.read(items, may, message::revocation)
        };
        let (revocations, next) = list.read(read).await?;
        Ok(Response::new(ListSshRevocationsResponse {
            revocations,
            next,
        }))
    }

    async fn delete_ssh_revocation(
        &self,
        request: Request<DeleteSshRevocationRequest>,
    ) -> Result<Response<DeleteSshRevocationResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let on = [REVOCATIONS, &asked.id];
        let at = self
            .0
            .enter(&caller, &KIND, action::WRITE_REVOCATION, &asked.mount, &on)?;
        let now_s = seconds(self.0.seal.clock().now());
        let lift = move |items: &Items<'_>, at: &Entered| revoked::lift(items, at.name(), now_s);
        at.change(Detail::new(), lift, published).await??;
        Ok(Response::new(DeleteSshRevocationResponse {}))
    }
}

/// A part of a list by names.
struct Page {
    place: &'static str,
    after: String,
    limit: usize,
}

impl Page {
    /// Those that may be read, and the last one's name if there are more.
    fn read<S: DeserializeOwned, T>(
        &self,
        items: &Items<'_>,
        may: &dyn Fn(&str) -> bool,
        told: impl Fn(&str, S) -> T,
    ) -> Result<(Vec<T>, String), EngineError> {
        let (mut found, mut newest) = (Vec::new(), String::new());
        let mut after = format!("{}{}", self.place, self.after);
        loop {
            let page = items.list::<S>(self.place, &after, PAGE)?;
            let last = page.len() < PAGE;
            for (path, one) in page {
                let name = path.strip_prefix(self.place).unwrap_or(&path);
                if may(name) {
                    if found.len() == self.limit {
                        return Ok((found, newest));
                    }
                    found.push(told(name, one));
                    newest = name.to_owned();
                }
                after = path;
            }
            if last {
                return Ok((found, String::new()));
            }
        }
    }
}
