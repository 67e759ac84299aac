//! The subcommands that call the service, as an operator types them.

mod certificates;
mod keys;
mod program;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Output,
    time::{Duration, SystemTime},
};

use mcdsl::cli::{StoredToken, TokenStore};

use crate::{
    running::PASSWORD,
    world::{SEAL, World},
};

/// As the administrator, by the file of a token.
struct Admin {
    world: World,
}

impl Admin {
    async fn new() -> Self {
        let world = World::open().await;
        let token = world.token("admin", &world.mcias.password).await;
        let file = world.root.path().join("admin.token");
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { world }
    }

    /// Runs a line with that for stdin.
    fn run(&self, line: &str, stdin: &str) -> Output {
        let file = self.world.root.path().join("admin.token");
        let file = file.to_str().unwrap();
        let words = line.split_whitespace().chain(["--token-file", file]);
        self.world.run(&words.collect::<Vec<_>>(), stdin)
    }

    /// What it prints, once it has succeeded.
    fn said(&self, line: &str, stdin: &str) -> String {
        let out = self.run(line, stdin);
        assert!(out.status.success(), "{line}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// Its exit code and what it prints, which both are of a failure.
    fn refused(&self, line: &str, stdin: &str) -> (i32, String) {
        let out = self.run(line, stdin);
        assert!(!out.status.success(), "{line}: {out:?}");
        let text = String::from_utf8(out.stderr).unwrap();
        (out.status.code().unwrap(), text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_written_and_explained() {
    let admin = Admin::new().await;
    let put = "policy put backups --allow --account ada --action transit:encrypt --resource transit/keys/backup-*";
    let made = admin.said(put, "");
    assert!(made.contains("account ada#"), "{made}");
    // As it is: nothing to ask.
    admin.said(put, "");
    let (code, told) = admin.refused(&format!("{put} --priority 3"), "");
    let wanted = ["will be replaced", "priority 0 -> 3", "--yes"];
    let all = wanted.iter().all(|wanted| told.contains(wanted));
    assert!(code == 2 && all, "{told}");
    let (code, told) = admin.refused(&format!("{put} --action transit:encrpyt"), "");
    let first = told.contains("did you mean") && !told.contains("will be replaced");
    assert!(code == 2 && first, "{told}");
    admin.said(&format!("{put} --priority 3 --yes"), "");
    let shown = admin.said("policy show backups", "");
    assert!(
        shown.contains("metacrypt policy put backups --allow --priority=3"),
        "{shown}"
    );
    assert!(admin.said("policy list", "").contains("backup-*"));
    let explain = |name: &str| {
        let line = "policy explain --account ada --action transit:encrypt --resource transit/keys/";
        admin.said(&format!("{line}{name}"), "")
    };
    let json =
        "--json policy explain --account ada --action transit:encrypt --resource transit/keys/a";
    let json = admin.said(json, "");
    assert!(
        json.contains("not looked up"),
        "a script is told, too: {json}"
    );
    let allowed = explain("backup-db");
    assert!(allowed.starts_with("ada may transit:encrypt"), "{allowed}");
    let denied = explain("other");
    assert!(denied.starts_with("ada may not"), "{denied}");
    let nobody = admin.said(
        "policy explain --account nobody --role user --action transit:encrypt --resource transit/keys/a",
        "",
    );
    let note = " note: MCIAS has no account \"nobody\"; it was judged as a person with the roles user and no tags\n";
    assert!(
        nobody.starts_with("nobody may not") && nobody.contains(note),
        "{nobody}"
    );
    let ada = admin.world.root.path().join("ada.token");
    fs::write(&ada, admin.world.user().await).unwrap();
    fs::set_permissions(&ada, fs::Permissions::from_mode(0o600)).unwrap();
    let ada = ada.to_str().unwrap();
    for (name, code, allowed) in [("backup-db", 0, "true"), ("other", 1, "false")] {
        let on = format!("--resource=transit/keys/{name}");
        let asked = ["policy", "can-i", "--action=transit:encrypt", &on];
        let asked = asked.into_iter().chain(["--json", "--token-file", ada]);
        let out = admin.world.run(&asked.collect::<Vec<_>>(), "");
        let told = String::from_utf8_lossy(&out.stdout);
        let wanted = format!("\"allowed\": {allowed}");
        assert!(
            out.status.code() == Some(code) && told.contains(&wanted),
            "{name}: {out:?}"
        );
    }
    let may = admin.said(
        "policy can-i --action transit:encrypt --resource transit/keys/a",
        "",
    );
    assert_eq!(may, "you may transit:encrypt on transit/keys/a\n");
    for (description, line, wanted) in [
        (
            "a deny that binds nobody",
            "policy put a --deny --role admin --action transit:* --resource transit/**",
            "--role: administrators may do everything",
        ),
        (
            "an action that is none",
            "policy explain --account ada --action transit:encrpyt --resource transit/keys/a",
            "did you mean \"transit:encrypt\"?",
        ),
        (
            "what nobody is asked for",
            "policy can-i --action transit:encrypt --resource transit/kyes/a",
            "--resource: transit:encrypt is never asked for",
        ),
        (
            "where nothing is",
            "policy explain --account ada --action transit:encrypt --resource transit/kyes/a",
            "MOUNT/keys/NAME",
        ),
        (
            "a rule for nothing",
            "policy put a --allow --anyone --action transit:encrypt --resource transit/kyes/*",
            "--resource: transit:encrypt is never asked for on \"transit/kyes/*\", but on MOUNT/keys/NAME",
        ),
        (
            "of another engine",
            "policy put a --allow --anyone --action pki:issue --action transit:read --resource transit/keys/*",
            "pki:issue is never asked for",
        ),
        (
            "of another log",
            "policy put a --allow --anyone --action audit:read --resource transit/**",
            "audit:read is never asked for on \"transit/**\", but on system/audit",
        ),
        (
            "of another engine's mount",
            "policy put a --allow --anyone --action pki:* --resource vault/**",
            "vault is a mount of the engine transit",
        ),
    ] {
        if description == "of another engine's mount" {
            admin.said("mount create vault --engine transit", "");
        }
        let (code, told) = admin.refused(line, "");
        assert!(code == 2 && told.contains(wanted), "{description}: {told}");
    }
    let denied = explain("other");
    assert!(denied.contains("no roles (--role)"), "{denied}");
    // As it was sent, and nothing that the terminal of who reads it would obey.
    admin.refused(
        "policy can-i --action transit:encrypt --resource x\u{1b}[2J",
        "",
    );
    let log = admin.said("audit list", "");
    let obeyed = log.contains(|c: char| c != '\n' && c.is_control());
    assert!(!obeyed && log.contains(r"x\u{1b}[2J"), "{log}");
    assert_eq!(admin.refused("policy delete none --yes", "").0, 3);
    admin.said("policy delete backups --yes", "");
    assert!(admin.said("policy list", "").contains("no rule"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seal_is_changed_and_closed() {
    let admin = Admin::new().await;
    let next = "copper lantern drizzle mosaic thimble";
    let (code, told) = admin.refused("password", &format!("wrong\n{next}"));
    assert!(code == 5, "{told}");
    let (code, told) = admin.refused("password", &format!("{SEAL}\npassword1"));
    assert!(code == 2 && told.contains("too easy"), "{told}");
    admin.said("password", &format!("{SEAL}\n{next}"));
    let made = admin.said("rotate --no-recovery-key --new-shares none", next);
    assert!(
        made.contains("number 2") && !made.contains("share 1"),
        "{made}"
    );
    let made = admin.said(
        "rotate --new-shares 2/2 --new-password",
        &format!("{next}\n{SEAL}"),
    );
    assert!(
        ["number 3", "recovery key", "share 2"]
            .iter()
            .all(|part| made.contains(part)),
        "{made}"
    );
    assert!(admin.said("seal", "").contains("is sealed"));
    let (code, told) = admin.refused("mount list", "");
    assert!(code == 4 && told.contains("`metacrypt unseal`"), "{told}");
    admin.world.unseal().await;
    admin.said("mount list", "");
}

/// A token that is about to end is renewed at MCIAS, and a person who is not logged in is told how to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_used_and_renewed() {
    let world = World::open().await;
    let state = world.root.path().join("state");
    let mcias = format!("https://localhost:{}", world.mcias.handle.grpc().port());
    let run = |args: &[&str]| {
        let mut command = world.command();
        command.args(args).env("XDG_STATE_HOME", &state);
        command.env("MCIAS_SERVER", &mcias);
        command.env("MCIAS_CA", world.root.path().join("ca.pem"));
        command.output().unwrap()
    };
    let nobody = run(&["mount", "list"]);
    let told = String::from_utf8(nobody.stderr).unwrap();
    assert!(
        told.contains("`mciasctl login --service metacrypt`"),
        "{told}"
    );
    let store = TokenStore::within(&state.join("metacircular/tokens"), "metacrypt").unwrap();
    let token = StoredToken {
        account: "ada".to_owned(),
        token: world.token("ada", PASSWORD).await.into(),
        expires: SystemTime::now() + Duration::from_secs(60),
    };
    let (room, server) = (
        store.room(SystemTime::now()).unwrap(),
        mcias.parse().unwrap(),
    );
    let locked = store.lock().unwrap();
    locked
        .put(room, &server, &token, SystemTime::now())
        .unwrap();
    drop(locked);
    let listed = run(&["mount", "list"]);
    assert!(listed.status.success(), "{listed:?}");
    let kept = store.get(&server, SystemTime::now()).unwrap().unwrap();
    assert!(kept.expires > token.expires + Duration::from_secs(600));
}
