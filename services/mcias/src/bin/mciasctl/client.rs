//! The connection to MCIAS, and the token that calls carry.

use std::path::PathBuf;

use mc_proto::mcias::v1::{
    accounts_client::AccountsClient, administration_client::AdministrationClient,
    auth_client::AuthClient, profile_client::ProfileClient,
};
pub(crate) use mcdsl::cli::call;
use mcdsl::cli::{Bearer, Exit, Failure, Login, MCIAS, Mcias, StoredToken, token_file};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use crate::Result;

/// Calls with a token.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Connects at the first call, so that what is wrong with the input is told first.
pub(crate) struct Client {
    pub(crate) login: Login,
    pub(crate) token_file: Option<PathBuf>,
}

impl Client {
    pub(crate) fn new(mcias: Mcias, token_file: Option<PathBuf>) -> Self {
        Self {
            login: Login::new(MCIAS, mcias),
            token_file,
        }
    }

    /// Calls without a token.
    pub(crate) async fn anonymous(&mut self) -> Result<AuthClient<Channel>> {
        Ok(AuthClient::new(self.login.channel().await?))
    }

    pub(crate) async fn auth(&mut self) -> Result<AuthClient<Authorized>> {
        let (channel, bearer) = self.authorized().await?;
        Ok(AuthClient::with_interceptor(channel, bearer))
    }

    /// With that token, as it is.
    pub(crate) async fn auth_of(&mut self, token: &StoredToken) -> Result<AuthClient<Authorized>> {
        let bearer = Bearer::new(&token.token)?;
        Ok(AuthClient::with_interceptor(
            self.login.channel().await?,
            bearer,
        ))
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
        let bearer = match &self.token_file {
            Some(path) => Bearer::new(&token_file(path)?)?,
            None => self.login.bearer().await?,
        };
        Ok((self.login.channel().await?, bearer))
    }

    /// Renews the login's token, to have what was kept from it until now.
    pub(crate) async fn refresh(&mut self) -> Result {
        match self.token_file {
            Some(_) => Ok(()),
            None => self.login.refresh().await,
        }
    }
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
