//! Running other programs.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, ErrorKind, Write, pipe, stdout},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};

/// `cargo`, in the workspace's directory: the same that runs us.
pub(crate) fn cargo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::workspace());
    command
}

/// Shows the command and runs it, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("+ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Like [`run`], and returns those lines of its output (stdout and stderr, which are shown too) that `wanted` picks.
pub(crate) fn run_picking(
    command: &mut Command,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>> {
    println!("+ {}", shown(command));
    let (reader, writer) = pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdout(writer.try_clone().context("cannot make a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    // The command keeps the writing ends open; without this the reading never ends.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut picked = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cannot read the output")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(stdout(), "{line}").context("cannot write to stdout")?;
        if wanted(&line) {
            picked.push(line.trim().to_owned());
        }
    }
    let status = child.wait().context("cannot wait for a child")?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(picked)
}

/// Runs it silently and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!(
            "`{}` failed ({status}): {}",
            shown(command),
            String::from_utf8_lossy(&stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Whether a program of this name can be found.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(sbin)
        .any(|directory| directory.join(program).is_file())
}

/// Removes a file or a directory with all in it; it need not exist.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// As it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
