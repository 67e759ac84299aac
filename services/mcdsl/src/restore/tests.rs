use mc_testkit::disk::Disk;

use super::*;

const TABLE: Migration = Migration::new(2, "start", "CREATE TABLE t (x BLOB) STRICT");

#[test]
fn as_much_is_unpacked_as_the_disk_has_room_for() {
    let migrations = [audit::migration(1), TABLE];
    let elsewhere = tempfile::tempdir().unwrap();
    let source = db::open(&elsewhere.path().join("a.db"), &migrations).unwrap();
    // Of the zeros the archive has next to nothing.
    let fill = "INSERT INTO t VALUES (zeroblob(6 << 20))";
    source.execute(fill, []).unwrap();
    let now = SystemTime::now();
    let archive = archive::snapshot("a", &source, elsewhere.path(), now).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::over(directory.path(), 16).unwrap();
    let snapshot = Snapshot {
        service: "a",
        migrations: &migrations,
        database: &directory.path().join("a.db"),
        archive: &archive,
    };
    let look = || drill(snapshot, |_, found| Ok::<_, RestoreError>(found.rows));
    // Two tenths of it stay free.
    for (description, left, fits) in [("more than that", 11 << 10, true), ("less", 8 << 10, false)]
    {
        disk.fill_but(left).unwrap();
        match look() {
            Ok(rows) => assert!(fits && rows == 0, "{description}"),
            Err(RestoreError::Room { room, limit, .. }) => {
                let spare = room - 2 * files::reserve(16 << 20);
                assert!(!fits && limit == spare, "{description}");
            }
            Err(other) => panic!("{description}: {other}"),
        }
        disk.free().unwrap();
    }
}
