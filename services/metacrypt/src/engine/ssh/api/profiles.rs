//! Profiles. They say who is root where: who puts or deletes one has to be allowed that on the authority of its kind too.

use mc_proto::metacrypt::v1::{
    DeleteSshProfileRequest, DeleteSshProfileResponse, GetSshProfileRequest,
    ListSshProfilesRequest, ListSshProfilesResponse, PutSshProfileRequest, SshProfile,
};
use mcdsl::{audit::Detail, server::Caller};

use super::{
    super::{CA, KIND, PROFILES, action, message, profile, profile::Profile, profile_path},
    to_profile,
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, Page, Positions, limit},
    entered::Entered,
};

/// Where they are stored.
const PLACE: &str = "profiles/";
/// Most of a mount.
const MAX_PROFILES: usize = 1000;

fn stored(items: &Items<'_>, name: &str) -> Result<Option<Profile>, EngineError> {
    Ok(items.get(&profile_path(name))?)
}

pub(super) async fn put(
    api: &Api,
    caller: &Caller,
    asked: PutSshProfileRequest,
) -> Result<SshProfile, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let sent = asked.profile.unwrap_or_default();
    let of = message::kind_of(sent.kind)?;
    let on = [[PROFILES, &*asked.name], [CA, of.name()]];
    let at = visit.judge(action::PUT_PROFILE, &[&on[0], &on[1]])?;
    let made = message::profile_of(at.name(), sent)?;
    let answer = message::profile(&made);
    let detail = made.detail();
    let put = move |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
        match stored(items, at.name())? {
            Some(before) if before.kind != made.kind => {
                return Err(EngineError::Precondition(format!(
                    "the profile is one of the {} authority, which was not asked for; delete it first, or take another name",
                    before.kind.name()
                )));
            }
            Some(_) => {}
            None if items.names(PLACE, "", MAX_PROFILES)?.len() >= MAX_PROFILES => {
                return Err(EngineError::Precondition(format!(
                    "the mount has {MAX_PROFILES} profiles, which is the most; delete one"
                )));
            }
            None => {}
        }
        Ok(items.put(&profile_path(at.name()), &made)?)
    };
    at.record(detail, put).await?;
    Ok(answer)
}

pub(super) async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListSshProfilesRequest,
) -> Result<ListSshProfilesResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, PROFILES, &[])?;
    let page = Page {
        place: PLACE,
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, PROFILES)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let one = |name: &str| Ok(stored(items, name)?.map(|found| message::profile(&found)));
        page.read(items, may, one)
    };
    let (profiles, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListSshProfilesResponse { profiles, next })
}

pub(super) async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetSshProfileRequest,
) -> Result<SshProfile, EngineError> {
    let at = to_profile(api, caller, action::READ, &asked.mount, &asked.name)?;
    let read = |items: &Items<'_>, at: &Entered| profile(items, at.name());
    let found = at.read(read).await?;
    at.done(Detail::new()).await?;
    Ok(message::profile(&found))
}

pub(super) async fn delete(
    api: &Api,
    caller: &Caller,
    asked: DeleteSshProfileRequest,
) -> Result<DeleteSshProfileResponse, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let path = [PROFILES, &*asked.name];
    // Who may not delete it at all is answered alike whether it is there or not.
    visit.judge(action::DELETE_PROFILE, &[&path])?;
    let name = asked.name.clone();
    let find = move |items: &Items<'_>| Ok(stored(items, &name)?.map(|found| found.kind));
    let none = || EngineError::NotFound("profile", asked.name.clone());
    let of = visit.look(find).await?.flatten().ok_or_else(none)?;
    let at = visit.judge(action::DELETE_PROFILE, &[&path, &[CA, of.name()]])?;
    let delete = move |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
        if profile(items, at.name())?.kind != of {
            return Err(EngineError::Changed);
        }
        items.delete(&profile_path(at.name()))?;
        Ok(())
    };
    let detail = Detail::new().text("kind", of.name());
    at.record(detail, delete).await?;
    Ok(DeleteSshProfileResponse {})
}
