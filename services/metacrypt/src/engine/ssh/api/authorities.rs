//! Authorities and their keys.

use std::sync::Arc;

use mc_proto::metacrypt::v1::{
    CreateSshCaKeyRequest, DeleteSshCaKeyRequest, GetSshCaRequest, ListSshCasRequest,
    ListSshCasResponse, SshCa, UseSshCaKeyRequest,
};
use mcdsl::{audit::Detail, server::Caller};

use super::super::{
    CA, KIND, action, authority,
    authority::{Authority, Kind as Of},
    authority_path, message,
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{Act, EngineError},
    entered::Entered,
};

/// Lets a caller in to an authority.
fn enter(
    api: &Api,
    caller: &Caller,
    action: Act,
    mount: &str,
    ca: &str,
) -> Result<(Arc<Entered>, Of), EngineError> {
    let of = Of::named(ca)?;
    let at = api
        .0
        .enter(caller, &KIND, action, mount, &[CA, of.name()])?;
    Ok((at, of))
}

/// Changes an authority, and answers as it then is.
async fn change(
    at: &Arc<Entered>,
    of: Of,
    detail: Detail,
    change: impl FnOnce(&mut Authority) -> Result<(), EngineError> + Send + 'static,
) -> Result<SshCa, EngineError> {
    let change = move |items: &Items<'_>, _: &Entered| {
        let mut found = authority(items, of)?;
        change(&mut found)?;
        items.put(&authority_path(of), &found)?;
        message::ca(of, &found)
    };
    at.record(detail, change).await
}

pub(super) async fn create_key(
    api: &Api,
    caller: &Caller,
    asked: CreateSshCaKeyRequest,
) -> Result<SshCa, EngineError> {
    let (at, of) = enter(api, caller, action::CREATE_CA_KEY, &asked.mount, &asked.ca)?;
    let algorithm = message::algorithm_of(asked.algorithm)?;
    let now = at.now();
    let detail = Detail::new().text("algorithm", algorithm.name());
    change(&at, of, detail, move |ca| ca.add(algorithm, now)).await
}

pub(super) async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetSshCaRequest,
) -> Result<SshCa, EngineError> {
    let (at, of) = enter(api, caller, action::READ, &asked.mount, &asked.ca)?;
    let read = move |items: &Items<'_>, _: &Entered| message::ca(of, &authority(items, of)?);
    let ca = at.read(read).await?;
    at.done(Detail::new()).await?;
    Ok(ca)
}

/// Both, of which each may be read or not.
pub(super) async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListSshCasRequest,
) -> Result<ListSshCasResponse, EngineError> {
    let list = api.0.list(caller, &KIND, action::READ, &asked.mount, CA)?;
    let read = |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let all = [Of::User, Of::Host].into_iter().filter(|of| may(of.name()));
        let all = all.map(|of| message::ca(of, &authority(items, of)?));
        all.collect::<Result<_, EngineError>>()
    };
    let cas = list.read(read).await?;
    Ok(ListSshCasResponse { cas })
}

pub(super) async fn use_key(
    api: &Api,
    caller: &Caller,
    asked: UseSshCaKeyRequest,
) -> Result<SshCa, EngineError> {
    let (at, of) = enter(api, caller, action::USE_CA_KEY, &asked.mount, &asked.ca)?;
    let detail = Detail::new().number("key", asked.number.into());
    change(&at, of, detail, move |ca| ca.use_key(asked.number)).await
}

pub(super) async fn delete_key(
    api: &Api,
    caller: &Caller,
    asked: DeleteSshCaKeyRequest,
) -> Result<SshCa, EngineError> {
    let (at, of) = enter(api, caller, action::DELETE_CA_KEY, &asked.mount, &asked.ca)?;
    let detail = Detail::new().number("key", asked.number.into());
    change(&at, of, detail, move |ca| ca.remove(asked.number)).await
}
