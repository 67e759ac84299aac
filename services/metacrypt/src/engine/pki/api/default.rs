//! Which CA everybody is told to trust.

use std::sync::Arc;

use mc_proto::metacrypt::v1::{PkiIssuer, SetDefaultRequest};
use mcdsl::{audit::Detail, server::Caller};

use super::{issuers::not_revoked, message};
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError,
        pki::{
            DEFAULT, KIND, action, item_name,
            store::{Settings, StoredIssuer},
        },
    },
    entered::Entered,
};

/// Somebody comes to make a CA, for which all of `on` is judged. Where the mount has no default, and he may say what it is, that is judged too: it will be this one.
pub(super) struct Maker {
    pub(super) at: Arc<Entered>,
    pub(super) sets_default: bool,
}

impl Maker {
    pub(super) async fn of(
        api: &Api,
        caller: &Caller,
        mount: &str,
        on: &[&[&str]],
    ) -> Result<Self, EngineError> {
        let visit = api.0.visit(caller, &KIND, mount)?;
        let none = visit.look(|items| Ok(Settings::get(items)?.default.is_none()));
        let none = none.await?.unwrap_or_default();
        let sets_default = none && visit.may(action::SET_DEFAULT, &[DEFAULT]);
        let mut each: Vec<_> = on.iter().map(|on| (action::CREATE_ISSUER, *on)).collect();
        if sets_default {
            each.push((action::SET_DEFAULT, &[DEFAULT]));
        }
        Ok(Self {
            at: visit.judge_each(&each)?,
            sets_default,
        })
    }
}

pub(super) async fn set(
    api: &Api,
    caller: &Caller,
    asked: SetDefaultRequest,
) -> Result<PkiIssuer, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::SET_DEFAULT, &asked.mount, &[DEFAULT])?;
    item_name("issuer", &asked.issuer)?;
    let detail = Detail::new().text("issuer", &asked.issuer);
    let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let stored = StoredIssuer::get(items, &asked.issuer)?;
        not_revoked(&stored)?;
        let mut settings = Settings::get(items)?;
        settings.default = Some(asked.issuer.clone());
        settings.put(items)?;
        message::issuer(&asked.issuer, &stored, &settings)
    };
    at.record(detail, change).await
}
