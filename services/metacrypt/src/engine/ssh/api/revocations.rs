//! What is revoked as a whole: key ids and public keys.

use mc_proto::metacrypt::v1::{
    CreateSshRevocationRequest, DeleteSshRevocationRequest, DeleteSshRevocationResponse,
    ListSshRevocationsRequest, ListSshRevocationsResponse, SshRevocation,
};
use mcdsl::{audit::Detail, server::Caller};

use super::super::{
    KIND, action, inventory, message, published,
    revoked::{self, Revocation, Whole},
    seconds,
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, Page, Positions, limit},
    entered::Entered,
};

/// Where they are judged.
const REVOCATIONS: &str = "revocations";

pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    asked: CreateSshRevocationRequest,
) -> Result<SshRevocation, EngineError> {
    let mount = asked.mount.clone();
    let what = message::whole_of(asked)?;
    let account = match &what {
        Whole::KeyId(account) => Some(account.clone()),
        Whole::Key(_) => None,
    };
    let on = [REVOCATIONS, &what.id()?];
    let at = api
        .0
        .enter(caller, &KIND, action::CREATE_REVOCATION, &mount, &on)?;
    let now_s = seconds(at.now());
    let add = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let id = revoked::add(items, what.clone(), now_s)?;
        let certificates = match &what {
            Whole::KeyId(account) => Some(inventory::count(items, account)?),
            Whole::Key(_) => None,
        };
        let revocation = Revocation {
            what,
            revoked_s: now_s,
        };
        Ok(SshRevocation {
            certificates,
            ..message::revocation(&id, revocation)
        })
    };
    let mut made = at.change(Detail::new(), add, published).await??;
    // It is done, whatever MCIAS says; and nobody who seals waits for that.
    drop(at);
    if let (Some(account), Some(mcias)) = (account, api.0.mcias.get()) {
        let id = mcias.id_of(account.as_str()).await;
        made.account_exists = id.ok().map(|id| id.is_some());
    }
    Ok(made)
}

pub(super) async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListSshRevocationsRequest,
) -> Result<ListSshRevocationsResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, REVOCATIONS, &[])?;
    let page = Page {
        place: revoked::WHOLE,
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, REVOCATIONS)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let one = |id: &str| {
            let found = revoked::find(items, id)?;
            Ok(found.map(|found| message::revocation(id, found)))
        };
        page.read(items, may, one)
    };
    let (revocations, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListSshRevocationsResponse { revocations, next })
}

pub(super) async fn delete(
    api: &Api,
    caller: &Caller,
    asked: DeleteSshRevocationRequest,
) -> Result<DeleteSshRevocationResponse, EngineError> {
    let on = [REVOCATIONS, &*asked.id];
    let at = api
        .0
        .enter(caller, &KIND, action::DELETE_REVOCATION, &asked.mount, &on)?;
    let now_s = seconds(at.now());
    let lift = move |items: &Items<'_>, at: &Entered| revoked::lift(items, at.name(), now_s);
    at.change(Detail::new(), lift, published).await??;
    Ok(DeleteSshRevocationResponse {})
}
