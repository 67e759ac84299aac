//! The seal, by tool, gRPC and REST.

use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, RotateMasterKeyRequest, SealRequest, SealSecret, SetPasswordRequest,
    UnsealRequest,
};
use rusqlite::config::DbConfig;
use tonic::Code;

use crate::{
    running::PASSWORD,
    world::{SEAL, World, by},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What stands behind `name` in the output of `init`.
fn written(output: &str, name: &str) -> String {
    let line = output.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {output}"));
    line[name.len()..].trim().to_owned()
}

const ANOTHER: &str = "quarry lantern bishop upward mosaic";

/// What proves a change.
fn current(password: &str) -> Option<SealSecret> {
    Some(SealSecret {
        password: password.to_owned(),
        ..SealSecret::default()
    })
}

fn password(word: &str) -> UnsealRequest {
    UnsealRequest {
        password: word.to_owned(),
        ..UnsealRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_sealed_and_each_of_its_secrets_opens_it() {
    let (world, made) = World::initialised().await;
    let again = world.run(&["init"], SEAL);
    assert!(
        !again.status.success() && text(&again.stderr).contains("initialised already"),
        "{again:?}"
    );
    let status = world.run(&["status"], "");
    assert!(
        text(&status.stdout).contains("sealed; run `metacrypt unseal`"),
        "{status:?}"
    );
    assert_eq!(status.status.code(), Some(1), "it takes no calls");
    let nobody = world.run(&["status", "--server", "https://localhost:1"], "");
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    let check = world.run(&["check"], "");
    assert_eq!(check.status.code(), Some(0), "it could start: {check:?}");
    let shares = [written(&made, "share 1"), written(&made, "share 3")].join("\n");
    let recovery = written(&made, "recovery key");
    let admin = world.token("admin", &world.mcias.password).await;
    let mut client = world.client().await;
    for (description, args, typed) in [
        ("the password", &["unseal"][..], SEAL),
        ("the recovery key", &["unseal", "--recovery-key"], &recovery),
        ("two shares", &["unseal", "--shares"], &shares),
    ] {
        let opened = world.run(args, typed);
        assert!(opened.status.success(), "{description}: {opened:?}");
        let status = world.run(&["status"], "");
        assert!(status.status.success(), "{description}: {status:?}");
        let again = client.unseal(password(SEAL)).await.unwrap_err();
        assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");
        client.seal(by(&admin, SealRequest {})).await.unwrap();
        let status = client.get_seal_status(GetSealStatusRequest {}).await;
        let status = status.unwrap().into_inner();
        assert!(status.sealed && status.recovery_key, "{status:?}");
        assert_eq!((status.shares_needed, status.shares), (2, 3));
    }
    let wrong = world.run(&["unseal"], "wrong");
    assert!(!wrong.status.success(), "{wrong:?}");
    assert!(
        text(&wrong.stderr).contains("not the one that opens the seal"),
        "{wrong:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_what_while_it_is_sealed_and_open() {
    let (world, _) = World::sealed_by_all().await;
    let admin = world.token("admin", &world.mcias.password).await;
    let user = world.user().await;
    let mut client = world.client().await;
    let change = |word: &str| SetPasswordRequest {
        current: current(word),
        password: ANOTHER.to_owned(),
    };
    for (description, token, code) in [
        ("nobody", None, Code::Unauthenticated),
        ("a user", Some(&user), Code::PermissionDenied),
        ("an administrator, sealed", Some(&admin), Code::Unavailable),
    ] {
        let request = match token {
            Some(token) => by(token, change(SEAL)),
            None => tonic::Request::new(change(SEAL)),
        };
        let refused = client.set_password(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{description}: {refused:?}");
    }
    let seal = client.seal(by(&user, SealRequest {})).await.unwrap_err();
    assert_eq!(seal.code(), Code::PermissionDenied);
    client.unseal(password(SEAL)).await.unwrap();
    let weak = SetPasswordRequest {
        password: "password1".to_owned(),
        ..change(SEAL)
    };
    let weak = client.set_password(by(&admin, weak)).await.unwrap_err();
    assert_eq!(weak.code(), Code::InvalidArgument, "{weak:?}");
    let wrong = client
        .set_password(by(&admin, change("wrong")))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::PermissionDenied, "{wrong:?}");
    client.set_password(by(&admin, change(SEAL))).await.unwrap();
    let request = RotateMasterKeyRequest {
        current: current(ANOTHER),
        shares_needed: Some(0),
        shares: Some(0),
        ..RotateMasterKeyRequest::default()
    };
    let rotated = client
        .rotate_master_key(by(&admin, request))
        .await
        .unwrap()
        .into_inner();
    let status = rotated.seal.unwrap();
    assert_eq!((status.generation, status.shares), (2, 0));
    client.seal(by(&admin, SealRequest {})).await.unwrap();
    let old = client.unseal(password(SEAL)).await.unwrap_err();
    assert_eq!(old.code(), Code::PermissionDenied);
    let recovery = UnsealRequest {
        recovery_key: rotated.recovery_key,
        ..UnsealRequest::default()
    };
    let opened = client.unseal(recovery).await.unwrap().into_inner();
    assert!(!opened.sealed);
    let both = UnsealRequest {
        recovery_key: "a".to_owned(),
        ..password("a")
    };
    let both = client.unseal(both).await.unwrap_err();
    assert_eq!(both.code(), Code::InvalidArgument, "{both:?}");
    // The log has each of them, and no secret.
    let db = rusqlite::Connection::open(world.root.path().join("metacrypt.db")).unwrap();
    let mut rows = db
        .prepare("SELECT action || ' ' || outcome || ' ' || detail FROM audit")
        .unwrap();
    let rows: Vec<String> = rows
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let all = rows.join("\n");
    for action in ["Unseal", "Seal", "SetPassword", "RotateMasterKey"] {
        assert!(all.contains(action), "{action} in {all}");
    }
    for secret in [SEAL, PASSWORD, ANOTHER] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rotation_does_not_name_stays_as_it_is() {
    let (world, made) = World::initialised().await;
    let admin = world.token("admin", &world.mcias.password).await;
    let mut client = world.client().await;
    client.unseal(password(SEAL)).await.unwrap();
    let by_recovery = |key: String| {
        Some(SealSecret {
            recovery_key: key,
            ..SealSecret::default()
        })
    };
    let recovery = by_recovery(written(&made, "recovery key"));
    for (description, request, told) in [
        (
            "nothing shown",
            RotateMasterKeyRequest::default(),
            "current: one of password",
        ),
        (
            "no password that is known",
            RotateMasterKeyRequest {
                current: recovery.clone(),
                ..RotateMasterKeyRequest::default()
            },
            "send it",
        ),
        (
            "numbers beyond all",
            RotateMasterKeyRequest {
                current: current(SEAL),
                shares_needed: Some(258),
                shares: Some(1000),
                ..RotateMasterKeyRequest::default()
            },
            "not 258 of 1000",
        ),
        (
            "one number alone",
            RotateMasterKeyRequest {
                current: current(SEAL),
                shares: Some(3),
                ..RotateMasterKeyRequest::default()
            },
            "send both",
        ),
        (
            "a weak password",
            RotateMasterKeyRequest {
                current: recovery.clone(),
                password: "password1".to_owned(),
                ..RotateMasterKeyRequest::default()
            },
            "too easy to guess",
        ),
    ] {
        let refused = client.rotate_master_key(by(&admin, request)).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{description}: {refused:?}"
        );
        assert!(
            refused.message().contains(told),
            "{description}: {refused:?}"
        );
    }
    // Who forgot the password sets another by the recovery key.
    let request = SetPasswordRequest {
        current: recovery,
        password: ANOTHER.to_owned(),
    };
    client.set_password(by(&admin, request)).await.unwrap();
    let request = RotateMasterKeyRequest {
        current: current(ANOTHER),
        ..RotateMasterKeyRequest::default()
    };
    let rotated = client.rotate_master_key(by(&admin, request)).await.unwrap();
    let rotated = rotated.into_inner();
    let status = rotated.seal.unwrap();
    assert!(status.recovery_key && !rotated.recovery_key.is_empty());
    assert_eq!((status.shares_needed, status.shares), (2, 3));
    assert_eq!(rotated.shares.len(), 3);
    // By shares, with another password, and nothing else from then on; by REST, where zero and nothing are as different.
    let body = format!(
        r#"{{"current": {{"shares": ["{}", "{}"]}}, "password": "{SEAL}", "recovery_key": false, "shares_needed": 0, "shares": 0}}"#,
        rotated.shares[1], rotated.shares[2]
    );
    let (code, body) = world.post(&admin, "/v1/seal/rotate", &body);
    assert_eq!(code, 200, "{body}");
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert!(!status.recovery_key, "{status:?}");
    assert_eq!((status.generation, status.shares), (3, 0));
    let (code, body) = world.post(
        &admin,
        "/v1/seal/rotate",
        r#"{"current": {"password": "wrong"}}"#,
    );
    assert!(
        code == 403 && body.contains("not the one that opens the seal"),
        "{code} {body}"
    );
    client.seal(by(&admin, SealRequest {})).await.unwrap();
    client.unseal(password(SEAL)).await.unwrap();
}

/// Whoever guesses at the seal is in the log, whatever else he does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_not_hidden_behind_junk() {
    let world = World::sealed().await;
    let mut client = world.client().await;
    for _ in 0..150 {
        let refused = client.unseal(UnsealRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    for word in ["first guess", "second guess"] {
        let refused = client.unseal(password(word)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    }
    let rows = world.audit();
    let of = |outcome: &str| {
        let rows = rows.iter().filter(|row| row.0.ends_with("/Unseal"));
        rows.filter(|row| row.2 == outcome).count()
    };
    // 60 of a minute, and the next one may have begun.
    let junk = of("INVALID_ARGUMENT");
    assert!((60..=120).contains(&junk), "{junk}: {rows:?}");
    assert_eq!(of("PERMISSION_DENIED"), 2, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_audit_log_does_not_take_is_not_done() {
    let world = World::sealed().await;
    let admin = world.token("admin", &world.mcias.password).await;
    let mut client = world.client().await;
    let db = rusqlite::Connection::open(world.root.path().join("metacrypt.db")).unwrap();
    // A last row that nothing can follow.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
        .unwrap();
    let refuse = "PRAGMA ignore_check_constraints = ON;
         INSERT INTO audit VALUES (1000000, 0, NULL, NULL, NULL, NULL, 'eve', '', 'OK', '{}', x'')";
    let take = "DELETE FROM audit WHERE seq = 1000000";
    db.execute_batch(refuse).unwrap();
    let refused = client.unseal(password(SEAL)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal, "{refused:?}");
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    assert!(status.unwrap().into_inner().sealed);
    db.execute_batch(take).unwrap();
    client.unseal(password(SEAL)).await.unwrap();
    db.execute_batch(refuse).unwrap();
    let rotate = RotateMasterKeyRequest {
        current: current(SEAL),
        ..RotateMasterKeyRequest::default()
    };
    let change = SetPasswordRequest {
        current: current(SEAL),
        password: ANOTHER.to_owned(),
    };
    let rotated = client.rotate_master_key(by(&admin, rotate)).await;
    assert_eq!(rotated.unwrap_err().code(), Code::Internal);
    let changed = client.set_password(by(&admin, change)).await;
    assert_eq!(changed.unwrap_err().code(), Code::Internal);
    db.execute_batch(take).unwrap();
    client.seal(by(&admin, SealRequest {})).await.unwrap();
    let status = client.unseal(password(SEAL)).await.unwrap().into_inner();
    assert_eq!(status.generation, 1);
    // Each is written once.
    let rows = "SELECT count(*) FROM audit WHERE action LIKE '%/Unseal'";
    let rows: i64 = db.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
}

/// Each attempt is written down before it is made: killing the service saves nobody the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_are_waited_for_after_a_restart() {
    let mut world = World::sealed().await;
    let mut client = world.client().await;
    for attempt in 1..=3 {
        let wrong = client.unseal(password("wrong")).await.unwrap_err();
        assert_eq!(wrong.code(), Code::PermissionDenied, "{attempt}: {wrong:?}");
    }
    world.metacrypt.take().unwrap().kill9().unwrap();
    let db = rusqlite::Connection::open(world.file("metacrypt.db")).unwrap();
    let failed = db.query_row("SELECT failed FROM attempt", [], |row| row.get(0));
    assert_eq!(failed, Ok(3));
    // As many as cost minutes: a start takes longer than the second that three cost.
    db.execute("UPDATE attempt SET failed = 12", []).unwrap();
    drop(db);
    world.start();
    let mut client = world.client().await;
    let early = client.unseal(password(SEAL)).await.unwrap_err();
    assert_eq!(early.code(), Code::ResourceExhausted, "{early:?}");
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    assert!(status.unwrap().into_inner().sealed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_have_a_snapshot_made() {
    let world = World::open().await;
    let root = world.token("admin", &world.mcias.password).await;
    let ada = world.user().await;
    let (status, text) = world.post(&ada, "/v1/snapshot", "{}");
    assert_eq!(status, 403, "{text}");
    let (status, text) = world.post(&root, "/v1/snapshot", "{}");
    assert_eq!(status, 200, "{text}");
    let made: serde_json::Value = serde_json::from_str(&text).unwrap();
    let path = made["path"].as_str().unwrap();
    assert!(
        path.ends_with(".tar.zst") && std::fs::exists(path).unwrap(),
        "{text}"
    );
    let rows = world.audit();
    let mut of = rows.iter().filter(|row| row.0.ends_with("System/Snapshot"));
    assert!(of.any(|row| row.1 == path && row.2 == "OK"), "{rows:?}");
}
