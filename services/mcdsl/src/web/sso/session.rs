//! Sessions that live by a token: what they keep, and what each request asks of it.

use std::{
    collections::hash_map::Entry,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use mc_proto::AccountType;
use serde_json::{Value, json};

use super::{
    Sso,
    provider::{Failed, Tokens},
    unavailable,
};
use crate::{
    auth::{AuthError, Authenticator as _, EXPIRED, Identity, id_token::Expected},
    db,
    web::{ErrorPage, NewSession, Session, Sessions, secret::Secret},
};

/// What is left of an access token when it is refreshed: if MCIAS cannot then, there is time to try again.
const EARLY: Duration = Duration::from_secs(300);
/// Of a session's data: its tokens, sealed under its cookie.
const TOKENS: &str = "tokens";

/// A session of who has these tokens.
pub(super) fn new(secret: &Secret, identity: Identity, tokens: &Tokens) -> NewSession {
    NewSession {
        data: data(secret, tokens),
        account: identity.account,
        name: identity.name,
        roles: identity.roles,
        flash: None,
    }
}

fn data(secret: &Secret, tokens: &Tokens) -> Value {
    json!({ TOKENS: secret.seal(json!(tokens).to_string().as_bytes()) })
}

fn tokens(session: &Session, secret: &Secret) -> Option<Tokens> {
    let text = secret.open(session.data[TOKENS].as_str()?)?;
    serde_json::from_slice(&text).ok()
}

/// By which MCIAS knows what is to be logged out.
pub(super) fn id_token(session: &Session, secret: &Secret) -> Option<String> {
    tokens(session, secret).map(|tokens| tokens.id)
}

/// What a session's access token is now.
enum Standing {
    /// Valid for a while.
    Good(Identity, Tokens),
    /// Valid, and to be refreshed.
    Ageing(Identity, Tokens),
    /// To be refreshed.
    Expired(Tokens),
    /// Not valid, and not because it is old: the login was ended, if the session has not been refreshed just now.
    Over,
}

impl Sso {
    /// Who tokens of the provider say it is, and that they are what was asked for.
    pub(super) async fn check(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
    ) -> Result<Identity, ErrorPage> {
        let wrong = |error: AuthError| match error {
            AuthError::Unavailable(_) => unavailable(),
            AuthError::Invalid(why) => {
                tracing::warn!(why, "a login's tokens are refused");
                ErrorPage::bad_gateway(
                    "MCIAS's answer to this login is not valid. Why is in this service's log.",
                )
            }
        };
        // First: it looks for keys that are new.
        let identity = self
            .mcias
            .authenticate(&tokens.access)
            .await
            .map_err(wrong)?;
        let expected = Expected {
            issuer: &self.provider.issuer,
            client: &self.provider.client,
            nonce,
        };
        let id = self.mcias.verify_id(&tokens.id, expected).map_err(wrong)?;
        if (&id.sub, &id.sid) != (&identity.account, &identity.session) {
            return Err(wrong(AuthError::Invalid("its tokens are of two logins")));
        }
        if identity.account_type != AccountType::Human {
            return Err(wrong(AuthError::Invalid("it is no person's")));
        }
        Ok(identity)
    }

    /// The session of a request as MCIAS knows it now, refreshed if need be; `None` if its login is over.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(in crate::web) async fn admit(
        self: &Arc<Self>,
        sessions: &Sessions,
        session: Session,
        secret: &Secret,
    ) -> Result<Option<Session>, ErrorPage> {
        if let Standing::Good(identity, tokens) = self.judge(&session, secret).await? {
            return Ok(Some(of(session, identity, &tokens)));
        }
        // To its end, whether the browser waits or not: a refresh token is good once, and the next one has to be kept.
        let (this, sessions, secret) = (Arc::clone(self), sessions.clone(), secret.clone());
        let renew = async move { this.renew(&sessions, &secret).await };
        let renewed = db::to_the_end(&self.tasks, renew).await;
        // It panicked, which is in the log.
        renewed.unwrap_or_else(|_| Err(ErrorPage::internal()))
    }

    async fn judge(&self, session: &Session, secret: &Secret) -> Result<Standing, ErrorPage> {
        let Some(tokens) = tokens(session, secret) else {
            return Ok(Standing::Over);
        };
        let now = self.mcias.clock().now();
        let left = |identity: &Identity| identity.expires.duration_since(now);
        match self.mcias.authenticate(&tokens.access).await {
            Ok(identity) if identity.account != session.account => Ok(Standing::Over),
            Ok(identity) if left(&identity).unwrap_or_default() > EARLY => {
                Ok(Standing::Good(identity, tokens))
            }
            Ok(identity) => Ok(Standing::Ageing(identity, tokens)),
            Err(AuthError::Invalid(EXPIRED)) => Ok(Standing::Expired(tokens)),
            Err(AuthError::Invalid(_)) => Ok(Standing::Over),
            Err(AuthError::Unavailable(_)) => Err(unavailable()),
        }
    }

    /// One at a time of a session: of two that show the same refresh token the second would end the login.
    async fn renew(
        &self,
        sessions: &Sessions,
        secret: &Secret,
    ) -> Result<Option<Session>, ErrorPage> {
        let id = secret.id();
        let turn = {
            let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            renewing.retain(|_, turn| Arc::strong_count(turn) > 1);
            match renewing.entry(id) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::default())),
            }
        };
        let _turn = turn.lock().await;
        // As who was before has left it.
        let Some(session) = sessions.find(secret).await? else {
            return Ok(None);
        };
        let (tokens, valid) = match self.judge(&session, secret).await? {
            Standing::Good(identity, tokens) => return Ok(Some(of(session, identity, &tokens))),
            Standing::Over => {
                sessions.end(&session.account, id).await?;
                return Ok(None);
            }
            Standing::Ageing(identity, tokens) => (tokens, Some(identity)),
            Standing::Expired(tokens) => (tokens, None),
        };
        match self.provider.refresh(&tokens.refresh).await {
            Ok(next) => {
                // Kept before it is judged: the one before is void.
                sessions.set_data(id, &data(secret, &next)).await?;
                let identity = self.check(&next, None).await?;
                if identity.account != session.account {
                    sessions.end(&session.account, id).await?;
                    return Ok(None);
                }
                Ok(Some(of(session, identity, &next)))
            }
            Err(Failed::Refused) => {
                sessions.end(&session.account, id).await?;
                Ok(None)
            }
            Err(Failed::Unavailable(_)) => match valid {
                Some(identity) => Ok(Some(of(session, identity, &tokens))),
                None => Err(unavailable()),
            },
        }
    }
}

fn of(mut session: Session, identity: Identity, tokens: &Tokens) -> Session {
    // What a token is made of is what a header is made of.
    let bearer = HeaderValue::try_from(format!("Bearer {}", tokens.access)).ok();
    session.bearer = bearer.map(|mut bearer| {
        bearer.set_sensitive(true);
        bearer
    });
    session.name.clone_from(&identity.name);
    session.roles.clone_from(&identity.roles);
    session.identity = Some(identity);
    session
}
