//! Whether the schema of a database is what its migrations make.
//!
//! Whoever has once written the file may have left a trigger in it that goes on for him. So what is in the schema is compared, text by text, with that of an empty
//! database which had the same migrations: nothing may be more, less or other.

use std::{collections::BTreeSet, fmt};

use rusqlite::Connection;

use super::Migration;

/// What every database has beside its migrations. The texts never change: those of databases that there are would be others.
pub(super) const MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS migrations (
            version INTEGER PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL,
            applied_unix_s INTEGER NOT NULL DEFAULT (unixepoch())) STRICT";
/// See [`super::instance`].
pub(super) const INSTANCE: &str = "CREATE TABLE IF NOT EXISTS instance (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT";

/// A table, index, trigger or view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

impl Object {
    fn is_called_as(&self, other: &Self) -> bool {
        (&self.kind, &self.name) == (&other.kind, &other.name)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As text, for somebody else has chosen them.
        write!(f, "{} {:?}", self.kind, self.name)?;
        match self.kind == "table" || self.kind == "view" {
            true => Ok(()),
            false => write!(f, " of {:?}", self.table),
        }
    }
}

/// All that there are.
pub(super) fn objects(db: &Connection) -> rusqlite::Result<BTreeSet<Object>> {
    let text = |column: &str| format!("ifnull(CAST({column} AS TEXT), '')");
    let columns = ["type", "name", "tbl_name", "sql"].map(text).join(", ");
    let mut statement = db.prepare(&format!("SELECT {columns} FROM sqlite_schema"))?;
    let rows = statement.query_map([], |row| {
        Ok(Object {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// A number that is another one after each change of the schema, by whomever; a connection that has not seen it change goes on with what it has read.
pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    let mut statement = db.prepare_cached("PRAGMA schema_version")?;
    statement.query_row([], |row| row.get(0))
}

/// What is in the schema that these migrations have not made, or the other way round; the worst of it.
pub(super) fn flaw<'m>(
    db: &Connection,
    migrations: impl Iterator<Item = &'m Migration>,
) -> rusqlite::Result<Option<String>> {
    let empty = Connection::open_in_memory()?;
    empty.pragma_update(None, "foreign_keys", true)?;
    for sql in [MIGRATIONS, INSTANCE]
        .into_iter()
        .chain(migrations.map(|m| m.sql))
    {
        empty.execute_batch(sql)?;
    }
    let (wanted, found) = (objects(&empty)?, objects(db)?);
    let of = |all: &BTreeSet<Object>, one: &Object| all.iter().any(|o| o.is_called_as(one));
    let (changed, foreign): (Vec<_>, Vec<_>) =
        found.difference(&wanted).partition(|o| of(&wanted, o));
    if let Some(object) = foreign.first() {
        return Ok(Some(format!("has the {object}, which no migration makes")));
    }
    if let Some(object) = changed.first() {
        return Ok(Some(format!("has another text of the {object}")));
    }
    // One that no `open` has named yet: it will.
    let unnamed = |object: &&Object| object.kind == "table" && object.name == "instance";
    let mut missing = wanted.difference(&found).filter(|object| !unnamed(object));
    Ok(missing
        .next()
        .map(|object| format!("does not have the {object}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{DbError, check, open, open_as_it_is, snapshot};

    const V1: Migration = Migration::new(
        1,
        "start",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT UNIQUE) STRICT;
         CREATE TABLE u (t INTEGER REFERENCES t);
         CREATE INDEX t_x ON t (x) WHERE x IS NOT NULL;
         CREATE TRIGGER t_stays BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'no'); END;
         CREATE VIEW v AS SELECT x FROM t;",
    );
    const V2: Migration = Migration::new(2, "more", "ALTER TABLE t ADD COLUMN y TEXT");
    const V3: Migration = Migration::new(3, "less", "DROP INDEX t_x; DROP VIEW v");

    #[test]
    fn what_no_migration_made_is_not_opened() {
        for (description, sql, wanted) in [
            ("nothing", "", None),
            ("rows", "INSERT INTO t (x) VALUES ('a')", None),
            (
                "a trigger",
                "CREATE TRIGGER eve AFTER INSERT ON t BEGIN DELETE FROM u; END",
                Some(r#"has the trigger "eve" of "t", which no migration makes"#),
            ),
            (
                "one of a table of our own",
                "CREATE TRIGGER eve BEFORE INSERT ON migrations BEGIN SELECT RAISE(IGNORE); END",
                Some(r#"has the trigger "eve" of "migrations", which no migration makes"#),
            ),
            (
                "a table",
                "CREATE TABLE eve (x)",
                Some(r#"has the table "eve", which no migration makes"#),
            ),
            (
                "an index",
                "CREATE UNIQUE INDEX eve ON u (t)",
                Some(r#"has the index "eve" of "u", which no migration makes"#),
            ),
            (
                "a trigger less",
                "DROP TRIGGER t_stays",
                Some(r#"does not have the trigger "t_stays" of "t""#),
            ),
            (
                "a trigger that does nothing",
                "DROP TRIGGER t_stays; CREATE TRIGGER t_stays BEFORE DELETE ON t BEGIN SELECT 1; END",
                Some(r#"has another text of the trigger "t_stays" of "t""#),
            ),
            (
                "a view in the place of a table",
                "DROP TABLE u; CREATE VIEW u AS SELECT 1 AS t",
                Some(r#"has the view "u", which no migration makes"#),
            ),
            (
                "a column more",
                "ALTER TABLE u ADD COLUMN z TEXT",
                Some(r#"has another text of the table "u""#),
            ),
            (
                "one that SQLite has not read yet",
                "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)
                 VALUES ('trigger', 'eve', 't', 0, 'CREATE TRIGGER eve AFTER INSERT ON t BEGIN DELETE FROM u; END')",
                Some(r#"has the trigger "eve" of "t", which no migration makes"#),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.db");
            let db = open(&path, &[V1, V2]).unwrap();
            db.execute_batch(sql).unwrap();
            let before: Vec<_> = objects(&db).unwrap().into_iter().collect();
            drop(db);
            let as_it_is = open_as_it_is(&path).unwrap();
            let copy = directory.path().join("copy.db");
            snapshot(&as_it_is, &copy).unwrap();
            let looked = check(&as_it_is, &path, &[V1, V2]).map(|_| ());
            drop(as_it_is);
            for (how, done) in [
                ("looked at", looked),
                ("opened", open(&path, &[V1, V2]).map(drop)),
                ("opened by a newer program", open(&path, &[V1, V2, V3]).map(drop)),
                ("opened as a copy", open(&copy, &[V1, V2]).map(drop)),
            ] {
                let flaw = match done {
                    Ok(()) => None,
                    Err(DbError::Foreign { flaw, .. }) => Some(flaw),
                    Err(other) => panic!("{description}: {how}: {other:?}"),
                };
                assert_eq!(flaw.as_deref(), wanted, "{description}: {how}");
            }
            if wanted.is_some() {
                let left: Vec<_> = objects(&open_as_it_is(&path).unwrap()).unwrap().into_iter().collect();
                assert_eq!(left, before, "{description}: nothing was changed");
            }
        }
    }

    #[test]
    fn the_texts_of_what_every_database_has_stay() {
        // Those of databases that there are.
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(MIGRATIONS).unwrap();
        db.execute_batch(INSTANCE).unwrap();
        let texts: Vec<_> = objects(&db).unwrap().into_iter().map(|o| o.sql).collect();
        assert_eq!(
            texts,
            [
                "CREATE TABLE instance (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT",
                "CREATE TABLE migrations (\n            version INTEGER PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL,\n            applied_unix_s INTEGER NOT NULL DEFAULT (unixepoch())) STRICT"
            ]
        );
    }

    #[test]
    fn another_programs_database_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE notes (text)").unwrap();
        drop(other);
        assert!(open(&path, &[V1]).is_err());
        let left = objects(&open_as_it_is(&path).unwrap()).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
