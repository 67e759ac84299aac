//! Every kind of tampering.

use super::*;

#[test]
fn every_column_is_covered() {
    for column in [
        "at_us = at_us + 1",
        "account = '0002'",
        "account = NULL",
        "name = 'mallory'",
        "account_type = 'system'",
        "source = '192.0.2.8'",
        "source = NULL",
        "source = ''",
        "action = 'login.passwore'",
        "resource = 'account/9'",
        "outcome = 'OK'",
        "detail = '{}'",
        "detail = detail || ' '",
        "hash = randomblob(32)",
        "hash = x'00'",
        // Bytes that move from one field into its neighbour.
        "resource = substr(action, -1) || resource, action = substr(action, 1, length(action) - 1)",
        "name = account, account = name",
    ] {
        // Row 7 is alice's, and denied.
        for seq in [7, 10] {
            let (_dir, db) = log(10);
            tamper(&db, &format!("UPDATE audit SET {column} WHERE seq = {seq}"));
            let noop = seq == 10 && column == "outcome = 'OK'";
            let wanted = (!noop).then_some(Tampering::Changed { seq });
            assert_eq!(found(&db, None), wanted, "{column} of {seq}");
        }
    }
}

#[test]
fn rows_are_missed() {
    let renumber = |from, by| {
        format!(
            "UPDATE audit SET seq = -seq WHERE seq >= {from}; UPDATE audit SET seq = -seq {by} WHERE seq < 0;"
        )
    };
    let insert = |seq| {
        format!(
            "INSERT INTO audit SELECT {seq}, at_us, account, name, account_type, source, action, 'forged', outcome, detail, hash
             FROM audit WHERE seq = 1;"
        )
    };
    let swap = |a, b| {
        format!(
            "UPDATE audit SET seq = -1 WHERE seq = {a}; UPDATE audit SET seq = {a} WHERE seq = {b}; UPDATE audit SET seq = {b} WHERE seq = -1;"
        )
    };
    let removed = |first, last| Tampering::Removed { first, last };
    let inserted = |first, last| Tampering::Inserted { first, last };
    let exchanged = |first, second| Tampering::Exchanged { first, second };
    for (description, sql, wanted) in [
        (
            "the first",
            "DELETE FROM audit WHERE seq = 1".to_owned(),
            removed(1, 1),
        ),
        (
            "one within",
            "DELETE FROM audit WHERE seq = 5".to_owned(),
            removed(5, 5),
        ),
        (
            "some within",
            "DELETE FROM audit WHERE seq BETWEEN 3 AND 6".to_owned(),
            removed(3, 6),
        ),
        (
            "the first, renumbered",
            format!("DELETE FROM audit WHERE seq = 1;{}", renumber(1, "- 1")),
            removed(1, 1),
        ),
        (
            "some, renumbered",
            format!(
                "DELETE FROM audit WHERE seq IN (4, 5);{}",
                renumber(4, "- 2")
            ),
            removed(4, 5),
        ),
        (
            "one put in",
            format!("{}{}", renumber(5, "+ 1"), insert(5)),
            inserted(5, 5),
        ),
        (
            "two put in",
            format!("{}{}{}", renumber(5, "+ 2"), insert(5), insert(6)),
            inserted(5, 6),
        ),
        (
            "one put in at the start",
            format!("{}{}", renumber(2, "+ 1"), insert(2)),
            inserted(2, 2),
        ),
        (
            "one put in before the last",
            format!("{}{}", renumber(10, "+ 1"), insert(10)),
            inserted(10, 10),
        ),
        ("one put in before the first", insert(-3), inserted(-3, -3)),
        ("one added", insert(11), Tampering::Changed { seq: 11 }),
        ("neighbours", swap(4, 5), exchanged(4, 5)),
        ("others", swap(2, 9), exchanged(2, 9)),
        ("the first and the last", swap(1, 10), exchanged(1, 10)),
        (
            "one moved to the end",
            "UPDATE audit SET seq = 99 WHERE seq = 3".to_owned(),
            removed(3, 3),
        ),
    ] {
        let (_dir, db) = log(10);
        let noted = head(&db).unwrap();
        tamper(&db, &sql);
        assert_eq!(found(&db, None), Some(wanted), "{description}");
        assert_eq!(
            found(&db, noted),
            Some(wanted),
            "{description}, with a known head"
        );
    }
}

