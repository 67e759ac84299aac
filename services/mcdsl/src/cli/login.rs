//! A login at MCIAS as the tools of all services use it: `mciasctl login` keeps its token, and whoever finds it about to end renews it.
//!
//! Which MCIAS that is: by flag or environment, else by the file that `mciasctl login --save` writes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mc_proto::mcias::v1::{LoginResponse, RenewRequest, auth_client::AuthClient};
use serde::{Deserialize, Serialize};
use tonic::{Code, transport::Channel};

use super::{
    Bearer, Exit, Failure, PrivateFile, ServerUrl, StoredToken, TokenStore, chain, check_ca,
    connect, status_failure,
};
use crate::config;

/// The service that tokens for MCIAS itself are kept of.
pub const MCIAS: &str = "mcias";
/// A token with less left is renewed by the command that finds it so.
const RENEW: Duration = Duration::from_secs(10 * 60);
/// The name of the file.
const FILE: &str = "metacircular/mciasctl.toml";

type Result<T = ()> = std::result::Result<T, Failure>;

/// An MCIAS, and the CA that its certificate leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mcias {
    /// Its address.
    pub server: ServerUrl,
    /// PEM.
    pub ca: PathBuf,
}

/// The file's contents.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

impl Mcias {
    /// What flags (of these names) and environment say; the rest by the person's file.
    ///
    /// # Errors
    /// [`Exit::Usage`] if something is said by neither, or the file is none.
    pub fn of(
        server: Option<ServerUrl>,
        ca: Option<PathBuf>,
        flags: [&'static str; 2],
    ) -> Result<Self> {
        Self::with(server, ca, flags, file().as_deref())
    }

    /// As [`Self::of`], with the file at `path`, if there is one.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with(
        server: Option<ServerUrl>,
        ca: Option<PathBuf>,
        flags: [&'static str; 2],
        path: Option<&Path>,
    ) -> Result<Self> {
        let kept = match path.filter(|path| path.exists()) {
            // Flags and environment were clap's.
            Some(path) => {
                config::load::<Kept>("mciasctl", Some(path), std::iter::empty())
                    .map_err(|e| Failure::usage(chain(&e)))?
                    .value
            }
            None => Kept::default(),
        };
        let (server, ca) = (server.or(kept.server), ca.or(kept.ca));
        let missing = (server.is_none(), ca.is_none());
        let both = server.zip(ca).map(|(server, ca)| Self { server, ca });
        both.ok_or_else(|| unset(missing, flags, path))
    }

    /// Remembers it in the person's file, and says where that is.
    ///
    /// # Errors
    /// If there is no place for it, or it cannot be written.
    pub fn save(&self) -> Result<PathBuf> {
        let path = file().ok_or_else(|| {
            Failure::usage("there is no place for the configuration")
                .hint("set HOME or XDG_CONFIG_HOME")
        })?;
        self.save_to(&path)?;
        Ok(path)
    }

    /// Remembers it in the file at `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_to(&self, path: &Path) -> Result {
        // The file is read from other directories.
        let ca = std::path::absolute(&self.ca)
            .map_err(|e| Failure::usage(format_args!("{}: {e}", self.ca.display())))?;
        let kept = Kept {
            server: Some(self.server.clone()),
            ca: Some(ca),
        };
        let text = toml::to_string(&kept)
            .map_err(|e| Failure::usage(format_args!("cannot write the configuration: {e}")))?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|e| {
                Failure::usage(format_args!("cannot make {}: {e}", directory.display()))
            })?;
        }
        PrivateFile::create(path)?.write(text.as_bytes())
    }
}

/// Tells all that has to be set at once, and where.
fn unset(missing: (bool, bool), flags: [&str; 2], path: Option<&Path>) -> Failure {
    let [server, ca] = flags;
    let server = format!("MCIAS's address ({server} https://HOST, MCIAS_SERVER or `server`)");
    let ca = format!("the CA that its certificate leads to ({ca} FILE, MCIAS_CA or `ca`)");
    let what = match missing {
        (true, true) => format!("{server} and {ca} are not set"),
        (true, false) => format!("{server} is not set"),
        _ => format!("{ca} is not set"),
    };
    let file = path.map_or_else(
        || "a file in HOME or XDG_CONFIG_HOME".into(),
        Path::to_string_lossy,
    );
    Failure::usage(what).hint(format_args!(
        "`server` and `ca` are keys of {file}: `mciasctl login --server URL --ca FILE --save` writes them there"
    ))
}

