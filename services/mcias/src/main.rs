//! The daemon, and what is done to its files without it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcias::program()
}
