//! Where everybody reaches what is public of a mount.

use mc_proto::metacrypt::v1::{GetUrlsRequest, PkiUrls, SetUrlsRequest};
use mcdsl::{audit::Detail, server::Caller};

use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError,
        pki::{KIND, URLS, action, ready::Ready, store::Settings, urls},
    },
    entered::Entered,
};

pub(super) async fn set(
    api: &Api,
    caller: &Caller,
    asked: SetUrlsRequest,
) -> Result<PkiUrls, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::SET_URLS, &asked.mount, &[URLS])?;
    let base = match &*asked.base {
        "" => None,
        base => Some(urls::base(base).map_err(|e| EngineError::field("base", e))?),
    };
    if base
        .as_deref()
        .is_some_and(|base| base.starts_with("https:"))
    {
        let why = "write http://…: who checks a certificate of TLS would have to check another one first (RFC 5280 §8)";
        return Err(EngineError::field("base", why));
    }
    let warning = unheard(api, base.as_deref());
    let detail = Detail::new().text("base", base.as_deref().unwrap_or_default());
    let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let mut settings = Settings::get(items)?;
        settings.base = base;
        settings.put(items)?;
        let base = settings.base.unwrap_or_default();
        Ok(PkiUrls { base, warning })
    };
    let then = |urls, at: &Entered| -> Result<_, EngineError> {
        Ready::of(at.mount())?.ground_changed();
        Ok(urls)
    };
    at.change(detail, change, then).await?
}

pub(super) async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetUrlsRequest,
) -> Result<PkiUrls, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::READ, &asked.mount, &[URLS])?;
    let settings = at.read(|items, _| Settings::get(items)).await?;
    at.done(Detail::new()).await?;
    let warning = unheard(api, settings.base.as_deref());
    let base = settings.base.unwrap_or_default();
    Ok(PkiUrls { base, warning })
}

/// That certificates name an address, and this service is nowhere without TLS.
fn unheard(api: &Api, base: Option<&str>) -> String {
    match (base, api.0.without_tls.get()) {
        (Some(base), Some(false)) => format!(
            "certificates name {base}, and this service answers nobody without TLS: set public_listen in [service], and lead that address there"
        ),
        _ => String::new(),
    }
}
