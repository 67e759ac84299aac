//! What is written, and what a page shows.

mod tampering;

use std::{path::Path, time::Duration};

use rusqlite::TransactionBehavior;
use tempfile::TempDir;

use super::*;
use crate::db::{Migration, open};

const V1: Migration = Migration {
    version: 1,
    name: "audit",
    sql: SCHEMA,
};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Rows alternate in everything that is filtered by.
fn write(db: &mut Connection, n: u64) -> u64 {
    let entry = Entry {
        actor: match n % 3 {
            0 => Actor::Anonymous,
            1 => Actor::Account {
                id: "0001",
                name: "alice",
                account_type: AccountType::Human,
            },
            _ => Actor::Account {
                id: "0002",
                name: "agent",
                account_type: AccountType::System,
            },
        },
        source: Some("::ffff:192.0.2.7".parse().unwrap()),
        action: [
            "/mcias.v1.Accounts/Create",
            "/mcias.v1.Accounts/Delete",
            "login.password",
        ][n as usize / 3 % 3],
        resource: &format!("account/{n}"),
        outcome: [Code::Ok, Code::PermissionDenied][n as usize % 2],
        detail: Detail::new().number("n", n as i64),
    };
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let seq = append(&tx, &entry, at(1000 + n)).unwrap();
    tx.commit().unwrap();
    seq
}

/// A log of `rows` rows.
fn log(rows: u64) -> (TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(&dir.path().join("a.db"), &[V1]).unwrap();
    for n in 1..=rows {
        assert_eq!(write(&mut db, n), n);
    }
    (dir, db)
}

/// As whoever has the file would.
fn tamper(db: &Connection, sql: &str) {
    db.execute_batch(
        "DROP TRIGGER IF EXISTS audit_is_not_updated; DROP TRIGGER IF EXISTS audit_is_not_deleted;
         PRAGMA ignore_check_constraints = true;",
    )
    .unwrap();
    db.execute_batch(sql).unwrap();
}

fn found(db: &Connection, known: Option<Head>) -> Option<Tampering> {
    match verify(db, known) {
        Ok(_) => None,
        Err(VerifyError::Tampered(tampering)) => Some(tampering),
        Err(VerifyError::Sqlite(error)) => panic!("{error}"),
    }
}

/// Gives the rows from `seq` on hashes that fit: what only a known head shows.
fn rehash(db: &Connection, seq: i64, last: i64) {
    const FIELDS_OF: &str =
        "SELECT at_us, account, name, account_type, source, action, resource, outcome, detail
         FROM audit WHERE seq = ?1";
    for seq in seq..=last {
        let before = db.query_row("SELECT hash FROM audit WHERE seq = ?1", [seq - 1], |r| {
            r.get(0)
        });
        let fields: Vec<Value> = db
            .query_row(FIELDS_OF, [seq], |r| {
                (0..FIELDS).map(|i| r.get(i)).collect()
            })
            .unwrap();
        let hash = chain::hash(
            &before.optional().unwrap().unwrap_or(chain::START),
            seq,
            fields.iter().map(ValueRef::from),
        );
        let changed = "UPDATE audit SET hash = ?2 WHERE seq = ?1";
        db.execute(changed, (seq, hash)).unwrap();
    }
}

#[test]
fn a_sound_log_verifies() {
    let (_dir, db) = log(0);
    assert_eq!(
        verify(&db, None).unwrap(),
        Verified {
            rows: 0,
            head: None
        }
    );
    assert_eq!(head(&db).unwrap(), None);
    let (_dir, mut db) = log(7);
    let noted = head(&db).unwrap();
    let sound = Verified {
        rows: 7,
        head: noted,
    };
    assert_eq!(verify(&db, None).unwrap(), sound);
    assert_eq!(verify(&db, noted).unwrap(), sound);
    write(&mut db, 8);
    assert_eq!(
        verify(&db, noted).unwrap().rows,
        8,
        "a log goes on after a head was noted"
    );
    let tx = db.transaction().unwrap();
    assert_eq!(verify(&tx, noted).unwrap().rows, 8, "within a transaction");
}

#[test]
fn a_change_and_its_record_are_one() {
    let (_dir, mut db) = log(2);
    let before = head(&db).unwrap();
    let tx = db.transaction().unwrap();
    tx.execute_batch("CREATE TABLE t (x)").unwrap();
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action: "start",
        resource: "",
        outcome: Code::Ok,
        detail: Detail::new(),
    };
    assert_eq!(append(&tx, &entry, at(1)).unwrap(), 3);
    assert_eq!(
        append(&tx, &entry, at(1)).unwrap(),
        4,
        "two in one transaction"
    );
    tx.rollback().unwrap();
    assert_eq!(head(&db).unwrap(), before);
    assert_eq!(write(&mut db, 3), 3, "no number is lost");
    let tx = db.transaction().unwrap();
    for (action, detail) in [
        ("", Detail::new()),
        ("two words", Detail::new()),
        (&"x".repeat(257), Detail::new()),
    ] {
        let entry = Entry {
            action,
            detail,
            ..entry.clone()
        };
        assert!(
            matches!(append(&tx, &entry, at(1)), Err(AuditError::Action(_))),
            "{action}"
        );
    }
    const KEYS: [&str; 17] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
    ];
    let detail = KEYS
        .into_iter()
        .fold(Detail::new(), |detail, key| detail.flag(key, true));
    let entry = Entry { detail, ..entry };
    assert!(matches!(
        append(&tx, &entry, at(1)),
        Err(AuditError::Detail { keys: 17, .. })
    ));
}

