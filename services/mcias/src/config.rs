//! `mcias.toml`.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use mcdsl::{config::ConfigError, server, telemetry::LogConfig};
use serde::Deserialize;

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

impl Config {
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
