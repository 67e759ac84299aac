//! `<root>/<service>.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    auth::client,
    config::{ConfigError, load},
    server,
    telemetry::LogConfig,
    web::sso,
};

/// A service's configuration; `T` is its own section. Paths are relative to the service's root.
#[derive(Clone, Debug, Deserialize)]
pub struct Config<T> {
    /// `[server]`.
    pub server: server::Config,
    /// `[database]`.
    #[serde(default)]
    pub database: Database,
    /// `[mcias]`.
    pub mcias: client::Config,
    /// `[sso]`.
    pub sso: sso::Config,
    /// `[log]`.
    #[serde(default)]
    pub log: LogConfig,
    /// `[service]`: what no other service has.
    #[serde(default)]
    pub service: T,
    /// The service's root, which no file says.
    #[serde(skip)]
    pub root: PathBuf,
}

/// `[database]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Database {
    /// The database; by default `<service>.db`.
    #[serde(default)]
    pub path: PathBuf,
}

impl<T: DeserializeOwned + Default> Config<T> {
    /// From `<root>/<service>.toml` or another file, and the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(
        service: &str,
        root: &Path,
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let env: Vec<_> = env.collect();
        let file = file.map_or_else(|| root.join(format!("{service}.toml")), Path::to_owned);
        let mut config = load::<Self>(service, Some(&file), env.iter().cloned())?.value;
        let found = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        config.server.settle(root, found)?;
        if config.database.path.as_os_str().is_empty() {
            config.database.path = format!("{service}.db").into();
        }
        for path in [
            &mut config.database.path,
            &mut config.mcias.ca_cert,
            &mut config.mcias.token_file,
            &mut config.sso.client_secret_file,
        ] {
            *path = root.join(&*path);
        }
        root.clone_into(&mut config.root);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[server]\nlisten = '127.0.0.1:8443'\ngrpc_listen = '127.0.0.1:9443'\ntls_cert = 'a.crt'\n\
        tls_key = '/k/a.key'\n[mcias]\nserver_url = 'https://m:1'\nca_cert = 'ca.pem'\nservice_name = 'notes'\n\
        token_file = 'token'\n[sso]\nissuer = 'https://m'\npublic_url = 'https://n'\nclient_secret_file = 'secret'\n";

    #[derive(Debug, Default, Deserialize)]
    struct Own {
        #[serde(default)]
        size: u32,
    }

    #[test]
    fn paths_are_the_roots_and_ports_the_environments() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("notes.toml"), TEXT).unwrap();
        let env = [
            ("PORT", "1"),
            ("PORT_GRPC", "2"),
            ("NOTES_SERVICE_SIZE", "7"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::<Own>::load("notes", root.path(), None, env.into_iter()).unwrap();
        assert_eq!(config.database.path, root.path().join("notes.db"));
        assert_eq!(config.server.tls_cert, root.path().join("a.crt"));
        assert_eq!(config.server.tls_key, Path::new("/k/a.key"));
        assert_eq!(config.mcias.token_file, root.path().join("token"));
        assert_eq!(config.sso.client_secret_file, root.path().join("secret"));
        assert_eq!(
            (
                config.server.listen.port(),
                config.server.grpc_listen.port()
            ),
            (1, 2)
        );
        assert_eq!(
            (config.service.size, config.root.as_path()),
            (7, root.path())
        );
    }

    #[test]
    fn a_service_without_a_section_of_its_own_takes_none() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("notes.toml");
        for (text, fine) in [
            ("", true),
            ("[service]\nsize = 1\n", false),
            ("[root]\n", false),
        ] {
            std::fs::write(&file, format!("{TEXT}{text}")).unwrap();
            let config = Config::<()>::load("notes", root.path(), None, std::iter::empty());
            assert_eq!(config.is_ok(), fine, "{text:?}: {config:?}");
        }
    }
}
