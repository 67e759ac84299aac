//! The subcommands that call the service, as an operator types them.

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
async fn keys_are_made_and_used() {
    let admin = Admin::new().await;
    assert!(admin.said("mount list", "").contains("system"));
    assert!(admin.said("mount engines", "").contains("transit:encrypt"));
    admin.said("mount create transit --engine transit", "");
    let (code, told) = admin.refused("mount create other --engine cubbyhole", "");
    assert!(code == 2 && told.contains("there are: "), "{told}");
    let made = "transit create transit/backup --algorithm aes256-gcm --rotate-after 90d";
    let made = admin.said(made, "");
    assert!(
        made.contains("aes256-gcm") && made.contains("after 90d"),
        "{made}"
    );
    let secret = "correct horse";
    let sealed = admin.said("transit encrypt transit/backup --about row-7", secret);
    assert!(sealed.starts_with("metacrypt:v1:"), "{sealed}");
    let opened = admin.said("transit decrypt transit/backup --about row-7", &sealed);
    assert_eq!(opened.trim_end(), secret);
    let (code, told) = admin.refused("transit decrypt transit/backup --about row-8", &sealed);
    assert!(code == 2 && told.contains("associated data"), "{told}");
    assert!(
        admin
            .said("transit rotate transit/backup", "")
            .contains("2 of ")
    );
    let again = admin.said("transit rewrap transit/backup --about row-7", &sealed);
    assert!(again.starts_with("metacrypt:v2:"), "{again}");
    // As it was given, and as a person types it.
    let lines = "a secret of two\nlines\n";
    admin.said("transit encrypt transit/backup", lines);
    for asked in [lines, lines.trim_end()] {
        let found = admin.said("audit hash", asked);
        let is_found = found.contains("Encrypt");
        assert_eq!(is_found, asked == lines, "{asked:?}: {found}");
    }
    admin.said("transit create transit/sign --algorithm ed25519", "");
    let signature = admin.said("transit sign transit/sign", "a text");
    let verify = format!(
        "transit verify transit/sign --signature {}",
        signature.trim()
    );
    assert!(admin.said(&verify, "a text").contains("good"));
    assert_eq!(admin.refused(&verify, "another").0, 1);
    let shown = admin.said("transit show transit/sign", "");
    assert!(shown.contains("BEGIN PUBLIC KEY"), "{shown}");
    let list = admin.said("transit list transit --json", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["name"], "backup", "{list}");
    assert!(
        admin
            .said("transit datakey transit/backup", "")
            .contains("plaintext")
    );
    let (code, _) = admin.refused("transit export transit/backup", "");
    assert_eq!(code, 5, "not exportable");
    let (code, told) = admin.refused("transit delete transit/sign", "");
    assert!(code == 2 && told.contains("--yes"), "{told}");
    let (code, told) = admin.refused("transit delete transit/sign --yes", "");
    assert!(code == 5 && told.contains("deletable"), "{told}");
    admin.said("transit update transit/sign --deletable true", "");
    admin.said("transit delete transit/sign --yes", "");
    assert_eq!(admin.refused("transit show transit/sign", "").0, 3);
    let (code, told) = admin.refused("mount delete transit --json", "");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["exit_code"]), (2, &2.into()), "{told}");
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
    let allowed = explain("backup-db");
    assert!(allowed.starts_with("ada may transit:encrypt"), "{allowed}");
    let denied = explain("other");
    assert!(denied.starts_with("ada may not"), "{denied}");
    for (description, line, wanted) in [
        (
            "an action that is none",
            "policy explain --account ada --action transit:encrpyt --resource transit/keys/a",
            "did you mean \"transit:encrypt\"?",
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
        made.contains("number 3") && made.contains("share 2"),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_is_made_and_certifies() {
    let admin = Admin::new().await;
    let at = |name: &str| admin.world.root.path().join(name).display().to_string();
    admin.said("mount create pki --engine pki", "");
    assert!(admin.said("pki url pki", "").contains("no CRL"));
    admin.said("pki url pki --set http://pki.example.org", "");
    admin.said("pki issuer create-root pki/root --common-name Root", "");
    let make = "pki issuer create pki/services --under root --common-name Services --permit-dns example.org";
    let made = admin.said(make, "");
    assert!(
        made.contains("permits DNS") && made.contains("BEGIN CERTIFICATE"),
        "{made}"
    );
    let list = admin.said("pki issuer list pki", "");
    assert!(
        list.contains("root, default") && list.contains("services"),
        "{list}"
    );
    let put = "pki profile put pki/web --issuer services --below example.org --for-server --max-ttl 30d --ttl 7d";
    let put = admin.said(put, "");
    assert!(
        put.contains("(below example.org)") && put.contains("servers"),
        "{put}"
    );
    let changed = "pki profile put pki/web --issuer services --below example.org --for-server --max-ttl 90d --ttl 7d";
    let (code, told) = admin.refused(changed, "");
    let wanted = ["will be replaced", "at most 30d -> 90d", "--yes"];
    assert!(
        code == 2 && wanted.iter().all(|w| told.contains(w)),
        "{told}"
    );
    let shown = admin.said("pki profile show pki/web", "");
    let command = shown.lines().last().unwrap().trim();
    assert!(
        command.starts_with("metacrypt pki profile put pki/web --issuer=services"),
        "{shown}"
    );
    admin.said(command.strip_prefix("metacrypt ").unwrap(), "");
    let (code, told) = admin.refused("transit list pki", "");
    assert!(
        code == 3 && told.contains("no mount \"pki\" of the engine transit"),
        "{told}"
    );
    let (cert, key) = (at("web.pem"), at("web-key.pem"));
    let same = format!("pki issue pki/web --name www.example.org --cert {cert} --key {cert}");
    let (code, told) = admin.refused(&same, "");
    assert!(code == 2 && told.contains("one file"), "{told}");
    assert!(
        admin
            .said("pki certificate list pki --profile web", "")
            .contains("no such"),
        "nothing was issued"
    );
    let issue = format!("pki issue pki/web --name www.example.org --cert {cert} --key {key}");
    let issued = admin.said(&issue, "");
    assert!(
        issued.contains("serial ") && !issued.contains("PRIVATE"),
        "{issued}"
    );
    let kept = fs::read(&key).unwrap();
    for (line, wanted) in [
        (issue.clone(), 5),
        (issue.replace(&cert, &at("other.pem")), 5),
        (format!("{issue} --replace").replace(&cert, &key), 2),
    ] {
        let (code, told) = admin.refused(&line, "");
        assert!(code == wanted, "{line}: {told}");
    }
    assert_eq!(fs::read(&key).unwrap(), kept, "nothing is lost");
    let mode = fs::metadata(&cert).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "the certificate is for all");
    assert!(!at("other.pem").is_empty() && fs::metadata(at("other.pem")).is_err());
    let mode = fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the key is its owner's");
    let other = format!("{issue} --replace").replace("www.example.org", "www.example.net");
    let (code, told) = admin.refused(&other, "");
    assert!(code != 0 && told.contains("www.example.net"), "{told}");
    assert!(
        fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"),
        "what was there stays"
    );
    let list = admin.said("pki certificate list pki --expires-within 30d --json", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let serial = list[0]["serial"].as_str().unwrap().to_owned();
    let renewed = format!("pki renew pki {serial} --cert {cert} --key {key}");
    assert!(!admin.said(&renewed, "").contains(&serial));
    let (code, told) = admin.refused(&renewed, "");
    assert!(
        code == 5 && told.contains(&format!("not {serial}")),
        "of another by now: {told}"
    );
    let revoke = format!("pki certificate revoke pki {serial} --reason superseded");
    assert_eq!(admin.refused(&revoke, "").0, 2, "nobody was asked");
    admin.said(&format!("{revoke} --yes"), "");
    let shown = admin.said(&format!("pki certificate show pki {serial}"), "");
    assert!(shown.contains("superseded"), "{shown}");
    assert!(
        admin
            .said("pki certificate list pki --revoked", "")
            .contains(&serial)
    );
    let (code, told) = admin.refused("pki issuer delete pki/services --yes", "");
    assert!(code == 5 && told.contains("disable it instead"), "{told}");
    let shown = admin.said("pki acme set pki --base https://pki.example.org", "");
    assert!(
        shown.contains("https://pki.example.org/v1/pki/pki/acme/directory"),
        "{shown}"
    );
    let put = "pki profile put pki/acme --issuer services --below example.org --for-server --max-ttl 7d --acme --acme-network 10.0.0.0/8";
    let put = admin.said(put, "");
    assert!(put.contains("also in 10.0.0.0/8"), "{put}");
    let key = admin.said("pki acme key create pki --profile acme", "");
    assert!(
        key.contains("hmac key") && key.contains("directory"),
        "{key}"
    );
    let list = admin.said("pki acme key list pki --json", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let kid = list[0]["id"].as_str().unwrap();
    admin.said(&format!("pki acme key delete pki {kid} --yes"), "");
    assert!(admin.said("pki acme key list pki", "").contains("no key"));
    admin.said("pki profile delete pki/acme --yes", "");
    admin.said("pki profile delete pki/web --yes", "");
    assert!(
        admin
            .said("pki profile list pki", "")
            .contains("no profile")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_certified_for_ssh() {
    let admin = Admin::new().await;
    let key = admin.world.root.path().join("id");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    assert!(keygen.status().unwrap().success());
    let public = key.with_extension("pub").display().to_string();
    admin.said("mount create ssh --engine ssh", "");
    let ca = admin.said("ssh ca create ssh user", "");
    assert!(ca.contains("signs") && ca.contains("ssh-ed25519"), "{ca}");
    assert!(
        admin
            .said("ssh ca create ssh user", "")
            .contains("published")
    );
    admin.said("ssh ca use ssh user 2", "");
    let list = admin.said("ssh ca list ssh", "");
    assert!(list.contains("user"), "{list}");
    let (code, told) = admin.refused("ssh ca delete ssh user 3", "");
    assert!(code == 3 && told.contains("no key 3"), "{told}");
    admin.said("ssh ca delete ssh user 1 --yes", "");
    let put = "ssh profile put ssh/people --user --account --principal deploy --max-ttl 8h --source 10.0.0.0/8";
    let put = admin.said(put, "");
    assert!(
        put.contains("(one's own account)") && put.contains("permit-pty"),
        "{put}"
    );
    let sign = format!("ssh sign ssh/people --key {public} --principal deploy --ttl 1h");
    for to in ["/nonexistent/cert", &key.display().to_string()] {
        admin.refused(&format!("{sign} --to {to}"), "");
    }
    let list = admin.said("ssh certificate list ssh", "");
    assert!(
        list.contains("no certificate"),
        "nothing was signed: {list}"
    );
    let signed = admin.said(&sign, "");
    let beside = key.with_file_name("id-cert.pub");
    let mut keygen = std::process::Command::new("ssh-keygen");
    let shown = keygen.args(["-L", "-f"]).arg(&beside).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("deploy") && shown.contains("10.0.0.0/8"),
        "{signed}{shown}"
    );
    let (code, told) = admin.refused(&sign.replace("deploy", "root"), "");
    assert!(code != 0 && told.contains("root"), "{told}");
    let list = admin.said("ssh certificate list ssh --json", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let serial = list[0]["serial"].as_str().unwrap();
    admin.said(&format!("ssh certificate revoke ssh {serial} --yes"), "");
    let shown = admin.said(&format!("ssh certificate show ssh {serial}"), "");
    assert!(
        shown
            .lines()
            .any(|l| l.starts_with("revoked") && l.ends_with("yes")),
        "{shown}"
    );
    let revoked = admin.said("ssh revocation create ssh --account bob", "");
    let id = revoked
        .trim_end()
        .trim_end_matches(" lifts it")
        .trim_end_matches('`');
    let id = id.rsplit(' ').next().unwrap();
    assert!(
        admin
            .said("ssh revocation list ssh", "")
            .contains("account bob")
    );
    admin.said(&format!("ssh revocation delete ssh {id} --yes"), "");
    admin.said("ssh profile delete ssh/people --yes", "");
    assert!(
        admin
            .said("ssh profile list ssh", "")
            .contains("no profile")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_write_to_each_other() {
    let admin = Admin::new().await;
    admin.said("mount create mail --engine user", "");
    let (code, told) = admin.refused("user seal mail --to admin", "a letter");
    assert!(code != 0 && told.contains("no keys"), "{told}");
    assert!(admin.said("user list mail", "").contains("nobody has keys"));
    assert!(admin.said("user join mail", "").contains("admin"));
    assert!(admin.said("user list mail", "").contains("admin"));
    let sealed = admin.said("user seal mail --to admin --about x", "a letter");
    assert_eq!(
        admin.said("user open mail --about x", &sealed).trim_end(),
        "a letter"
    );
    assert_ne!(admin.refused("user open mail --about y", &sealed).0, 0);
    let (code, told) = admin.refused("user open mail", "no such thing");
    assert!(code == 2 && told.contains("`seal` printed"), "{told}");
    let (code, told) = admin.refused("user seal mail --to admin=nobody", "a letter");
    assert!(code == 5 && told.contains("--to: admin is"), "{told}");
    let (code, told) = admin.refused("user delete mail/admin --id nobody", "");
    assert!(code == 3 && told.contains("(the account nobody)"), "{told}");
    admin.said("user rotate mail", "");
    admin.said("user trim mail --below 2 --yes", "");
    assert_ne!(admin.refused("user open mail --about x", &sealed).0, 0);
    admin.said("user delete mail/admin --yes", "");
    assert_eq!(admin.refused("user show mail/admin", "").0, 3);
}
