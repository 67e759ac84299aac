//! Clients: who they say they are, and whether that is so.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderMap;
use rusqlite::Connection;

use super::{
    basic::{NotBasic, basic},
    error::{OAuthError, Refused},
    params::Params,
    token::refused,
};
use crate::{
    by::By,
    core::{Change, Mcias},
    random,
    service::{self, Service},
};

impl From<NotBasic> for OAuthError {
    fn from(error: NotBasic) -> Self {
        Self::invalid_client(error.to_string())
    }
}

/// What a client shows.
#[derive(Clone)]
pub(super) struct Credentials {
    id: String,
    secret: Option<String>,
}

impl Credentials {
    /// By `client_secret_basic`, `client_secret_post` or, of public clients, `client_id` alone (RFC 6749 §2.3).
    ///
    /// # Errors
    /// If there are none, or two.
    pub(super) fn of(headers: &HeaderMap, params: &Params) -> Result<Self, OAuthError> {
        let (id, secret) = (params.get("client_id"), params.get("client_secret"));
        let Some((basic_id, basic_secret)) = basic(headers)? else {
            let missing = || OAuthError::invalid_client("the client does not say who it is");
            return Ok(Self {
                id: id.ok_or_else(missing)?.to_owned(),
                secret: secret.map(str::to_owned),
            });
        };
        if secret.is_some() || id.is_some_and(|id| id != basic_id) {
            let text = "the client says in two ways who it is";
            return Err(OAuthError::invalid_request(text));
        }
        Ok(Self {
            id: basic_id,
            secret: Some(basic_secret),
        })
    }

    /// Whom it says to be, for the log: a name that a service may have.
    pub(super) fn name(&self) -> String {
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        self.id.chars().take(64).filter(|c| named(*c)).collect()
    }

    /// Refuses who is no client, or not the one it says, and writes that down: before anything else, so that no stranger holds up who
    /// writes.
    ///
    /// # Errors
    /// If so.
    pub(super) async fn known(&self, mcias: &Arc<Mcias>, by: &By) -> Result<(), OAuthError> {
        let credentials = self.clone();
        let read = move |db: &Connection| match credentials.check(db) {
            Ok(_) => Ok(None),
            Err(Refused::Told(error)) => Ok(Some(error)),
            Err(Refused::Failed(error)) => Err(error),
        };
        let Some(error) = mcias.store.read(read).await? else {
            return Ok(());
        };
        let (client, told) = (self.name(), error.clone());
        let write = move |change: &mut Change<'_>| {
            change.note(|detail| detail.text("client", &client));
            refused(change, &told);
            Ok(())
        };
        mcias.refuse(by, write).await?;
        Err(error)
    }

    /// The client, if it is the one.
    ///
    /// # Errors
    /// If not.
    pub(super) fn check(&self, db: &Connection) -> Result<Service, Refused> {
        // The same for all, so that nobody learns which clients there are.
        let refused = || OAuthError::invalid_client("the client is unknown, or its secret wrong");
        let found = service::find(db, &self.id)?;
        let service = found.filter(|service| !service.redirect_uris.is_empty());
        let service = service.ok_or_else(refused)?;
        let right = match (&service.secret, &self.secret) {
            (None, None) => service.public_client,
            (Some(hash), Some(secret)) => {
                let shown = random::hash(&["client", secret]);
                verify_slices_are_equal(hash, &shown).is_ok()
            }
            _ => false,
        };
        if right {
            Ok(service)
        } else {
            Err(refused().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_client_says_once_who_it_is() {
        let wiki = "Basic d2lraTpzZWNyZXQ=";
        for (description, fields, form, wanted) in [
            ("nothing", &[][..], "", None),
            ("public", &[], "client_id=wiki", Some(("wiki", None))),
            (
                "by post",
                &[],
                "client_id=wiki&client_secret=secret",
                Some(("wiki", Some("secret"))),
            ),
            ("by Basic", &[wiki], "", Some(("wiki", Some("secret")))),
            (
                "by Basic, and its name",
                &[wiki],
                "client_id=wiki",
                Some(("wiki", Some("secret"))),
            ),
            (
                "encoded: a:b and c d%",
                &["Basic YSUzQWI6YytkJTI1"],
                "",
                Some(("a:b", Some("c d%"))),
            ),
            ("both", &[wiki], "client_secret=secret", None),
            ("another name", &[wiki], "client_id=lab", None),
            ("twice", &[wiki, wiki], "", None),
            ("a token", &["Bearer x"], "client_id=wiki", None),
            ("no Base64", &["Basic !"], "", None),
            (
                "a second spelling: wiki=",
                &["Basic d2lraT06c2VjcmV0"],
                "",
                None,
            ),
            ("no colon", &["Basic d2lraQ=="], "", None),
            ("no secret", &["Basic d2lraTo="], "", None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(field));
            }
            let params = Params::parse(form.as_bytes()).unwrap();
            let got = Credentials::of(&headers, &params).ok();
            let got = got.as_ref().map(|c| (&*c.id, c.secret.as_deref()));
            assert_eq!(got, wanted, "{description}");
        }
    }
}
