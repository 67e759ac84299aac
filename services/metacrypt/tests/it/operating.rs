//! Snapshots, what is made of them, and the audit log as its readers meet it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{net::UnixDatagram, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{CreateKeyRequest, CreateRuleRequest, KeyAlgorithm};
use mc_testkit::process::Process;
use rusqlite::{Connection, config::DbConfig};

use crate::{
    transit,
    world::{SEAL, World},
};

/// A service with two mounts, a snapshot of it, and a third mount since.
struct Snapshot {
    world: World,
    file: PathBuf,
    /// The recovery key, and shares that are enough.
    recovery: String,
    shares: Vec<String>,
    /// Of the engine that is in it.
    key: Vec<u8>,
}

/// A database as somebody has it who writes its file: for him the log's triggers are none.
fn unguarded(file: &Path) -> Connection {
    let db = Connection::open(file).unwrap();
    let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
    assert!(!db.set_db_config(triggers, false).unwrap());
    db
}

impl Snapshot {
    async fn take() -> Self {
        let (world, fresh) = World::sealed_by_all().await;
        world.unseal().await;
        let mut admin = world.admin().await;
        let key = transit::exported(&mut admin).await;
        let rule = crate::policy::allow("some", &["transit:*"], &["vault/**"]);
        let request = CreateRuleRequest {
            rule: Some(rule),
            replace: false,
        };
        admin.system.create_rule(request).await.unwrap();
        let printed = succeeds(&world, &["snapshot"]);
        let request = CreateKeyRequest {
            mount: "vault".to_owned(),
            name: "since".to_owned(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
            ..CreateKeyRequest::default()
        };
        admin.transit.create_key(request).await.unwrap();
        Self {
            file: printed.trim().into(),
            recovery: fresh.recovery.unwrap().to_string(),
            shares: fresh.shares[1..].iter().map(|s| s.to_string()).collect(),
            key,
            world,
        }
    }

    fn root(&self) -> &Path {
        self.world.root.path()
    }

    fn run(&self, more: &[&str], stdin: &str) -> Output {
        let file = self.file.display().to_string();
        let arguments: Vec<&str> = ["restore", &file].iter().chain(more).copied().collect();
        self.world.run(&arguments, stdin)
    }

    fn restore(&self, more: &[&str]) -> Command {
        let mut command = self.world.command();
        command.arg("restore").arg(&self.file).args(more);
        command
    }

    fn stop(&mut self) {
        let mut process = self.world.metacrypt.take().unwrap();
        process.terminate().unwrap();
        // All of it in its one file, to be copied.
        let db = Connection::open(self.root().join("metacrypt.db")).unwrap();
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        db.query_row(sql, [], |_| Ok(())).unwrap();
        db.close().unwrap();
    }
}

fn succeeds(world: &World, args: &[&str]) -> String {
    let out = world.run(args, "");
    assert!(out.status.success(), "{args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn error(out: &Output) -> String {
    assert!(!out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// What changes which files there are, or has them be on the disk. Of one row each machine has one.
const CHANGES: [&str; 7] = [
    "?mkdir,?mkdirat",
    "?rename,?renameat,?renameat2",
    "?link,?linkat",
    "?unlink",
    "?rmdir,?unlinkat",
    "?ftruncate",
    "?fsync,?fdatasync",
];

/// Runs a command of one thread that is killed (SIGKILL) before its so many-th call of this kind: strace counts them by their names.
fn killed_at(calls: &str, step: usize, command: Command) -> Output {
    let mut strace = Command::new("strace");
    strace
        .args(["--follow-forks", "--output=/dev/null"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:signal=KILL:when={step}"))
        .arg(command.get_program())
        .args(command.get_args());
    strace.stdin(Stdio::null()).output().unwrap()
}

/// The keys of a database that is whole.
fn keys(root: &Path) -> BTreeSet<String> {
    let db = Connection::open(root.join("metacrypt.db")).unwrap();
    let whole: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    mcdsl::audit::verify(&db, None).unwrap();
    let sql = "SELECT path FROM item WHERE path LIKE 'keys/%'";
    let mut paths = db.prepare(sql).unwrap();
    let paths = paths.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names = paths.map(|path| path.unwrap().split('/').nth(1).unwrap().to_owned());
    names.collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The drill, by each secret, while the service runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_shown_to_open_and_to_be_read() {
    let taken = Snapshot::take().await;
    let shares = taken.shares.join("\n");
    for (by, flags, secret) in [
        ("password", &["--verify"][..], SEAL),
        (
            "recovery key",
            &["--verify", "--recovery-key"],
            &taken.recovery,
        ),
        ("shares", &["--verify", "--shares"], &shares),
    ] {
        let out = taken.run(flags, secret);
        assert!(out.status.success(), "{by}: {out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        for told in [
            &*format!("by the {by}"),
            "mount       vault:",
            "mount       system:",
            "all as they were written",
            "policy      can be used",
        ] {
            assert!(text.contains(told), "{by}: {told}: {text}");
        }
    }
    let out = taken.run(&["--verify", "--shares", "--json"], &shares);
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["by"], "shares", "{found}");
    assert!(found["mounts"]["vault"].as_u64() > Some(0), "{found}");
    // What is no good, in archives whose sums are right.
    let unpacked = taken.root().join("unpacked");
    mcdsl::archive::read(&taken.file, &unpacked, 1 << 30).unwrap();
    let good = fs::read(unpacked.join("metacrypt.db")).unwrap();
    let has = |what: &[u8]| good.windows(what.len()).any(|part| part == what);
    let stored = BASE64.encode(&taken.key);
    for (what, text, wanted) in [
        ("a key's name", &b"keys/known"[..], true),
        ("a key", &taken.key, false),
        ("the same as it is stored", stored.as_bytes(), false),
        ("the password", SEAL.as_bytes(), false),
        ("the recovery key", taken.recovery.as_bytes(), false),
        ("a share", taken.shares[0].as_bytes(), false),
    ] {
        assert!(!text.is_empty() && has(text) == wanted, "{what}");
    }
    let changed = |name: &str, content: &str, sql: &str| {
        let file = taken.root().join(format!("{name}.db"));
        fs::write(&file, &good).unwrap();
        let db = unguarded(&file);
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        let archive = taken.root().join(format!("{name}.tar.zst"));
        let source = mcdsl::archive::Source {
            name: content.to_owned(),
            path: file,
        };
        mcdsl::archive::write(&archive, &[source]).unwrap();
        archive
    };
    let db = "metacrypt.db";
    let value = "UPDATE item SET value = zeroblob(length(value)) WHERE path LIKE 'keys/known%'";
    let unwritten = "UPDATE audit SET resource = 'eve' WHERE seq = 2";
    let trigger =
        "CREATE TRIGGER eve AFTER INSERT ON audit BEGIN DELETE FROM item WHERE path = 'x'; END";
    for (description, file, secret, said) in [
        (
            "another password",
            taken.file.clone(),
            "wrong one",
            "not the one",
        ),
        (
            "no file",
            taken.root().join("none"),
            SEAL,
            "there is no snapshot",
        ),
        (
            "another service's",
            changed("other", "mcias.db", ""),
            SEAL,
            "no snapshot of metacrypt",
        ),
        (
            "a changed value",
            changed("value", db, value),
            SEAL,
            "mount \"vault\"",
        ),
        (
            "a changed data key",
            changed(
                "key",
                db,
                "UPDATE mount SET data_key = zeroblob(61) WHERE name = 'vault'",
            ),
            SEAL,
            "changed by somebody else",
        ),
        (
            "a trigger",
            changed("trigger", db, trigger),
            SEAL,
            "has the trigger \"eve\" of \"audit\", which no migration makes",
        ),
        (
            "a changed log",
            changed("log", db, unwritten),
            SEAL,
            "not as it was written",
        ),
        (
            "rules that are gone",
            changed("rules", db, "DELETE FROM item WHERE path = 'policy'"),
            SEAL,
            "the policy in the snapshot",
        ),
        (
            "none was made",
            changed("empty", db, "DELETE FROM seal"),
            SEAL,
            "not initialised",
        ),
    ] {
        let file = file.display().to_string();
        let out = taken.world.run(&["restore", "--verify", &file], secret);
        let told = error(&out);
        assert!(told.contains(said), "{description}: {told}");
    }
    assert!(!taken.root().join("metacrypt.db.verifying").exists());
    let lock = taken.root().join("metacrypt.db.verifying.lock");
    assert!(!lock.exists(), "nothing is left");
    // Below the directory of the database, from wherever it is typed.
    let name = taken.file.strip_prefix(taken.root()).unwrap();
    let name = name.display().to_string();
    let out = taken.world.run(&["restore", "--verify", &name], SEAL);
    assert!(out.status.success(), "{name}: {out:?}");
    for (description, line, code) in [
        ("no snapshot", &["restore", "none"][..], 3),
        ("a service that runs", &["restore", &name, "--replace"], 5),
        ("no configuration", &["--config", "none", "status"], 2),
        ("a seal that is made", &["init"], 5),
    ] {
        let out = taken.world.run(line, "");
        assert_eq!(out.status.code(), Some(code), "{description}: {out:?}");
    }
    let out = taken.run(&["--replace"], "");
    assert!(error(&out).contains("in use"), "the service runs");
    assert_eq!(keys(taken.root()), set(&["known", "since"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_restored_by_a_process_that_may_be_killed() {
    let mut taken = Snapshot::take().await;
    taken.stop();
    let root = taken.root().to_owned();
    assert!(error(&taken.run(&[], "")).contains("--replace"));
    let (old, new) = (set(&["known", "since"]), set(&["known"]));
    fs::copy(root.join("metacrypt.db"), root.join("old")).unwrap();
    let (mut before, mut after) = (0, 0);
    for calls in CHANGES {
        let mut restored = Vec::new();
        for step in 1.. {
            fs::copy(root.join("old"), root.join("metacrypt.db")).unwrap();
            for entry in fs::read_dir(&root).unwrap().flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().contains("before-restore") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            // What an earlier one left beside it is there.
            let out = killed_at(calls, step, taken.restore(&["--replace"]));
            let found = keys(&root);
            assert!(found == old || found == new, "{calls} {step}: {found:?}");
            if out.status.success() {
                break;
            }
            assert_eq!(out.status.signal(), Some(9), "{calls} {step}: {out:?}");
            restored.push(found == new);
        }
        assert!(restored.is_sorted(), "{calls}: what is restored stays");
        let done = restored.iter().filter(|restored| **restored).count();
        (before, after) = (before + restored.len() - done, after + done);
    }
    assert!(before > 10 && after > 1, "{before} {after}");
    eprintln!("killed {before} times before it was restored, and {after} times since");
    fs::copy(root.join("old"), root.join("metacrypt.db")).unwrap();
    let out = taken.run(&["--replace", "--json"], "");
    assert!(out.status.success(), "{out:?}");
    let done: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let before = done["before"].as_str().unwrap();
    assert!(before.contains("before-restore"), "{done}");
    assert_eq!(keys(&root), new);
    taken.world.start();
    taken.world.unseal().await;
    let rows = taken.world.audit();
    assert!(rows.iter().any(|row| row.0 == "restore"), "{rows:?}");
}

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

/// A service with a CA, and what an administrator types.
pub(crate) struct Ca {
    pub(crate) world: World,
    token: String,
}

impl Ca {
    async fn new() -> Self {
        Self::of(World::open().await).await
    }

    /// In one that is open.
    pub(crate) async fn of(world: World) -> Self {
        let file = world.root.path().join("admin.token");
        // Of a file that others may not read.
        fs::copy(world.root.path().join("token"), &file).unwrap();
        let token = world.token("admin", &world.mcias.password).await;
        fs::write(&file, token).unwrap();
        let token = file.display().to_string();
        let ca = Self { world, token };
        for line in [
            "mount create pki --engine pki",
            "pki issuer create-root pki/root --common-name Root",
            "pki issuer create pki/services --under root --common-name Services",
            "pki profile put pki/web --issuer services --below svc.example.org --ip 192.0.2.0/24 --for-server --ttl 7d --max-ttl 30d",
        ] {
            let out = ca.run(line);
            assert!(out.status.success(), "{line}: {out:?}");
        }
        ca
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        let words = line.split_whitespace().chain(["--token-file", &self.token]);
        self.world.run(&words.collect::<Vec<_>>(), "")
    }

    /// What anybody is answered without TLS.
    fn plain(&self, address: std::net::SocketAddr, path: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--output", "/dev/null"])
            .args(["--write-out", "%{http_code} %{content_type}"])
            .arg(format!("http://{address}{path}"));
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_kept_from_ending() {
    let ca = Ca::new().await;
    let (cert, key) = (
        ca.world.root.path().join("web.pem"),
        ca.world.root.path().join("web.key"),
    );
    let base = format!(
        "pki keep pki/web --cert {} --key {}",
        cert.display(),
        key.display()
    );
    let one = "--name a.svc.example.org --name 192.0.2.1";
    let read = || {
        (
            fs::read(&cert).unwrap_or_default(),
            fs::read(&key).unwrap_or_default(),
        )
    };
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (description, names, told, renewed) in [
        ("the first", one.to_owned(), "there was none", true),
        ("it is good", one.to_owned(), "is kept", false),
        (
            "soon enough",
            format!("{one} --renew-before 1d"),
            "is kept",
            false,
        ),
        (
            "soon enough, whatever was said",
            format!("{one} --renew-before 8d"),
            "is kept",
            false,
        ),
        ("it is revoked", one.to_owned(), "was revoked", true),
        (
            "fewer names",
            "--name 192.0.2.1".to_owned(),
            "for a.svc.example.org, too",
            true,
        ),
        (
            "another name",
            format!("{one} --name b.svc.example.org"),
            "not for a.svc",
            true,
        ),
        (
            "another address",
            "--name 192.0.2.2".to_owned(),
            "not for 192.0.2.2",
            true,
        ),
        (
            "another key",
            format!("{one} --replace"),
            "is not the private key",
            true,
        ),
        ("no text", one.to_owned(), "", true),
        ("another CA's", format!("{one} --replace"), "", true),
        ("an issuer's own", format!("{one} --replace"), "", true),
        ("it is good again", one.to_owned(), "is kept", false),
    ] {
        match description {
            "another key" => fs::write(&key, &other).unwrap(),
            "another CA's" => {
                let own = vec!["a.svc.example.org".to_owned()];
                let made = rcgen::generate_simple_self_signed(own).unwrap();
                fs::write(&cert, made.cert.pem()).unwrap();
                fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            }
            "an issuer's own" => {
                let out = ca.run("--json pki issuer show pki/root");
                let root: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
                fs::write(&cert, root["chain"].as_str().unwrap()).unwrap();
                fs::remove_file(&key).unwrap();
            }
            "no text" => fs::write(&cert, "").unwrap(),
            "it is revoked" => {
                let out = ca.run("--json pki certificate list pki");
                let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
                let leaves = all.as_array().unwrap().iter();
                let leaves =
                    leaves.filter(|one| one["profile"].as_str().is_some_and(|p| !p.is_empty()));
                for one in leaves {
                    let serial = one["serial"].as_str().unwrap();
                    ca.run(&format!("pki certificate revoke pki {serial} --yes"));
                }
            }
            _ => {}
        }
        let before = read();
        if let Some(meant) = names.strip_suffix(" --replace") {
            let out = ca.run(&format!("{base} {meant}"));
            assert!(error(&out).contains("--replace"), "{description}: {out:?}");
            assert!(out.status.code() == Some(5) && read() == before);
        }
        let out = ca.run(&format!("{base} {names}"));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success() && text.contains(told),
            "{description}: {out:?}"
        );
        let after = read();
        let changed = (before.0 != after.0, before.1 != after.1);
        assert_eq!(changed, (renewed, renewed), "{description}: {text}");
    }
    // Who may only issue cannot know of a revocation, and is told; one whose token is none fails while the certificate is still good.
    let before = read();
    let user = ca.world.root.path().join("user.token");
    fs::copy(&ca.token, &user).unwrap();
    fs::write(&user, ca.world.user().await).unwrap();
    let user = user.display().to_string();
    let put =
        "policy put keeper --allow --account ada --action pki:issue --resource pki/profiles/web";
    assert!(ca.run(put).status.success());
    let line = format!("{base} {one}");
    let words: Vec<_> = line.split(' ').chain(["--token-file", &user]).collect();
    let out = ca.world.run(&words, "");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && told.contains("needs `pki:read` on pki/profiles/web"),
        "{out:?}"
    );
    fs::write(&user, "eyJ.eyJ.none").unwrap();
    let out = ca.world.run(&words, "");
    assert!(error(&out).contains("cannot be asked"), "{out:?}");
    assert!(read() == before);
    let out = ca.run(&format!("{base} --name elsewhere.example.org"));
    assert!(!out.status.success(), "{out:?}");
    assert!(read() == before, "what is refused changes nothing");
    fs::write(&cert, "no certificate").unwrap();
    let out = ca.run(&format!("{base} {one}"));
    assert!(error(&out).contains("is not overwritten"), "{out:?}");
    assert_eq!(fs::read(&cert).unwrap(), b"no certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_certificates_name_is_there_without_tls() {
    let mut ca = Ca::new().await;
    let warned = |ca: &Ca, line: &str| {
        let out = ca.run(line);
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stderr).contains("public_listen")
    };
    assert!(warned(&ca, "pki url pki --set http://pki.example.org"));
    ca.world.metacrypt.take().unwrap().terminate().unwrap();
    let address = mc_testkit::port::free();
    let config = ca.world.root.path().join("metacrypt.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = format!("{text}[service]\npublic_listen = '{address}'\n");
    fs::write(&config, text).unwrap();
    ca.world.start();
    assert!(
        ca.plain(address, "/v1/pki/pki/crl").starts_with("503"),
        "it is sealed"
    );
    ca.world.unseal().await;
    assert!(!warned(&ca, "pki url pki"));
    for (path, wanted) in [
        ("/v1/pki/pki/crl", "200 application/pkix-crl"),
        (
            "/v1/pki/pki/issuer/services/crl",
            "200 application/pkix-crl",
        ),
        (
            "/v1/pki/pki/issuer/services/der",
            "200 application/pkix-cert",
        ),
        (
            "/v1/pki/pki/issuer/services/ocsp/MAA=",
            "200 application/ocsp-response",
        ),
        ("/v1/pki/pki/ca", "404"),
        ("/v1/pki/none/crl", "404"),
        ("/v1/seal", "404"),
        ("/v1/audit", "404"),
        ("/openapi.json", "404"),
        ("/login", "404"),
    ] {
        let got = ca.plain(address, path);
        assert!(got.starts_with(wanted), "{path}: {got}");
    }
}
