//! The daemon's command line.

use std::{io::ErrorKind, path::PathBuf};

use clap::{Parser, Subcommand};
use mc_proxy::config::{Config, Raw};
use mcdsl::{
    config::{ConfigError, Root},
    telemetry::LogFormat,
};

/// MC-Proxy: in-kernel firewall, SNI router and L4 relay of a node
#[derive(Parser)]
#[command(
    name = "mc-proxy",
    version,
    after_help = "Operate a running daemon with mcproxyctl."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    root: Root,
    /// Configuration file [default: <root>/mc-proxy.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    Server {
        /// Form of the log on stderr
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
        /// Take over from the running daemon that has started this one
        #[arg(long, hide = true)]
        take_over: bool,
    },
    /// Load every eBPF program through the kernel's verifier, attach nothing
    Check,
    /// Check the configuration file and what it names on this machine, start nothing
    CheckConfig,
    /// Take the firewall off every interface and unpin it; needs no daemon. The node is unfiltered then
    Detach,
    /// Write a consistent copy of the database
    Snapshot {
        /// The new file; must not exist
        to: PathBuf,
    },
    /// Say whether the daemon answers: exits with 0 if it does and serves, else with 1
    Status,
    /// Print the version
    Version,
}

impl Cli {
    /// The configuration that it names.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        let root = self.root.of("mc-proxy");
        let file = self
            .config
            .clone()
            .unwrap_or_else(|| root.join("mc-proxy.toml"));
        // Before reading: a change from here on is told.
        let contents = mcdsl::files::read_regular(&file, mcdsl::config::MAX_FILE).ok();
        let loaded = mcdsl::config::load::<Raw>("mc-proxy", Some(&file), std::env::vars());
        let loaded = loaded.map_err(|error| match error {
        ConfigError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            let path = path.display();
            anyhow::anyhow!(
                "permission denied on {path}; run as root or as the daemon's user (sudo mc-proxy …)"
            )
        }
        other => other.into(),
    })?;
        let mut config = Config::check(loaded.value, &file, &root)?;
        config.contents = contents;
        Ok(config)
    }
}
