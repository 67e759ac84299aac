//! `cargo xtask ebpf`: builds the eBPF programs and has this machine's kernel verify them.

use std::process::Command;

use anyhow::Result;

use crate::{
    command::{cargo, run},
    setup::{self, Need},
};

pub(crate) fn ebpf() -> Result<()> {
    setup::ensure(&[Need::Build, Need::Run])?;
    build()?;
    run(Command::new(crate::binary("mc-proxy")).arg("check"))
}

/// Builds everything. Always the whole workspace: a part of it would resolve other features and build the dependencies again.
pub(crate) fn build() -> Result<()> {
    run(&mut cargo(["build", "--workspace"]))
}
