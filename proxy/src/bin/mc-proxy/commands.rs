//! What needs no daemon, or asks one.

use std::{
    io::{self, ErrorKind},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use mc_proxy::{
    config::Config,
    kernel::{self, Kernel, KernelError},
    preflight, store,
};
use mcdsl::cli::write_out;

/// Whether the file, and what it names on this machine, is fine.
pub(crate) fn check_config(config: &Config) -> io::Result<ExitCode> {
    let problems = preflight::problems(config);
    for problem in &problems {
        eprintln!("error: {}: {problem}", config.file.display());
    }
    if problems.is_empty() {
        write_out(&format!("{} is fine\n", config.file.display()))?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// A consistent copy of the database.
pub(crate) fn snapshot(database: &Path, to: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        database.exists(),
        "there is no database {}; --root or --config names another",
        database.display()
    );
    store::snapshot(database, to)?;
    write_out(&format!("{}\n", to.display()))?;
    Ok(())
}

/// Not under a running daemon, whose maps the next one would not find.
pub(crate) fn detach(pins: &Path) -> anyhow::Result<Vec<String>> {
    if !pins.exists() {
        return Ok(Vec::new());
    }
    let _lock = kernel::lock(pins).map_err(|error| match error {
        KernelError::PinsInUse(path) => anyhow::anyhow!(
            "a running daemon holds the pins in {}; use `mcproxyctl detach`, or stop it first",
            path.display()
        ),
        other => other.into(),
    })?;
    let interfaces = kernel::detach(pins)?;
    match std::fs::remove_dir(pins) {
        // What else is in it is somebody else's.
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
            Err(error).with_context(|| format!("cannot remove {}", pins.display()))
        }
        _ => Ok(interfaces),
    }
}

/// In a pin directory of its own, which it removes: a running daemon's maps are not touched.
pub(crate) fn check(pins: &Path) -> anyhow::Result<()> {
    let pins = pins.with_file_name(format!("mc-proxy-check-{}", std::process::id()));
    let checked = Kernel::open(&pins).and_then(|mut kernel| kernel.check());
    let removed = kernel::detach(&pins)
        .map_err(anyhow::Error::from)
        .and_then(|_| {
            std::fs::remove_dir(&pins).with_context(|| format!("cannot remove {}", pins.display()))
        });
    checked?;
    removed?;
    write_out("this kernel takes every program and map\n")?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn status(socket: &Path) -> anyhow::Result<ExitCode> {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    // First by hand: tonic buries the kind of the error.
    if let Err(error) = tokio::net::UnixStream::connect(socket).await {
        let at = socket.display();
        anyhow::ensure!(
            error.kind() != ErrorKind::PermissionDenied,
            "permission denied on the admin socket {at}; run as root or as the daemon's user (sudo mc-proxy status)"
        );
        write_out(&format!("down: nothing answers on {at}: {error}\n"))?;
        return Ok(ExitCode::FAILURE);
    }
    let channel = mc_proxy::admin::connect(socket).await?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    let status = answer.into_inner().status();
    let (text, code) = match status {
        ServingStatus::Serving => ("serving", ExitCode::SUCCESS),
        ServingStatus::NotServing => (
            "draining: nothing new is accepted, and it ends with its last connection",
            ExitCode::FAILURE,
        ),
        _ => ("unknown", ExitCode::FAILURE),
    };
    write_out(&format!("{text}\n"))?;
    Ok(code)
}
