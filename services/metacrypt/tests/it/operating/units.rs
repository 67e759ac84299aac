//! What the units of systemd start.

use std::path::PathBuf;

use mc_testkit::unit::Unit;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_units_do_what_they_say() {
    let mut world = World::sealed().await;
    world.metacrypt.take().unwrap().terminate().unwrap();
    let unit = |name| Unit::of(env!("CARGO_MANIFEST_DIR"), name).unwrap();
    let (service, snapshot) = (
        unit("metacrypt.service"),
        unit("metacrypt-snapshot.service"),
    );
    assert_eq!(service.setting("LimitMEMLOCK").unwrap(), ["infinity"]);
    for unit in [&service, &snapshot] {
        assert_eq!(unit.setting("LimitCORE").unwrap(), ["0"]);
    }
    let (binary, root) = (env!("CARGO_BIN_EXE_metacrypt"), world.root.path());
    // In the place of LimitMEMLOCK, which not every machine lets a test raise.
    let lock = ["ipc_lock"];
    let mut server = service.start(binary, root, &lock).unwrap();
    let made = snapshot.command(binary, root, &lock).unwrap().output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
    let made = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
    assert!(made.exists());
    assert!(server.terminate().unwrap().success());
    let log = root.join("metacrypt.db-wal");
    assert!(!log.exists(), "a stopped service's database is one file");
}
