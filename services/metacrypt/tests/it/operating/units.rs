//! What the units of systemd start.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use mc_testkit::process::Process;

use crate::world::World;

/// The words of a unit's setting.
fn setting(unit: &str, key: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(unit);
    let text = fs::read_to_string(path).unwrap();
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let words = values.next().unwrap().split_whitespace();
    words.map(str::to_owned).collect()
}

/// What a unit starts, with no capability but one in the place of LimitMEMLOCK, which not every machine lets a test raise.
fn as_the_unit(unit: &str, root: &Path) -> Command {
    assert_eq!(setting(unit, "NoNewPrivileges"), ["yes"]);
    assert_eq!(setting(unit, "LimitCORE"), ["0"]);
    assert!(setting(unit, "CapabilityBoundingSet").is_empty());
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all,+ipc_lock", "--inh-caps=-all"])
        .arg("--no-new-privs")
        .arg(env!("CARGO_BIN_EXE_metacrypt"))
        .args(&setting(unit, "ExecStart")[1..])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("MC_ROOT", root);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_units_do_what_they_say() {
    let mut world = World::sealed().await;
    world.metacrypt.take().unwrap().terminate().unwrap();
    assert_eq!(setting("metacrypt.service", "LimitMEMLOCK"), ["infinity"]);
    let socket = world.root.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    let mut server = as_the_unit("metacrypt.service", world.root.path());
    let mut server = Process::start(server.env("NOTIFY_SOCKET", &socket)).unwrap();
    server.wait_for_output("ready").unwrap();
    notified
        .set_read_timeout(Some(mc_testkit::DEADLINE))
        .unwrap();
    let mut said = [0; 64];
    let length = notified.recv(&mut said).unwrap();
    assert!(said[..length].starts_with(b"READY=1"), "{said:?}");
    let snapshot = || {
        let made = as_the_unit("metacrypt-snapshot.service", world.root.path()).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
    };
    assert!(snapshot().exists());
    assert!(server.terminate().unwrap().success());
    let log = world.root.path().join("metacrypt.db-wal");
    assert!(!log.exists(), "a stopped service's database is one file");
}
