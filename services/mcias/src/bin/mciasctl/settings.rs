//! Which MCIAS: by flag, else by environment, else by the file that `login --save` writes.

use std::path::PathBuf;

use mcdsl::{
    cli::{Mcias, ServerUrl},
    config::GLOBAL,
};

use crate::Result;

/// As the arguments are called.
pub(crate) const FLAGS: [&str; 2] = ["--server", "--ca"];

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

impl Connection {
    pub(crate) fn mcias(&self) -> Result<Mcias> {
        Mcias::of(self.server.clone(), self.ca.clone(), FLAGS)
    }
}
