//! Keys of transit, and what accounts write to each other.

use super::Admin;

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
