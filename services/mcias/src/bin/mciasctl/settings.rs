//! Which MCIAS: by flag, else by environment, else by the file that `login --save` writes.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use mcdsl::{
    cli::{Failure, PrivateFile, ServerUrl, chain},
    config::{self, GLOBAL},
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// The name of the file.
const FILE: &str = "metacircular/mciasctl.toml";

#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// MCIAS's address, like https://auth.example.org; port 443 unless it says another [default: that of the configuration]
    #[arg(long, global = true, env = "MCIAS_SERVER", value_name = "URL", help_heading = GLOBAL)]
    pub(crate) server: Option<ServerUrl>,
    /// The CA that its certificate leads to, PEM [default: that of the configuration]
    #[arg(long, global = true, env = "MCIAS_CA", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) ca: Option<PathBuf>,
    /// Holds a token to be used instead of one's login
    #[arg(long, global = true, env = "MC_TOKEN_FILE", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) token_file: Option<PathBuf>,
}

/// What the connection is made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) server: ServerUrl,
    pub(crate) ca: PathBuf,
    pub(crate) token_file: Option<PathBuf>,
}

/// The file's contents.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

impl Connection {
    pub(crate) fn settings(&self) -> Result<Settings> {
        self.settings_with(file().as_deref())
    }

    /// With the file at `path`, if there is one.
    pub(crate) fn settings_with(&self, path: Option<&Path>) -> Result<Settings> {
        let kept = match path.filter(|path| path.exists()) {
            // Flags and environment were clap's.
            Some(path) => {
                config::load::<Kept>("mciasctl", Some(path), std::iter::empty())
                    .map_err(|e| Failure::usage(chain(&e)))?
                    .value
            }
            None => Kept::default(),
        };
        let server = self.server.clone().or(kept.server);
        let ca = self.ca.clone().or(kept.ca);
        let settings = |(server, ca)| Settings {
            server,
            ca,
            token_file: self.token_file.clone(),
        };
        let missing = (server.is_none(), ca.is_none());
        server
            .zip(ca)
            .map(settings)
            .ok_or_else(|| unset(missing, path))
    }
}

/// Tells all that has to be set at once, and where.
fn unset(missing: (bool, bool), path: Option<&Path>) -> Failure {
    const SERVER: &str = "MCIAS's address (--server https://HOST, MCIAS_SERVER or `server`)";
    const CA: &str = "the CA that its certificate leads to (--ca FILE, MCIAS_CA or `ca`)";
    let what = match missing {
        (true, true) => format!("{SERVER} and {CA} are not set"),
        (true, false) => format!("{SERVER} is not set"),
        _ => format!("{CA} is not set"),
    };
    let file = path.map_or_else(
        || "a file in HOME or XDG_CONFIG_HOME".into(),
        Path::to_string_lossy,
    );
    Failure::usage(what).hint(format_args!(
        "`server` and `ca` are keys of {file}: `mciasctl login --server URL --ca FILE --save` writes them there"
    ))
}

impl Settings {
    /// Remembers server and CA, and says where.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let path = file().ok_or_else(|| {
            Failure::usage("there is no place for the configuration")
                .hint("set HOME or XDG_CONFIG_HOME")
        })?;
        self.save_to(&path)?;
        Ok(path)
    }

    pub(crate) fn save_to(&self, path: &Path) -> Result {
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

/// By the XDG Base Directory Specification.
fn file() -> Option<PathBuf> {
    let home = || Some(env::home_dir()?.join(".config"));
    let directory = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let directory = directory.filter(|d| d.is_absolute()).or_else(home)?;
    directory.is_absolute().then(|| directory.join(FILE))
}
