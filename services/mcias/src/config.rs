//! `mcias.toml`.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use mcdsl::{
    cidr,
    cli::chain,
    config::{ConfigError, SettingError},
    files::directory_of,
    owner, server,
    telemetry::LogConfig,
};
use serde::Deserialize;
use url::Url;

use crate::{breached, seal};

/// The configuration. Paths are relative to the service's root.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// `[server]`.
    pub server: server::Config,
    /// `[database]`.
    #[serde(default)]
    pub database: Database,
    /// `[token]`.
    pub token: Token,
    /// `[password]`.
    #[serde(default)]
    pub password: Password,
    /// `[guessing]`.
    #[serde(default)]
    pub guessing: Guessing,
    /// `[log]`.
    #[serde(default)]
    pub log: LogConfig,
}

/// `[database]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Database {
    /// The database.
    pub path: PathBuf,
    /// The key that its secrets are sealed with; not in snapshots.
    pub master_key: PathBuf,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: "mcias.db".into(),
            master_key: "master.key".into(),
        }
    }
}

/// `[token]`.
#[derive(Clone, Debug, Deserialize)]
pub struct Token {
    /// `iss` of every token: this service's address, `https://` and a name. Never changes: the database remembers it.
    pub issuer: String,
}

/// `[password]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Password {
    /// A list of breached passwords: SHA-1 in hexadecimal, sorted, a line each.
    pub breached: Option<PathBuf>,
}

/// `[guessing]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Guessing {
    /// Networks that are never banned, whatever comes from there: this machine, its proxies.
    #[serde(deserialize_with = "cidr::list")]
    pub never_ban: Vec<IpNet>,
}

impl Default for Guessing {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            never_ban: loopback.iter().filter_map(|net| net.parse().ok()).collect(),
        }
    }
}

/// What was found of the configuration, as far as it is not the database's matter: all that is wrong, and what was made of it.
pub struct Examined {
    pub(crate) server: server::Examined,
    breached: Option<breached::List>,
    /// The settings that cannot be used, why, and what would be right; those of `[server]` are there.
    pub(crate) problems: Vec<SettingError>,
}

/// A configuration that can be used, with what was read for that: nothing is read twice for a start.
pub struct Checked {
    pub(crate) config: Config,
    pub(crate) server: server::Checked,
    pub(crate) breached: Option<breached::List>,
}

impl Config {
    /// Whether a service can be made or started with it, as far as it is not the database's matter. The one judge for the start and `status`.
    ///
    /// # Errors
    /// The first setting that cannot be used, why, and what would be right.
    pub fn check(self) -> Result<Checked, SettingError> {
        let Examined {
            server,
            breached,
            problems,
        } = self.examine();
        problems.into_iter().next().map_or(Ok(()), Err)?;
        Ok(Checked {
            server: server.checked()?,
            breached,
            config: self,
        })
    }

    /// The same, all that is wrong.
    #[must_use]
    pub fn examine(&self) -> Examined {
        let mut problems = Vec::new();
        let filter = self.log.filter();
        let filter = filter.map_err(|e| SettingError::new("log.level", chain(&e)));
        problems.extend(filter.err());
        problems.extend(self.check_issuer().err());
        let breached = self.breached().unwrap_or_else(|error| {
            problems.push(error);
            None
        });
        Examined {
            server: self.server.examine(),
            breached,
            problems,
        }
    }

    /// The list of breached passwords, if there is to be one.
    ///
    /// # Errors
    /// If it is none.
    fn breached(&self) -> Result<Option<breached::List>, SettingError> {
        let list = self.password.breached.as_deref().map(breached::List::open);
        list.transpose().map_err(|e| {
            let text = format!("{}; name such a list, or leave it out", chain(&e));
            SettingError::new("password.breached", text)
        })
    }

    /// What of the service's files is another user's than whom it runs as, a sentence each.
    pub(crate) fn foreign_files(&self) -> Vec<String> {
        let Database { path, master_key } = &self.database;
        let mut files = vec![master_key.clone()];
        files.extend(["", "-wal", "-shm", ".lock"].map(|suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        }));
        owner::foreign(directory_of(path), &files)
    }

    /// The key that the database's secrets are sealed with.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn seal(&self) -> Result<seal::Key, SettingError> {
        let key = seal::Key::read(&self.database.master_key);
        key.map_err(|e| SettingError::new("database.master_key", chain(&e)))
    }

    /// Whether the issuer can be one.
    ///
    /// # Errors
    /// If it is not this service's address.
    pub(crate) fn check_issuer(&self) -> Result<(), SettingError> {
        let issuer = &self.token.issuer;
        let parsed = Url::parse(issuer).ok();
        let fine = parsed.is_some_and(|url| {
            // What a client builds from it has to be what it says, byte for byte (OpenID Connect Discovery §4.3).
            // A passkey is a domain's, never an address' (WebAuthn, "RP ID").
            url.scheme() == "https"
                && url.domain().is_some()
                && url.origin().ascii_serialization() == *issuer
        });
        if fine {
            return Ok(());
        }
        let text = format!(
            "{issuer:?} is not https:// and the name, no IP address, that this service is reached at, without a path; write it like https://auth.example.org"
        );
        Err(SettingError::new("token.issuer", text))
    }

    /// From `<root>/mcias.toml` or another file, and the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(
        root: &Path,
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = file.map_or_else(|| root.join("mcias.toml"), Path::to_owned);
        let loaded = mcdsl::config::load::<Self>(crate::SERVICE, Some(&file), env)?;
        let mut config = loaded.value;
        config
            .server
            .settle(root, |name| std::env::var(name).ok())?;
        let mut paths = vec![&mut config.database.path, &mut config.database.master_key];
        paths.extend(config.password.breached.as_mut());
        for path in paths {
            *path = root.join(&*path);
        }
        Ok(config)
    }
}
