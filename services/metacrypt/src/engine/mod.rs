//! Engines: what a mount can be. A new one is a folder here and a line in [`KINDS`]; nothing else knows which there are.

mod edwards;
mod error;
mod page;

/// Names what may be done in an engine, and a list of all of it: what is in the one is in the other.
macro_rules! actions {
    ($all:ident: $($name:ident = $text:literal),+ $(,)?) => {
        $(pub(crate) const $name: $crate::engine::Act = $crate::engine::Act($text);)+
        pub(crate) const $all: &[$crate::engine::Act] = &[$($name),+];
    };
}

/// The methods of a service, each of which is a function of what was sent and of who calls.
macro_rules! methods {
    ($service:path: $($name:ident: $request:ty => $response:ty = $done_by:path,)+) => {
        #[tonic::async_trait]
        impl $service for $crate::api::Api {
            $(async fn $name(
                &self,
                request: tonic::Request<$request>,
            ) -> Result<tonic::Response<$response>, tonic::Status> {
                let caller = mcdsl::server::Caller::of(&request)?;
                let request = request.into_inner();
                let mount = request.mount.clone();
                let answer = $done_by(self, &caller, request).await;
                if answer.is_err() {
                    // What was refused before more was named.
                    caller.about.say(&mount);
                }
                Ok(tonic::Response::new(answer?))
            })+
        }
    };
}

pub(crate) mod pki;
mod places;
mod position;
mod secret;
pub(crate) mod ssh;
mod time;
pub(crate) mod transit;
pub(crate) mod user;
pub(crate) mod work;

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use mcdsl::policy::Action;
use tonic::service::Routes;

pub(crate) use self::{
    edwards::is_ed25519,
    error::{CONFIRM, EngineError, kept},
    page::{MAX_LOOKED_AT, Page, limit},
    places::{places, spelled},
    position::Positions,
    secret::Secret,
    time::{seconds, time},
    work::{Cores, Owner},
};
use crate::{api::Api, core::Keeps, entered::Entered, policy};

/// Something that may be done, as rules name it: `transit:encrypt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Act(pub(crate) &'static str);

impl Act {
    /// As the policy takes it.
    ///
    /// # Panics
    /// If it is no action, which a test finds.
    pub(crate) fn typed(self) -> Action {
        self.0.parse().expect("an action")
    }
}

/// A kind of engine.
pub(crate) struct Kind {
    /// As mounts of it say.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) description: &'static str,
    /// What may be done in it.
    pub(crate) actions: &'static [Act],
    /// Adds its methods.
    pub(crate) routes: fn(Routes, &Api) -> Routes,
    /// What it answers over plain HTTP to anybody, while the seal is open: media types of their own, other protocols. Its paths are behind `/v1/<name>`, and
    /// begin with `/{mount}`.
    pub(crate) http: fn(&Api) -> Router,
    /// What of that may be had without TLS as well: what is signed, and is read before a connection over TLS is trusted. Its paths are a part of those of `http`.
    pub(crate) public: fn(&Api) -> Router,
    /// What of a mount is not to be lost when somebody removes it and does not say that he means it, for him to read.
    pub(crate) keeps: Keeps,
    /// What it does of itself.
    pub(crate) job: Option<Job>,
}

/// What an engine does of itself in each of its mounts, at times and whenever the seal was opened.
pub(crate) struct Job {
    /// In the log: `pki.tidy`.
    pub(crate) name: &'static str,
    pub(crate) every: Duration,
    /// A piece of it, in half a minute at most; whether there is more to do. The seal is held open meanwhile: each transaction of it is to be short, and what
    /// waits in it gives up when the seal is closed.
    pub(crate) run: fn(Arc<Entered>) -> Work,
}

/// A piece of a job.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<bool, EngineError>> + Send>>;

/// All of them.
pub(crate) const KINDS: &[&Kind] = &[&pki::KIND, &ssh::KIND, &transit::KIND, &user::KIND];

/// All that rules may name.
pub(crate) fn actions() -> impl Iterator<Item = Act> {
    let theirs = KINDS.iter().flat_map(|kind| kind.actions.iter().copied());
    [policy::READ_MOUNT, policy::READ_AUDIT]
        .into_iter()
        .chain(theirs)
}

/// That of this name.
///
/// # Errors
/// There is none.
pub(crate) fn kind(name: &str) -> Result<&'static Kind, EngineError> {
    let found = KINDS.iter().find(|kind| kind.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        EngineError::Invalid(format!(
            "engine: {name:?} is none; there are: {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn actions_are_named_once_and_by_their_engine() {
        let all: Vec<_> = actions().map(|action| action.typed()).collect();
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        for kind in KINDS {
            for action in kind.actions {
                let begin = action.0.split(':').next();
                assert_eq!(begin, Some(kind.name), "{action:?}");
            }
        }
    }
}