/// By the XDG Base Directory Specification.
fn file() -> Option<PathBuf> {
    let home = || Some(env::home_dir()?.join(".config"));
    let directory = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let directory = directory.filter(|d| d.is_absolute()).or_else(home)?;
    directory.is_absolute().then(|| directory.join(FILE))
}

/// A login to one service.
pub struct Login {
    service: &'static str,
    mcias: Mcias,
    channel: Option<Channel>,
    bearer: Option<Bearer>,
}

impl Login {
    /// Connects to MCIAS when that is asked for something.
    #[must_use]
    pub fn new(service: &'static str, mcias: Mcias) -> Self {
        Self {
            service,
            mcias,
            channel: None,
            bearer: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn mcias(&self) -> &Mcias {
        &self.mcias
    }

    /// MCIAS.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn channel(&mut self) -> Result<Channel> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => connect(&self.mcias.server, &self.mcias.ca).await?,
        };
        Ok(self.channel.insert(channel).clone())
    }

    /// The login's token, renewed if it is about to end.
    ///
    /// # Errors
    /// [`Exit::Refused`] if nobody is logged in, and those of [`TokenStore`].
    pub async fn bearer(&mut self) -> Result<Bearer> {
        if let Some(bearer) = self.bearer.clone() {
            return Ok(bearer);
        }
        // What was named wrongly comes before a login that is not there.
        check_ca(&self.mcias.ca)?;
        let store = TokenStore::of(self.service)?;
        let kept = self.kept(&store)?.ok_or_else(|| self.logged_out())?;
        let token = match is_due(&kept, SystemTime::now()) {
            true => {
                let due = |kept: &StoredToken| is_due(kept, SystemTime::now());
                self.renew(&store, due).await?
            }
            false => kept,
        };
        Ok(self.bearer.insert(Bearer::new(&token.token)?).clone())
    }

    /// What is kept of it.
    ///
    /// # Errors
    /// Those of [`TokenStore`].
    pub fn kept(&self, store: &TokenStore) -> Result<Option<StoredToken>> {
        store.get(&self.mcias.server, SystemTime::now())
    }

    /// Renews the token, to have what was kept from it until now.
    ///
    /// # Errors
    /// As [`Self::bearer`].
    pub async fn refresh(&mut self) -> Result {
        self.renew(&TokenStore::of(self.service)?, |_| true).await?;
        Ok(())
    }

    fn logged_out(&self) -> Failure {
        let (server, service) = (&self.mcias.server, self.service);
        match service {
            MCIAS => Failure::new(Exit::Refused, format_args!("not logged in to {server}"))
                .hint("`mciasctl login`"),
            _ => Failure::new(
                Exit::Refused,
                format_args!("not logged in at {server} to {service}"),
            )
            .hint(format_args!("`mciasctl login --service {service}`")),
        }
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
                locked.put(room, &self.mcias.server, &token, SystemTime::now())?;
                Ok(token)
            }
            Err(status) if status.code() == Code::Unauthenticated => {
                locked.remove(&self.mcias.server, SystemTime::now())?;
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
///
/// # Errors
/// If there is none in the answer, or no end of it.
pub fn stored(account: &str, answer: LoginResponse) -> Result<StoredToken> {
    let expires = answer.expires.and_then(|at| SystemTime::try_from(at).ok());
    let expires = expires.filter(|_| !answer.token.is_empty());
    Ok(StoredToken {
        account: account.to_owned(),
        token: answer.token.into(),
        expires: expires
            .ok_or_else(|| Failure::new(Exit::Failure, "MCIAS answered without a token"))?,
    })
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