#[test]
fn two_writers_make_one_chain() {
    const EACH: u64 = 100;
    let (dir, db) = log(0);
    let path = dir.path().join("a.db");
    let writer = |path: &Path| {
        let mut db = open(path, &[V1]).unwrap();
        move || (0..EACH).for_each(|n| assert!(write(&mut db, n) > 0))
    };
    let writers = [(); 2].map(|()| std::thread::spawn(writer(&path)));
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(verify(&db, None).unwrap().rows, 2 * EACH);
}

#[test]
fn a_deferred_writer_that_is_late_is_refused() {
    let (dir, mut db) = log(1);
    let mut other = open(&dir.path().join("a.db"), &[V1]).unwrap();
    let late = db.transaction().unwrap();
    head(&late).unwrap();
    write(&mut other, 2);
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action: "late",
        resource: "",
        outcome: Code::Ok,
        detail: Detail::new(),
    };
    assert!(
        matches!(append(&late, &entry, at(1)), Err(AuditError::Sqlite(_))),
        "it would fork the chain"
    );
    drop(late);
    assert_eq!(verify(&db, None).unwrap().rows, 2);
}

#[test]
fn pages() {
    let (_dir, db) = log(30);
    let numbers = |filter: Filter| -> Vec<u64> {
        query(&db, &filter)
            .unwrap()
            .iter()
            .map(|record| record.seq)
            .collect()
    };
    let all = || (1..=30).rev();
    let (action, account) = (|a: &str| vec![a.to_owned()], |a: &str| Some(a.to_owned()));
    let filter = Filter::default;
    assert_eq!(numbers(filter()), all().collect::<Vec<_>>());
    assert_eq!(
        numbers(Filter {
            limit: Some(3),
            ..filter()
        }),
        [30, 29, 28]
    );
    assert_eq!(
        numbers(Filter {
            limit: Some(3),
            before_seq: Some(28),
            ..filter()
        }),
        [27, 26, 25]
    );
    assert_eq!(
        numbers(Filter {
            before_seq: Some(1),
            ..filter()
        }),
        Vec::<u64>::new()
    );
    assert_eq!(
        numbers(Filter {
            account: account("0001"),
            ..filter()
        }),
        all().filter(|n| n % 3 == 1).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(Filter {
            name: account("alice"),
            ..filter()
        }),
        all().filter(|n| n % 3 == 1).collect::<Vec<_>>()
    );
    for (prefix, wanted) in [
        ("/mcias.v1.Accounts/", &[0, 1][..]),
        ("/mcias.v1.Accounts/Create", &[0]),
        ("login.", &[2]),
        ("", &[0, 1, 2]),
        ("%", &[]),
        ("/mcias_v1", &[]),
        ("login.*", &[]),
    ] {
        let wanted: Vec<_> = all().filter(|n| wanted.contains(&(n / 3 % 3))).collect();
        assert_eq!(
            numbers(Filter {
                actions: action(prefix),
                ..filter()
            }),
            wanted,
            "{prefix:?}"
        );
    }
    let several = ["login.", "/mcias.v1.Accounts/Create", "/mcias.v1.Accounts/"];
    assert_eq!(
        numbers(Filter {
            actions: several.map(str::to_owned).into(),
            ..filter()
        }),
        all().collect::<Vec<_>>(),
        "each once"
    );
    assert_eq!(
        numbers(Filter {
            outcomes: vec![Code::PermissionDenied],
            limit: Some(3),
            ..filter()
        }),
        [29, 27, 25]
    );
    for limit in [3, 100] {
        assert_eq!(
            numbers(Filter {
                outcomes: vec![Code::Ok, Code::NotFound, Code::PermissionDenied],
                limit: Some(limit),
                ..filter()
            }),
            all().take(limit).collect::<Vec<_>>(),
            "several outcomes"
        );
    }
    assert_eq!(
        numbers(Filter {
            since: Some(at(1003)),
            until: Some(at(1006)),
            ..filter()
        }),
        [5, 4, 3]
    );
    assert_eq!(
        numbers(Filter {
            account: account("0002"),
            actions: action("login"),
            outcomes: vec![Code::Ok],
            since: Some(at(1010)),
            ..filter()
        }),
        [26, 8].into_iter().filter(|n| *n >= 10).collect::<Vec<_>>()
    );
}

#[test]
fn a_record_says_all() {
    let (_dir, db) = log(2);
    let records = query(&db, &Filter::default()).unwrap();
    let hash: String = db
        .query_row(
            "SELECT lower(hex(hash)) FROM audit WHERE seq = 2",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(
        serde_json::to_value(&records[0]).unwrap(),
        serde_json::json!({
            "seq": 2, "at_us": 1_002_000_000_i64, "account": "0002", "name": "agent", "account_type": "system",
            "source": "192.0.2.7", "action": "/mcias.v1.Accounts/Create", "resource": "account/2", "outcome": "OK",
            "detail": {"n": 2}, "hash": hash,
        })
    );
    assert_eq!(records[0].at(), at(1002));
    // What was tampered with is shown as it is.
    tamper(
        &db,
        "UPDATE audit SET detail = '{', source = CAST(x'ff' AS TEXT) WHERE seq = 2",
    );
    let changed = &query(&db, &Filter::default()).unwrap()[0];
    assert_eq!(
        (changed.detail.as_str(), changed.source.as_deref()),
        ("{", Some("\u{fffd}"))
    );
    assert_eq!(found(&db, None), Some(Tampering::Changed { seq: 2 }));
    let before = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(micros(before), -1_000_000);
    assert_eq!(
        Record {
            at_us: -1_000_000,
            ..changed.clone()
        }
        .at(),
        before
    );
}
