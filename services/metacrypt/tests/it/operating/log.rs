//! The audit log, as its readers meet it, and as it is when somebody has changed it.

use std::fs;

use mc_proto::metacrypt::v1::CreateRuleRequest;
use rusqlite::Connection;

use super::{error, unguarded};
use crate::world::{SEAL, World};

/// As its readers: by a rule, and by nobody's leave but the machine's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_read_and_verified() {
    let mut world = World::open().await;
    let mut admin = world.admin().await;
    crate::policy::vault(&mut admin, &["app"]).await;
    let file = world.root.path().join("token");
    let mine = world.root.path().join("ada.token");
    fs::copy(&file, &mine).unwrap();
    fs::write(&mine, world.user().await).unwrap();
    let mine = mine.display().to_string();
    let run = |world: &World, line: &str, stdin: &str| {
        let words = line.split_whitespace().chain(["--token-file", &mine]);
        world.run(&words.collect::<Vec<_>>(), stdin)
    };
    let refused = run(&world, "audit list", "");
    assert!(error(&refused).contains("audit:read"), "{refused:?}");
    let rule = crate::policy::allow("auditors", &["audit:read"], &["system/audit"]);
    let request = CreateRuleRequest {
        rule: Some(rule),
        replace: false,
    };
    admin.system.create_rule(request).await.unwrap();
    for (line, told) in [
        ("audit list --action CreateKey", "Transit/CreateKey"),
        ("audit list --account ada --outcome denied", "system/audit"),
        ("audit list --limit 2 --json", "AuditLog/ListAudit"),
        ("audit verify", "all as they were written"),
        ("audit list --offline --action createkey", "vault/keys/app"),
        ("audit verify --offline", "all as they were written"),
        ("--json audit verify --offline", "\"head_hash\""),
    ] {
        let out = run(&world, line, "");
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(
            out.status.success() && text.contains(told),
            "{line}: {text}"
        );
    }
    // What somebody says that he has noted is no flaw for all.
    let broken = |world: &World| {
        let status = world.run(&["status"], "");
        String::from_utf8_lossy(&status.stderr).contains("the audit log")
    };
    let noted = format!("audit verify --known 2:{}", "0".repeat(64));
    let out = run(&world, &noted, "");
    assert!(
        error(&out).contains("not the one that was noted"),
        "{out:?}"
    );
    assert!(!broken(&world));
    // The last row, changed under the service.
    world.metacrypt.take().unwrap().terminate().unwrap();
    let database = world.root.path().join("metacrypt.db");
    let db = unguarded(&database);
    let last = "SELECT seq, resource FROM audit ORDER BY seq DESC LIMIT 1";
    let (seq, resource): (i64, String) = db.query_row(last, [], |row| row.try_into()).unwrap();
    let set = |db: &Connection, resource: &str| {
        let sql = "UPDATE audit SET resource = ?2 WHERE seq = ?1";
        db.execute(sql, (seq, resource)).unwrap();
    };
    set(&db, "eve");
    drop(db);
    let out = run(&world, "audit verify --offline", "");
    assert!(error(&out).contains("was changed"), "{out:?}");
    let checked = String::from_utf8(world.run(&["check"], "").stdout).unwrap();
    assert!(checked.contains("warning     the audit log"), "{checked}");
    world.start();
    world.unseal().await;
    assert!(broken(&world));
    let out = run(&world, "audit verify", "");
    assert!(error(&out).contains("was changed"), "{out:?}");
    assert!(broken(&world));
    // As it was again: who looked at all of it knows.
    set(&unguarded(&database), &resource);
    assert!(run(&world, "audit verify", "").status.success());
    assert!(!broken(&world));
    // What keeps rows out of the log is in no chain.
    let trigger = "CREATE TRIGGER eve AFTER INSERT ON audit WHEN NEW.name = 'eve' BEGIN DELETE FROM item WHERE false; END";
    unguarded(&database).execute_batch(trigger).unwrap();
    assert!(!run(&world, "mount list", "").status.success());
    let out = run(&world, "status", "");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(error(&out).contains("nothing can be written"), "{out:?}");
    world.metacrypt.take().unwrap().terminate().unwrap();
    for line in [
        &["audit", "verify", "--offline"][..],
        &["check"],
        &["server"],
        &["unseal", "--verify"],
    ] {
        let out = world.run(line, SEAL);
        assert!(
            error(&out).contains("has the trigger \"eve\""),
            "{line:?}: {out:?}"
        );
    }
}