#[test]
fn a_forger_who_hashes_is_found_out() {
    // Two rows put in, with hashes that fit: what comes after them does not.
    let (_dir, db) = log(6);
    tamper(
        &db,
        "UPDATE audit SET seq = -seq WHERE seq >= 4; UPDATE audit SET seq = 2 - seq WHERE seq < 0;",
    );
    tamper(&db, "INSERT INTO audit SELECT seq + 3, at_us, account, name, account_type, source, action, resource, outcome,
         detail, hash FROM audit WHERE seq IN (1, 2)");
    rehash(&db, 4, 5);
    assert_eq!(
        found(&db, None),
        Some(Tampering::Inserted { first: 4, last: 5 })
    );
    // One changed together with its hash: the next does not follow.
    let (_dir, db) = log(6);
    tamper(&db, "UPDATE audit SET resource = 'x' WHERE seq = 3");
    rehash(&db, 3, 3);
    assert_eq!(found(&db, None), Some(Tampering::Changed { seq: 4 }));
    // Written anew to the end.
    rehash(&db, 4, 6);
    assert_eq!(found(&db, None), None, "nothing in the log itself tells");
}

#[test]
fn a_known_head_shows_the_rest() {
    let (_dir, mut db) = log(6);
    let noted = head(&db).unwrap();
    write(&mut db, 7);
    tamper(&db, "UPDATE audit SET resource = 'x' WHERE seq = 2");
    rehash(&db, 2, 7);
    assert_eq!(found(&db, noted), Some(Tampering::Rewritten { seq: 6 }));
    for (keep, description) in [(5, "one"), (2, "many"), (0, "all")] {
        let (_dir, mut db) = log(6);
        let noted = head(&db).unwrap();
        tamper(&db, &format!("DELETE FROM audit WHERE seq > {keep}"));
        assert_eq!(
            found(&db, None),
            None,
            "{description}: the log itself does not tell"
        );
        let cut = Tampering::Truncated {
            last: keep,
            known: 6,
        };
        assert_eq!(found(&db, noted), Some(cut), "{description}");
        // What was cut off is written again, otherwise.
        for n in keep as u64 + 1..=8 {
            write(&mut db, n + 1);
        }
        assert_eq!(
            found(&db, noted),
            Some(Tampering::Rewritten { seq: 6 }),
            "{description}"
        );
    }
    // The last but one removed and the last renumbered: without a later row, only the known head tells.
    let (_dir, db) = log(6);
    let noted = head(&db).unwrap();
    tamper(
        &db,
        "DELETE FROM audit WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 6",
    );
    assert_eq!(found(&db, None), Some(Tampering::Changed { seq: 5 }));
    assert_eq!(
        found(&db, noted),
        Some(Tampering::Removed { first: 5, last: 5 })
    );
}

#[test]
fn rows_are_not_changed_by_accident() {
    let (_dir, db) = log(2);
    for sql in [
        "UPDATE audit SET resource = ''",
        "DELETE FROM audit WHERE seq = 2",
    ] {
        let error = db.execute(sql, []).unwrap_err().to_string();
        assert_eq!(error, "the audit log is only appended to");
    }
    assert_eq!(found(&db, None), None);
}

#[test]
fn sentences() {
    for (tampering, wanted) in [
        (
            Tampering::Removed { first: 3, last: 3 },
            "row 3 was removed",
        ),
        (
            Tampering::Removed { first: 3, last: 5 },
            "rows 3 to 5 were removed",
        ),
        (
            Tampering::Exchanged {
                first: 3,
                second: 5,
            },
            "rows 3 and 5 were exchanged",
        ),
        (
            Tampering::Truncated { last: 3, known: 5 },
            "the rows after 3 were cut off; there was a row 5",
        ),
    ] {
        let error = VerifyError::Tampered(tampering).to_string();
        assert_eq!(error, format!("the audit log was tampered with: {wanted}"));
    }
}
