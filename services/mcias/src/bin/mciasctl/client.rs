//! The connection to MCIAS, and the token that calls carry.

use std::time::{Duration, SystemTime};

use mc_proto::mcias::v1::{
    LoginResponse, RenewRequest, accounts_client::AccountsClient,
    administration_client::AdministrationClient, auth_client::AuthClient,
    profile_client::ProfileClient,
};
use mcdsl::cli::{
    Bearer, Exit, Failure, StoredToken, TokenStore, check_ca, connect, status_failure, token_file,
};
use tonic::{Code, Response, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{Result, settings::Settings};

/// The service that tokens for MCIAS itself are kept of.
pub(crate) const MCIAS: &str = "mcias";
/// A token with less left is renewed by the command that finds it so.
const RENEW: Duration = Duration::from_secs(10 * 60);

/// Calls with a token.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Connects at the first call, so that what is wrong with the input is told first.
pub(crate) struct Client {
    pub(crate) settings: Settings,
    channel: Option<Channel>,
    bearer: Option<Bearer>,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            channel: None,
            bearer: None,
        }
    }

    async fn channel(&mut self) -> Result<Channel> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => connect(&self.settings.server, &self.settings.ca).await?,
        };
        Ok(self.channel.insert(channel).clone())
    }

    /// Calls without a token.
    pub(crate) async fn anonymous(&mut self) -> Result<AuthClient<Channel>> {
        Ok(AuthClient::new(self.channel().await?))
    }

    pub(crate) async fn auth(&mut self) -> Result<AuthClient<Authorized>> {
        let (channel, bearer) = self.authorized().await?;
        Ok(AuthClient::with_interceptor(channel, bearer))
    }

    /// With that token, as it is.
    pub(crate) async fn auth_of(&mut self, token: &StoredToken) -> Result<AuthClient<Authorized>> {
        let bearer = Bearer::new(&token.token)?;
        Ok(AuthClient::with_interceptor(self.channel().await?, bearer))
    }

    pub(crate) async fn accounts(&mut self) -> Result<AccountsClient<Authorized>> {
        let (channel, bearer) = self.authorized().await?;
        Ok(AccountsClient::with_interceptor(channel, bearer))
    }

    pub(crate) async fn administration(&mut self) -> Result<AdministrationClient<Authorized>> {
        let (channel, bearer) = self.authorized().await?;
        Ok(AdministrationClient::with_interceptor(channel, bearer))
    }

    pub(crate) async fn profile(&mut self) -> Result<ProfileClient<Authorized>> {
        let (channel, bearer) = self.authorized().await?;
        Ok(ProfileClient::with_interceptor(channel, bearer))
    }

    /// With a token, renewed if it is about to end.
    async fn authorized(&mut self) -> Result<(Channel, Bearer)> {
        if let Some(bearer) = self.bearer.clone() {
            return Ok((self.channel().await?, bearer));
        }
        let bearer = match &self.settings.token_file {
            Some(path) => Bearer::new(&token_file(path)?)?,
            None => {
                // What was named wrongly comes before a login that is not there.
                check_ca(&self.settings.ca)?;
                let store = TokenStore::of(MCIAS)?;
                let kept = self.kept(&store)?.ok_or_else(|| self.logged_out())?;
                Bearer::new(&self.renewed(&store, kept).await?.token)?
            }
        };
        Ok((self.channel().await?, self.bearer.insert(bearer).clone()))
    }

    /// The login that is kept.
    pub(crate) fn kept(&self, store: &TokenStore) -> Result<Option<StoredToken>> {
        store.get(&self.settings.server, SystemTime::now())
    }

    fn logged_out(&self) -> Failure {
        let what = format!("not logged in to {}", self.settings.server);
        Failure::new(Exit::Refused, what).hint("`mciasctl login`")
    }

    async fn renewed(&mut self, store: &TokenStore, kept: StoredToken) -> Result<StoredToken> {
        match is_due(&kept, SystemTime::now()) {
            true => {
                self.renew(store, |kept| is_due(kept, SystemTime::now()))
                    .await
            }
            false => Ok(kept),
        }
    }

    /// Renews the login's token, to have what was kept from it until now.
    pub(crate) async fn refresh(&mut self) -> Result {
        if self.settings.token_file.is_none() {
            self.renew(&TokenStore::of(MCIAS)?, |_| true).await?;
        }
        Ok(())
    }

    /// Renews the token that is kept, if `due` says so of it. It is looked at under the lock: renewing makes the token before void, also for
    /// a command that runs at the same time, so that one of them does it and the other has its outcome.
    async fn renew(
        &mut self,
        store: &TokenStore,
        due: impl Fn(&StoredToken) -> bool,
    ) -> Result<StoredToken> {
        let channel = self.channel().await?;
        let locked = store.lock()?;
        let kept = self.kept(store)?.ok_or_else(|| self.logged_out())?;
        if !due(&kept) {
            return Ok(kept);
        }
        let mut auth = AuthClient::with_interceptor(channel, Bearer::new(&kept.token)?);
        // Before: with the answer the token that is kept is void.
        let room = store.room(SystemTime::now())?;
        match auth.renew(RenewRequest {}).await {
            Ok(answer) => {
                let token = stored(&kept.account, answer.into_inner())?;
                locked.put(room, &self.settings.server, &token, SystemTime::now())?;
                Ok(token)
            }
            Err(status) if status.code() == Code::Unauthenticated => {
                locked.remove(&self.settings.server, SystemTime::now())?;
                Err(status_failure(&status))
            }
            // It is still good for a while.
            Err(_) => Ok(kept),
        }
    }
}

fn is_due(token: &StoredToken, now: SystemTime) -> bool {
    token
        .expires
        .duration_since(now)
        .is_ok_and(|left| left < RENEW)
}

/// A token that was answered, to be kept.
pub(crate) fn stored(account: &str, answer: LoginResponse) -> Result<StoredToken> {
    let expires = answer.expires.and_then(|at| SystemTime::try_from(at).ok());
    let expires = expires.filter(|_| !answer.token.is_empty());
    Ok(StoredToken {
        account: account.to_owned(),
        token: answer.token.into(),
        expires: expires
            .ok_or_else(|| Failure::new(Exit::Failure, "MCIAS answered without a token"))?,
    })
}

/// That there is one of that name: nobody is asked about what there is not.
pub(crate) fn exists<'n>(
    what: &str,
    name: &str,
    mut there: impl Iterator<Item = &'n String>,
) -> Result {
    match there.any(|known| known == name) {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::NotFound,
            format_args!("there is no {what} {name:?}"),
        )),
    }
}

/// Awaits an answer.
pub(crate) async fn call<T>(
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match answer.await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(status_failure(&status)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn tokens_are_renewed_at_the_end_of_their_time() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (description, left, due) in [
            ("an hour left", 3600, false),
            ("ten minutes left", 600, false),
            ("less", 599, true),
        ] {
            let token = StoredToken {
                account: "ada".to_owned(),
                token: "abc".into(),
                expires: now + Duration::from_secs(left),
            };
            assert_eq!(is_due(&token, now), due, "{description}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_none() {
        let expires = "2030-01-01T00:00:00Z".parse().ok();
        for (description, token, expires, fine) in [
            ("both", "abc", expires, true),
            ("no token", "", expires, false),
            ("no end", "abc", None, false),
        ] {
            let answer = LoginResponse {
                token: token.to_owned(),
                expires,
                ..LoginResponse::default()
            };
            assert_eq!(stored("ada", answer).is_ok(), fine, "{description}");
        }
    }
}
