//! The daemon, and what is done to it and its files.

use std::process::ExitCode;

fn main() -> ExitCode {
    metacrypt::program()
}
