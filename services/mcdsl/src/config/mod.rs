//! Configuration: a TOML file, then the environment, parsed once into the service's own types.
//!
//! - An unknown key is an error that names it, its file and the key that was probably meant; all are listed at once.
//! - `<SERVICE>_<SECTION>_<KEY>` overrides a key (`mc-proxy`, `[server] listen` → `MC_PROXY_SERVER_LISTEN`), nested
//!   sections likewise. The text is read as the type that the key has: a list as `a,b` or a TOML array, a
//!   section as an inline table. An override that names no key is an error too, for it would be silently without
//!   effect; exempt are [`EXEMPT`], which command-line flags read.
//! - `$PORT` / `$PORT_<NAME>` win over both ([`with_port`]).
//!
//! The types say which keys exist: serde hands every struct's field names to the deserializer ([`layer`]), so there
//! is no second list of keys to keep true. Rejected: `deny_unknown_fields` (stops at the first, suggests nothing) and
//! serde_ignored (knows what was ignored, not what could have been meant, nor how to split `A_B_C` into sections).

mod layer;
mod names;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

pub use self::names::nearest;
use crate::files;

/// Variables (after the service's prefix) that flags read, of the service or of its tool, not the configuration.
pub const EXEMPT: [&str; 6] = ["ROOT", "CONFIG", "SOCKET", "SERVER", "CA", "LOG_FORMAT"];
/// Bytes of a configuration file. None is longer; a mistaken path (a device, a log) is refused instead of read.
pub const MAX_FILE: u64 = 16 << 20;

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// The file, if there was one.
    pub path: Option<PathBuf>,
    /// Names of the environment variables that overrode a key, for the log.
    pub overrides: Vec<String>,
}

/// A failure to load the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("no configuration file {path}; write one there, or name another with --config")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and why.
        message: String,
    },
    /// A key is missing or has a value of the wrong kind.
    #[error("{origin}: {message}")]
    Value {
        /// The file and key, or the environment variable.
        origin: String,
        /// Why.
        message: String,
    },
    /// Keys or variables that mean nothing.
    #[error("{}", .0.join("\n"))]
    Unknown(Vec<String>),
    /// `$PORT` or `$PORT_<NAME>` is not a port.
    #[error("{variable}={text:?} is not a port (0 to 65535)")]
    Port {
        /// The variable.
        variable: String,
        /// Its text.
        text: String,
    },
}

/// A setting that was read and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingError {
    /// Which, as `section.key`.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl SettingError {
    /// Of a key.
    pub fn new(key: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { key, problem }
    }
}

/// Loads a service's configuration. Without a path only the environment and the type's defaults speak; a path
/// must exist (a caller whose file is optional passes `path.exists().then_some(path)`).
///
/// # Errors
/// [`ConfigError`], naming the file or variable, the key and what to do.
pub fn load<T: DeserializeOwned>(
    service: &str,
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let text = path.map(read).transpose()?.unwrap_or_default();
    let origin = path.map(|p| p.display().to_string());
    let table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| ConfigError::Syntax {
            path: path.map(Path::to_owned).unwrap_or_default(),
            message: e.to_string(),
        })?;
    let prefix = format!("{}_", names::variable_name(service));
    let variables = env.filter_map(|(name, text)| {
        let rest = name.strip_prefix(&prefix)?.to_owned();
        (!rest.is_empty() && !EXEMPT.contains(&rest.as_str())).then_some(layer::Override {
            name,
            rest,
            text,
        })
    });
    let variables: Vec<_> = variables.collect();
    let overrides = variables.iter().map(|o| o.name.clone()).collect();
    let value = layer::deserialize(origin.as_deref(), table, variables)?;
    Ok(Loaded {
        value,
        path: path.map(Path::to_owned),
        overrides,
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing {
            path: path.to_owned(),
        },
        _ => ConfigError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let bytes = files::read_regular(path, MAX_FILE).map_err(failed)?;
    String::from_utf8(bytes).map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e)))
}

/// Puts `$PORT` (without a name) or `$PORT_<NAME>` into a listen address, if the variable is set.
///
/// # Errors
/// [`ConfigError::Port`] if it is not a port number.
pub fn with_port(
    address: SocketAddr,
    name: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<SocketAddr, ConfigError> {
    let variable = match name {
        None => "PORT".to_owned(),
        Some(name) => format!("PORT_{}", names::variable_name(name)),
    };
    let Some(text) = env(&variable) else {
        return Ok(address);
    };
    match text.parse() {
        Ok(port) => Ok(SocketAddr::new(address.ip(), port)),
        Err(_) => Err(ConfigError::Port { variable, text }),
    }
}

/// The variable of a flag: `<SERVICE>_<FLAG>`.
#[cfg(feature = "web")]
pub(crate) fn variable(service: &str, flag: &str) -> String {
    format!("{}_{flag}", names::variable_name(service))
}

/// Heading of the flags that every subcommand takes, apart from its own in `--help`.
pub const GLOBAL: &str = "Common options";

/// The flag every binary has: where the service's files are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Root {
    /// Directory of the service's files [default: /srv/<service>]
    #[arg(long, env = "MC_ROOT", global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub root: Option<PathBuf>,
}

impl Root {
    /// The flag's or `MC_ROOT`'s directory, else `/srv/<service>`.
    pub fn of(&self, service: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.clone(),
            None => Path::new("/srv").join(service),
        }
    }
}

#[cfg(test)]
mod tests;
