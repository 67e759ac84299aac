//! mciasctl: accounts, tokens, policy and one's own profile, through MCIAS's gRPC.
//!
//! Each area has a module with its arguments, the requests made of them, and how answers are shown. Input is checked here for a clear message at
//! once; the daemon is the judge all the same. What nobody but the person may see is asked for, or read from stdin; it is no argument.

mod account;
mod audit;
mod ban;
mod client;
mod device;
mod failures;
mod login;
mod operations;
mod parse;
mod policy;
mod profile;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod token;
mod totp;
mod update;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mcdsl::{
    cli::{self, Failure, Output},
    config::GLOBAL,
};

use client::Client;
use settings::Connection;

type Result<T = ()> = std::result::Result<T, Failure>;

/// Controls MCIAS: identity and access.
#[derive(Debug, Parser)]
#[command(name = "mciasctl", version, arg_required_else_help = true)]
struct Cli {
    /// Prints JSON, errors included
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Logs in; the token is kept for the commands that follow, and renewed by them
    Login(login::Login),
    /// Ends the login, here and at MCIAS
    Logout(login::Logout),
    /// Shows who is logged in
    Whoami,
    /// Accounts of people and of systems
    #[command(subcommand)]
    Account(account::Command),
    /// Tokens of system accounts
    #[command(subcommand)]
    Token(token::Command),
    /// Makes tokens void before they expire: all of an account, or everybody's
    Revoke(token::Revoke),
    /// Who may log in where
    #[command(subcommand)]
    Policy(policy::Command),
    /// What tokens may be for
    #[command(subcommand)]
    Service(service::Command),
    /// Who did what
    #[command(subcommand)]
    Audit(audit::Command),
    /// Networks that are kept away for failed logins
    #[command(subcommand)]
    Ban(ban::Command),
    /// The daemon
    Status,
    /// Makes a consistent copy of the database, beside it
    Snapshot,
    /// The key that tokens are signed with
    #[command(subcommand)]
    Key(operations::Key),
    /// One's own account: password, second factors, sessions
    #[command(subcommand)]
    Profile(profile::Command),
    /// Prints a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    cli::run(|cli: &Cli| cli.json, run)
}

async fn run(cli: Cli, out: Output) -> Result {
    if let Command::Completions { shell } = cli.command {
        return Ok(cli::completions::<Cli>(shell)?);
    }
    let mut client = Client::new(cli.connection.mcias()?, cli.connection.token_file.clone());
    match &cli.command {
        Command::Login(c) => c.run(&mut client, out).await,
        Command::Logout(c) => c.run(&mut client, out).await,
        Command::Whoami => login::whoami(&mut client, out).await,
        Command::Account(c) => c.run(&mut client, out).await,
        Command::Token(c) => c.run(&mut client, out).await,
        Command::Revoke(c) => c.run(&mut client, out).await,
        Command::Policy(c) => c.run(&mut client, out).await,
        Command::Service(c) => c.run(&mut client, out).await,
        Command::Audit(c) => c.run(&mut client, out).await,
        Command::Ban(c) => c.run(&mut client, out).await,
        Command::Status => operations::status(&mut client, out).await,
        Command::Snapshot => operations::snapshot(&mut client, out).await,
        Command::Key(c) => c.run(&mut client, out).await,
        Command::Profile(c) => c.run(&mut client, out).await,
        Command::Completions { .. } => Ok(()),
    }
}
