//! Profiles.

use mc_proto::metacrypt::v1::{
    DeletePkiProfileRequest, DeletePkiProfileResponse, GetPkiProfileRequest,
    ListPkiProfilesRequest, ListPkiProfilesResponse, PkiProfile, PutPkiProfileRequest,
};
use mcdsl::{audit::Detail, server::Caller};

use super::message;
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError, Page, Positions, limit,
        pki::{
            ISSUERS, KIND, PROFILES, action, item_name,
            profile::Profile,
            ready::{self, Ready},
            store::{MAX_PROFILES, StoredIssuer, profile, profile_at, profiles},
        },
    },
    entered::Entered,
};

pub(super) async fn put_profile(
    api: &Api,
    caller: &Caller,
    asked: PutPkiProfileRequest,
) -> Result<PkiProfile, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let sent = asked.profile.unwrap_or_default();
    // Who may say what certificates of an issuer are may have it sign what he likes: that is judged too.
    let on = [[PROFILES, &*asked.name], [ISSUERS, &*sent.issuer]];
    let at = match sent.issuer.is_empty() {
        true => visit.judge(action::PUT_PROFILE, &[&on[0]])?,
        false => visit.judge(action::PUT_PROFILE, &[&on[0], &on[1]])?,
    };
    item_name("name", &asked.name)?;
    item_name("issuer", &sent.issuer)?;
    if !sent.name.is_empty() && sent.name != asked.name {
        return Err(EngineError::field(
            "profile.name",
            "it is not the name that it is put at",
        ));
    }
    let put = message::profile(&sent)?;
    let detail = Detail::new().text("issuer", &put.issuer).number(
        "max_ttl_s",
        i64::try_from(put.max_ttl_s).unwrap_or(i64::MAX),
    );
    let names = |all: &std::collections::BTreeSet<_>| all.iter().map(ToString::to_string).collect();
    let (exact, suffixes): (Vec<String>, Vec<String>) =
        (names(&put.dns_names), names(&put.dns_suffixes));
    let detail = detail
        .list("dns_names", exact.iter().map(String::as_str))
        .list("dns_suffixes", suffixes.iter().map(String::as_str))
        .flag("wildcards", put.wildcards);
    let change = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        if StoredIssuer::find(items, &put.issuer)?.is_none() {
            let why = format!("there is no issuer {:?}; make it first", put.issuer);
            return Err(EngineError::field("issuer", why));
        }
        let under = ready::issuer(at.mount(), items, &put.issuer)?;
        put.fits(&under)
            .map_err(|e| EngineError::Invalid(e.to_string()))?;
        let place = profile_at(at.name());
        let is_new = items.get::<Profile>(&place)?.is_none();
        if is_new && profiles(items)?.len() >= MAX_PROFILES {
            return Err(EngineError::Precondition(format!(
                "the mount has {MAX_PROFILES} profiles, which is the most; delete one"
            )));
        }
        items.put(&place, &put)?;
        Ok(message::profile_message(at.name(), put))
    };
    let then = |message, at: &Entered| -> Result<_, EngineError> {
        Ready::of(at.mount())?.ground_changed();
        Ok(message)
    };
    at.change(detail, change, then).await?
}

pub(super) async fn get_profile(
    api: &Api,
    caller: &Caller,
    asked: GetPkiProfileRequest,
) -> Result<PkiProfile, EngineError> {
    let on = [PROFILES, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::READ, &asked.mount, &on)?;
    let found = at.read(|items, at| profile(items, at.name())).await?;
    at.done(Detail::new()).await?;
    Ok(message::profile_message(at.name(), found))
}

pub(super) async fn list_profiles(
    api: &Api,
    caller: &Caller,
    asked: ListPkiProfilesRequest,
) -> Result<ListPkiProfilesResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, PROFILES, &[])?;
    let page = Page {
        place: "profiles/",
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, PROFILES)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let one = |name: &str| Ok(Some(message::profile_message(name, profile(items, name)?)));
        page.read(items, may, one)
    };
    let (profiles, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListPkiProfilesResponse { profiles, next })
}

pub(super) async fn delete_profile(
    api: &Api,
    caller: &Caller,
    asked: DeletePkiProfileRequest,
) -> Result<DeletePkiProfileResponse, EngineError> {
    let on = [PROFILES, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::DELETE_PROFILE, &asked.mount, &on)?;
    let delete = |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        match items.delete(&profile_at(at.name()))? {
            true => Ok(DeletePkiProfileResponse {}),
            false => Err(EngineError::NotFound("profile", at.name().to_owned())),
        }
    };
    let then = |deleted, at: &Entered| -> Result<_, EngineError> {
        Ready::of(at.mount())?.ground_changed();
        Ok(deleted)
    };
    at.change(Detail::new(), delete, then).await?
}
