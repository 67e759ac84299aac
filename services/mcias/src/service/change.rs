//! What administrators do to services, by whichever way.

use std::sync::Arc;

use mc_proto::mcias::v1::Service as Message;

use super::{Service, delete, find, parse, put};
use crate::{
    by::By,
    core::{Change, Mcias},
    error::Error,
    policy::{
        self, LoginPolicy,
        ended::{Was, end_denied},
        named::{Kind, check_unnamed},
    },
    session::{end_session, sessions_of},
};

/// A service that was kept.
pub(crate) struct Put {
    pub(crate) service: Service,
    /// The client's, if it is new.
    pub(crate) secret: Option<String>,
    /// Logins that ended.
    pub(crate) ended: u64,
}

impl Mcias {
    /// Adds a service, or replaces the one of its name unless it has to be `new`. The client's secret, if it got one, and how many logins
    /// ended, for the policy says otherwise by other tags.
    ///
    /// # Errors
    /// If it is none, there are too many, or no administrator could log in any more.
    pub(crate) async fn set_service(
        self: &Arc<Self>,
        by: &By,
        service: Message,
        new: bool,
        new_secret: bool,
    ) -> Result<Put, Error> {
        by.about(&service.name);
        let service = parse(service)?;
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&service.name);
            let before = find(change.tx, &service.name)?;
            if new && before.is_some() {
                let name = &service.name;
                return Err(Error::exists(format!(
                    "there is a service {name:?} already"
                )));
            }
            let (service, secret) = put(change.tx, service, new_secret)?;
            // Rules may go by this service's own tags.
            policy::check_admin_left(change.tx)?;
            change.note(|detail| {
                let uris = service.redirect_uris.iter().map(String::as_str);
                detail
                    .list("redirect_uris", uris)
                    .flag("new_secret", secret.is_some())
            });
            let ended = match before.filter(|before| before.tags != service.tags) {
                Some(before) => {
                    let policy = LoginPolicy::load(change.tx)?;
                    end_denied(change, &policy, &Was::Service(&before))?
                }
                None => 0,
            };
            Ok(Put {
                service,
                secret,
                ended,
            })
        };
        self.write(by, write).await
    }

    /// A new secret for a client; the one before is of no use any more.
    ///
    /// # Errors
    /// If there is no such service, or it has none.
    pub(crate) async fn new_secret(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<String, Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&name);
            let service = super::named(change.tx, &name)?;
            let (_, secret) = put(change.tx, service, true)?;
            change.note(|detail| detail.flag("new_secret", true));
            secret.ok_or_else(|| {
                Error::precondition(
                    "the service has no secret: it is a public client, or has no redirect URI",
                )
            })
        };
        self.write(by, write).await
    }

    /// Takes a service away, and ends the logins to it.
    ///
    /// # Errors
    /// If there is none, it is this one, or tokens of system accounts are for it, or a rule names it.
    pub(crate) async fn delete_service(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&name);
            delete(change.tx, &name)?;
            check_unnamed(change.tx, Kind::Service, &name)?;
            for session in sessions_of(change.tx, &name)? {
                end_session(change, &session)?;
            }
            Ok(())
        };
        self.write(by, write).await
    }
}
