//! A CA, and one for SSH.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::Admin;

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
    for (options, is) in [
        ("--profile web", true),
        ("--profile pki/web --issuer pki/services", true),
        ("--issuer root --profile web", false),
    ] {
        let list = admin.said(&format!("pki certificate list pki {options}"), "");
        assert_eq!(list.contains("www.example.org"), is, "{options}: {list}");
    }
    let (code, told) = admin.refused("pki certificate list pki --profile other/web", "");
    assert!(code == 2 && told.contains("another mount"), "{told}");
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
    admin.said("pki acme set pki --base https://pki.example.org", "");
    let other = "pki acme set pki --base https://other.example.org --resolver 192.0.2.53:53";
    assert_eq!(admin.refused(other, "").0, 2, "nobody was asked");
    let shown = admin.said(&format!("{other} --yes"), "");
    assert!(shown.contains("192.0.2.53"), "{shown}");
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
    let revoke = "pki issuer revoke pki/services";
    assert_eq!(admin.refused(revoke, "").0, 2, "nobody was asked");
    let shown = admin.said(&format!("{revoke} --reason key-compromise --yes"), "");
    assert!(shown.contains("revoked"), "{shown}");
    let listed = admin.said("pki certificate list pki", "");
    assert!(listed.contains("the CA services is"), "{listed}");
    let (code, told) = admin.refused("pki issuer revoke pki/root --yes", "");
    assert!(code == 5 && told.contains("no CA of this mount"), "{told}");
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
    admin.said("ssh ca create ssh host", "");
    admin.said(
        "ssh profile put ssh/hosts --host --below example.org --max-ttl 90d",
        "",
    );
    let host = format!("ssh sign ssh/hosts --key {public} --principal a.example.org");
    let before = std::fs::read(&beside).unwrap();
    let (code, told) = admin.refused(&host, "");
    assert!(code == 5 && told.contains("a user's certificate"), "{told}");
    assert_eq!(std::fs::read(&beside).unwrap(), before);
    // What was signed all the same is not lost.
    let other = told.split("the new one is in ").nth(1).unwrap();
    let other = std::fs::read_to_string(other.lines().next().unwrap().trim()).unwrap();
    let other: ssh_key::Certificate = other.trim().parse().unwrap();
    assert!(other.cert_type().is_host());
    admin.said(&format!("{host} --replace"), "");
    for (within, is) in [("1m", false), ("100d", true)] {
        let list =
            format!("ssh certificate list ssh --profile ssh/hosts --expires-within {within}");
        assert_eq!(
            admin.said(&list, "").contains("a.example.org"),
            is,
            "{list}"
        );
    }
    let list = admin.said("ssh certificate list ssh --json", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let people = |one: &&serde_json::Value| one["profile"] == "people";
    let signed = list.as_array().unwrap().iter().find(people).unwrap();
    let serial = signed["serial"].as_str().unwrap();
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
    admin.said("ssh profile delete ssh/hosts --yes", "");
    assert!(
        admin
            .said("ssh profile list ssh", "")
            .contains("no profile")
    );
}
