//! Backends and clients of `cargo xtask bench soak`, which runs them in release in namespaces of their own. An example of this crate
//! and not part of xtask, so that its TLS and HTTP are compiled as the daemon's are.
//!
//! The clients count as failure whatever is not exact: a connection that is refused or reset, a status that is not 200, a sum that is
//! another, a connection that ends without a word. Only an HTTP/2 request that never left, after GOAWAY, is sent again.

mod clients;
mod load;
mod serve;
mod tally;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
enum Cli {
    /// Answer on two ports: HTTP/1.1, and TLS whose bytes are echoed
    Serve {
        #[arg(long)]
        http: SocketAddr,
        #[arg(long)]
        echo: SocketAddr,
    },
    /// Be the clients; prints a line of JSON each second
    Load(Load),
}

#[derive(Clone, Debug, clap::Args)]
struct Load {
    /// The proxy
    #[arg(long)]
    address: SocketAddr,
    /// Name of the L7 route
    #[arg(long)]
    http: String,
    /// Names of the relayed routes
    #[arg(long)]
    relayed: Vec<String>,
    /// The CA's certificate, PEM
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    seconds: u64,
    /// Of all short work together, each second; as much as goes without
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds of a transfer or a tunnel; none without
    #[arg(long)]
    transfers: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Serve { http, echo } => serve::run(http, echo).await,
        Cli::Load(load) => load::run(load).await,
    }
}
