//! Certificates: signed, found and revoked.

use std::sync::Arc;

use aws_lc_rs::rand;
use mc_proto::metacrypt::v1::{
    GetSshCertificateRequest, ListSshCertificatesRequest, ListSshCertificatesResponse,
    RevokeSshCertificateRequest, SignSshKeyRequest, SshCertificate,
};
use mcdsl::{audit::Detail, server::Caller};

use super::{
    super::{
        KIND, Memory, PROFILES, action, authority,
        certificate::{Certificate, NONCE, Stamp, issue},
        inventory, message, profile, published, revoked, seconds,
    },
    to_profile, when,
};
use crate::{
    api::Api,
    barrier::{Items, KeyError},
    engine::{Act, EngineError, Positions, limit},
    entered::Entered,
};

/// About how many microseconds of a processor one takes to be read, written, compared and signed.
const COST_US: usize = 200;
/// How often one is signed anew when the profile or the authority changed meanwhile.
const TRIES: usize = 3;

/// What is told of a certificate, revoked or not.
fn told(items: &Items<'_>, found: Certificate) -> Result<SshCertificate, EngineError> {
    let revoked = revoked::is_revoked(items, &found)?;
    Ok(message::certificate(found, revoked))
}

pub(super) async fn sign(
    api: &Api,
    caller: &Caller,
    asked: SignSshKeyRequest,
) -> Result<SshCertificate, EngineError> {
    let at = to_profile(api, caller, action::SIGN, &asked.mount, &asked.profile)?;
    let asked = Arc::new(asked);
    for _ in 1..TRIES {
        match try_sign(&at, &asked).await {
            Err(EngineError::Changed) => {}
            done => return done,
        }
    }
    try_sign(&at, &asked).await
}

/// Signs beside the threads of the database, and keeps it if all is as it was when that began: nothing is answered that is not kept.
async fn try_sign(
    at: &Arc<Entered>,
    asked: &Arc<SignSshKeyRequest>,
) -> Result<SshCertificate, EngineError> {
    let read = |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let by = profile(items, at.name())?;
        let authority = authority(items, by.kind)?;
        if authority.keys.is_empty() {
            return Err(EngineError::Precondition(format!(
                "the mount has no authority for this; make one (CreateCaKey of {:?})",
                by.kind.name()
            )));
        }
        Ok((by, authority, inventory::last(items)?))
    };
    let (by, authority, last) = at.read(read).await?;
    let now_s = seconds(at.now());
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce).map_err(|_| KeyError::Random)?;
    let stamp = Stamp {
        serial: Memory::of(at.mount())?.serials.take(last, now_s),
        nonce,
        now_s,
    };
    let number = authority.signing;
    let (asked, signer) = (Arc::clone(asked), Arc::clone(at));
    let work = move || -> Result<_, EngineError> {
        let wanted = message::wanted(by.kind, &asked)?;
        let made = issue(signer.proof()?, &by, &wanted, &authority.signing()?, stamp)?;
        Ok((made, wanted.key, by))
    };
    let (made, key, by) = at.beside(COST_US, work).await?;
    let keep = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let signs = self::authority(items, by.kind)?.signing;
        if profile(items, at.name())? != by || signs != number {
            return Err(EngineError::Changed);
        }
        revoked::refuse(items, &made.account, &key)?;
        inventory::keep(items, &made)?;
        let detail = Detail::new()
            .text("serial", &made.serial.to_string())
            .text("key", &made.fingerprint)
            .list("principals", made.principals.iter().map(String::as_str));
        Ok((message::certificate(made, false), detail))
    };
    at.record_with(keep).await
}

pub(super) async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListSshCertificatesRequest,
) -> Result<ListSshCertificatesResponse, EngineError> {
    let from_s = when("expires_from", asked.expires_from)?;
    let until_s = when("expires_before", asked.expires_before)?;
    let filter = [
        &*asked.profile,
        &*asked.key_id,
        &format!("{from_s:?}"),
        &format!("{until_s:?}"),
    ];
    let positions = Positions::of(caller, &asked.mount, "certificates", &filter)?;
    let now_s = seconds(api.0.seal.clock().now());
    let first = inventory::from(from_s.unwrap_or(now_s));
    let after = positions.open(&asked.after)?.max(first);
    let limit = limit(asked.limit);
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, PROFILES)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let is = |asked: &str, name: &str| asked.is_empty() || asked == name;
        let may = |profile: &str| is(&asked.profile, profile) && may(profile);
        let wanted = |found: &Certificate| is(&asked.key_id, found.account.as_str());
        let until_s = until_s.unwrap_or(u64::MAX);
        let (found, next) = inventory::list(items, &after, until_s, limit, &may, &wanted)?;
        let found = found.into_iter().map(|found| told(items, found));
        Ok((found.collect::<Result<_, EngineError>>()?, next))
    };
    let (certificates, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListSshCertificatesResponse { certificates, next })
}

/// Lets a caller in to a certificate, by the profile that it was signed by.
async fn enter(
    api: &Api,
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
    let visit = api.0.visit(caller, &KIND, mount)?;
    let asked = ["certificates", &serial.to_string()];
    visit
        .find(action, "certificate", &asked, &[PROFILES], find)
        .await
}

pub(super) async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetSshCertificateRequest,
) -> Result<SshCertificate, EngineError> {
    let action = action::READ;
    let (at, found) = enter(api, caller, action, &asked.mount, asked.serial).await?;
    let found = at.read(move |items, _| told(items, found)).await?;
    at.done(Detail::new()).await?;
    Ok(found)
}

pub(super) async fn revoke(
    api: &Api,
    caller: &Caller,
    asked: RevokeSshCertificateRequest,
) -> Result<SshCertificate, EngineError> {
    let action = action::REVOKE;
    let (at, found) = enter(api, caller, action, &asked.mount, asked.serial).await?;
    let now_s = seconds(at.now());
    let revoke = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        revoked::revoke(items, &found, now_s)?;
        Ok(message::certificate(found, true))
    };
    at.change(Detail::new(), revoke, published).await?
}
