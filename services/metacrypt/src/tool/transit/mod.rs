//! `metacrypt transit`: keys, and what is done with them.
//!
//! What is encrypted, decrypted, signed or verified comes from stdin or a file and goes to stdout as it is, so that it can be piped.

mod key;
mod text;

use clap::Subcommand;
use mcdsl::cli::{Exit, Failure, Output};

use self::{
    key::{Create, Update},
    text::{Plain, Text},
};
use super::{
    At, Client, Result, at, input, json, json_list, mount_name, said, seen, terminal::Raw,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the keys of a mount that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Shows a key: its versions, and the public key of one that signs
    Show {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
    },
    /// Makes a key
    Create(Create),
    /// Changes a key; what is not said stays
    Update(Update),
    /// Makes another version of a key, which is used from now on
    Rotate {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
    },
    /// Removes versions of a key that neither decrypt nor verify any more
    Trim {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Those below it; at most its minimum to decrypt
        #[arg(long, value_name = "N")]
        below: u32,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Deletes a key that is deletable: what it encrypted is lost
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Prints the key itself, of one that was made exportable
    Export {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Which version [default: the newest]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
    /// Encrypts stdin
    Encrypt(Text),
    /// Decrypts stdin, which is what `encrypt` printed
    Decrypt {
        #[command(flatten)]
        text: Text,
        #[command(flatten)]
        raw: Raw,
    },
    /// Encrypts by the newest version what an earlier one encrypted, from stdin; nobody sees the plaintext
    Rewrap(Text),
    /// Signs or authenticates stdin
    Sign(Plain),
    /// Whether a signature is of stdin; exit 1 if not
    Verify {
        #[command(flatten)]
        text: Plain,
        /// As `sign` printed it
        #[arg(long)]
        signature: String,
    },
    /// Makes a random key, in base64, and prints it encrypted as well
    Datakey {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Bytes, 16 to 64
        #[arg(long, value_name = "N", default_value_t = 32)]
        length: u32,
        /// What it belongs to; who decrypts it has to say the same
        #[arg(long, value_name = "TEXT", default_value = "")]
        about: String,
        /// Prints the encrypted one alone
        #[arg(long)]
        only_ciphertext: bool,
    },
    /// Prints random bytes, in base64
    Random {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Bytes, 1 to 4096
        #[arg(long, value_name = "N", default_value_t = 32)]
        length: u32,
    },
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::List { mount } => key::list(client, out, mount).await,
            Self::Encrypt(_) | Self::Decrypt { .. } | Self::Rewrap(_) => {
                self.text(client, out).await
            }
            Self::Sign(_) | Self::Verify { .. } => self.sign(client, out).await,
            Self::Export { .. } | Self::Datakey { .. } | Self::Random { .. } => {
                self.bytes(client, out).await
            }
            _ => self.key(client, out).await,
        }
    }
}

/// The one answer to the one thing that was asked.
fn one<T>(answers: Vec<T>) -> Result<T> {
    let none = || Failure::new(Exit::Failure, "the service answered nothing");
    answers.into_iter().next().ok_or_else(none)
}
