//! Who asks for a change, by whichever way: a method of the API, a page, an endpoint of OpenID Connect.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use mcdsl::{
    auth::Identity,
    server::{About, Caller},
};

use crate::error::Error;

/// Who asks, as the gate and the audit log need it.
#[derive(Clone, Debug)]
pub(crate) struct By {
    pub(crate) identity: Option<Identity>,
    pub(crate) source: IpAddr,
    /// What was called, for the log: gRPC's path, or that of the page.
    pub(crate) action: &'static str,
    /// Told when the log has it, so that the server does not write it again.
    call: Option<Caller>,
    /// The same for pages, which write what was refused themselves. Clones share it.
    recorded: Arc<AtomicBool>,
    /// On what, for what is refused.
    about: About,
}

impl By {
    /// By a page or an endpoint at `action`; the log is written by the change alone.
    pub(crate) fn path(action: &'static str, source: IpAddr, identity: Option<Identity>) -> Self {
        Self {
            identity,
            source,
            action,
            call: None,
            recorded: Arc::default(),
            about: About::default(),
        }
    }

    /// Who it is.
    ///
    /// # Errors
    /// If nobody is known.
    pub(crate) fn who(&self) -> Result<&Identity, Error> {
        let identity = self.identity.as_ref();
        identity.ok_or_else(|| Error::unauthenticated("a token is needed"))
    }

    /// On what it is, for the log if it is refused; what is said first counts.
    pub(crate) fn about(&self, resource: &str) {
        self.about.say(resource);
    }

    /// On what it is, if that was said.
    pub(crate) fn resource(&self) -> Option<&str> {
        self.about.said()
    }

    /// What it did is in the log.
    pub(crate) fn recorded(&self) {
        self.recorded.store(true, Relaxed);
        if let Some(call) = &self.call {
            call.recorded();
        }
    }

    /// Whether it is.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded.load(Relaxed)
    }
}

impl From<&Caller> for By {
    fn from(caller: &Caller) -> Self {
        Self {
            identity: caller.identity.clone(),
            source: caller.source,
            action: caller.method,
            call: Some(caller.clone()),
            recorded: Arc::default(),
            about: caller.about.clone(),
        }
    }
}

impl From<&Self> for By {
    fn from(by: &Self) -> Self {
        by.clone()
    }
}
