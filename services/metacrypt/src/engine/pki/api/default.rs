//! Which CA everybody is told to trust.

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
