//! Another master key where somebody else has changed the database: it is refused, and nothing is changed.

use rusqlite::types::Value;

use super::*;

/// All that opens the seal.
fn rows_of(db: &Connection) -> Vec<Vec<Value>> {
    let all = ["seal", "key_slot", "mount"].map(|table| {
        let mut rows = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        let rows = rows.query_map([], row).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    });
    all.concat()
}

#[tokio::test]
async fn a_database_that_was_changed_is_given_no_other_master_key() {
    for (description, sql) in [
        (
            "a data key that is none",
            "UPDATE mount SET data_key = x'00' WHERE name = 'pki'",
        ),
        (
            "one mount more",
            "INSERT INTO mount (id, name, engine, made_s, data_key) VALUES ('one', 'more', 'pki', 0, x'00')",
        ),
        ("another generation", "UPDATE seal SET generation = 9"),
        ("no seal", "DELETE FROM seal"),
    ] {
        let (world, _) = World::new().await;
        let mut unsealed = world.open(password("one")).await.unwrap();
        let mount = world.seal.mount(&mut unsealed, "pki", "pki", nothing());
        mount.await.unwrap();
        let db = world.db();
        db.execute(sql, []).unwrap();
        let before = rows_of(&db);
        let rotated = world
            .seal
            .rotate(&mut unsealed, text("two"), ALL, nothing());
        assert!(rotated.await.is_err(), "{description}");
        assert_eq!(rows_of(&db), before, "{description}");
        assert_eq!(unsealed.generation, 1, "{description}");
    }
}

#[test]
fn a_row_that_was_not_written_is_an_error() {
    let mut db = Connection::open_in_memory().unwrap();
    db.execute_batch(SCHEMA).unwrap();
    let (old, new) = (Key::random().unwrap(), Key::random().unwrap());
    let tx = db.transaction().unwrap();
    rows::new_mount(&tx, &old, "pki", "pki", 0).unwrap();
    let slot = Slot::recovery(1, &old).unwrap().0;
    rows::put(&tx, &slot).unwrap();
    rows::put(&tx, &slot).unwrap();
    rows::seal_anew(&tx, &old, &old).unwrap();
    tx.execute_batch(
        "CREATE TRIGGER slots BEFORE INSERT ON key_slot BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER mounts BEFORE UPDATE ON mount BEGIN SELECT RAISE(IGNORE); END",
    )
    .unwrap();
    assert!(rows::put(&tx, &slot).is_err());
    assert!(rows::seal_anew(&tx, &old, &new).is_err());
}
