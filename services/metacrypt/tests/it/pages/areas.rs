//! Each area, as somebody uses it who may.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use x509_cert::der::{DecodePem as _, pem};

use super::{SEND, Walk, furnished};

/// Names, the first of which is long.
const LONG_AND_SHORT: &str =
    "a-service-with-a-very-long-name.internal.example.org\nwww.example.org";
const ITS_TITLE: &str = "Certificate for a-service-with-a-very-long-name.internal.example.org";

/// The file in a link.
fn file(url: &str) -> Result<String> {
    let base64 = url.split_once(";base64,").context("a file")?.1;
    Ok(String::from_utf8(BASE64.decode(base64.as_bytes())?)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_issued_renewed_and_revoked() -> Result<()> {
    let world = furnished().await;
    let walk = Walk::of(&world, "ada").await?;
    // There is one mount of this kind.
    walk.open("/pki", "Certificates of pki").await?;
    walk.judge("pki-empty").await?;
    walk.press("main .tabs li:nth-child(2) a", "Issue a certificate of pki")
        .await?;
    walk.judge("pki-choose").await?;
    walk.press("main ul.rows a", "Issue a certificate of pki")
        .await?;
    walk.fill(&[("names", "www.example.com"), ("ttl", "30d")])
        .await?;
    walk.click("main form[method=post] button").await?;
    walk.heading("Issue a certificate of pki").await?;
    ensure!(walk.count("[role=alert]").await? == 1, "why it was refused");
    walk.judge("pki-refused").await?;
    walk.fill(&[("names", LONG_AND_SHORT), ("ttl", "60d")])
        .await?;
    walk.press("main form[method=post] button", "The certificate is issued")
        .await?;
    walk.judge("pki-issued").await?;
    let key = file(&walk.link("a[download$='-key.pem']").await?)?;
    ensure!(key.contains("PRIVATE KEY") && walk.text("#key").await?.trim() == key.trim());
    let (label, _) = pem::decode_vec(key.as_bytes())?;
    ensure!(label == "PRIVATE KEY");
    let chain = walk.text("#chain").await?;
    x509_cert::Certificate::from_pem(
        chain
            .split_inclusive("-----END CERTIFICATE-----")
            .next()
            .context("a certificate")?,
    )?;
    walk.press("main > p > a.button", ITS_TITLE).await?;
    walk.judge("pki-certificate").await?;
    ensure!(
        !walk.text("main").await?.contains("PRIVATE KEY"),
        "shown once"
    );
    walk.press("main a[href$='/renew']", "Renew the certificate")
        .await?;
    walk.judge("pki-renew").await?;
    walk.press(SEND, "The certificate is issued").await?;
    walk.open("/pki/pki", "Certificates of pki").await?;
    // The issuer's own is the third.
    ensure!(walk.count("tbody tr").await? == 3);
    // The one that ends sooner is first, and marked.
    ensure!(
        walk.text("tbody tr:first-child")
            .await?
            .contains("ends in 6d")
    );
    walk.judge("pki-certificates").await?;
    walk.open(
        "/pki/pki?name=www.example.org&ends=7",
        "Certificates of pki",
    )
    .await?;
    ensure!(walk.count("tbody tr").await? == 1);
    walk.click("tbody a").await?;
    walk.heading(ITS_TITLE).await?;
    walk.press("main a.danger", "Revoke the certificate?")
        .await?;
    walk.click("option[value='4']").await?;
    walk.judge("pki-revoke").await?;
    walk.click(SEND).await?;
    walk.heading(ITS_TITLE).await?;
    walk.says("superseded").await?;
    ensure!(
        walk.count("main a.danger, main a[href$='/renew']").await? == 0,
        "its end"
    );
    walk.judge("pki-revoked").await?;
    walk.open("/pki/pki/issuers", "Issuers of pki").await?;
    walk.judge("pki-issuers").await?;
    for (link, begin) in [
        ("/v1/pki/pki/issuer/services", "-----BEGIN CERTIFICATE"),
        ("/v1/pki/pki/issuer/services/crl", ""),
    ] {
        ensure!(
            walk.count(&format!("a[href='{link}']")).await? == 1,
            "{link}"
        );
        let to = world.root.path().join("fetched");
        let (status, media) = world.fetch(link, &to);
        ensure!(status == 200, "{link}: {status} {media}");
        ensure!(String::from_utf8_lossy(&std::fs::read(&to)?).starts_with(begin));
    }
    walk.open("/pki/pki/profiles", "Profiles of pki").await?;
    walk.judge("pki-profiles").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_keys_are_signed_and_revoked() -> Result<()> {
    let world = furnished().await;
    let walk = Walk::of(&world, "ada").await?;
    walk.open("/ssh", "Certificates of ssh").await?;
    let at = world.root.path().join("id");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&at)
        .status()?;
    ensure!(made.success());
    let public = std::fs::read_to_string(at.with_extension("pub"))?;
    walk.open("/ssh/ssh/sign", "Sign a key by ssh").await?;
    walk.judge("ssh-sign").await?;
    walk.fill(&[("public_key", public.trim()), ("principals", "root")])
        .await?;
    walk.press(SEND, "Sign a key by ssh").await?;
    ensure!(walk.count("[role=alert]").await? == 1, "why it was refused");
    walk.judge("ssh-refused").await?;
    walk.fill(&[("principals", "ada deploy"), ("ttl", "2h")])
        .await?;
    walk.press(SEND, "The key is signed").await?;
    walk.judge("ssh-signed").await?;
    std::fs::write(
        world.root.path().join("id-cert.pub"),
        file(&walk.link("main a[download]").await?)?,
    )?;
    let shown = Command::new("ssh-keygen")
        .args(["-L", "-f"])
        .arg(world.root.path().join("id-cert.pub"))
        .output()?;
    let shown = String::from_utf8(shown.stdout)?;
    ensure!(
        shown.contains("Key ID: \"ada\"") && shown.contains("deploy"),
        "{shown}"
    );
    walk.open("/ssh/ssh", "Certificates of ssh").await?;
    walk.judge("ssh-certificates").await?;
    walk.click("tbody a").await?;
    walk.heading("Certificate for ada, deploy").await?;
    walk.judge("ssh-certificate").await?;
    walk.press("main a.danger", "Revoke the certificate?")
        .await?;
    walk.judge("ssh-revoke").await?;
    walk.press(SEND, "Certificate for ada, deploy").await?;
    ensure!(walk.text("dl.facts").await?.contains("revoked"));
    let krl = world.root.path().join("krl");
    ensure!(world.fetch("/v1/ssh/ssh/krl", &krl).0 == 200);
    let asked = Command::new("ssh-keygen")
        .arg("-Q")
        .arg("-f")
        .arg(&krl)
        .arg(world.root.path().join("id-cert.pub"))
        .output()?;
    ensure!(!asked.status.success(), "it is in the list");
    walk.open("/ssh/ssh/revocations", "Revocations of ssh")
        .await?;
    walk.fill(&[("account", "gil")]).await?;
    walk.press("main form button.danger", "Revocations of ssh")
        .await?;
    walk.says("It is revoked.").await?;
    walk.judge("ssh-revocations").await?;
    walk.click("tbody button").await?;
    walk.heading("Revocations of ssh").await?;
    walk.says("It is lifted").await?;
    walk.open("/ssh/ssh/keys", "CA keys of ssh").await?;
    walk.says("ssh-ed25519 ").await?;
    walk.judge("ssh-keys").await?;
    walk.open("/ssh/ssh/profiles", "Profiles of ssh").await?;
    walk.judge("ssh-profiles").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_rotated_and_used() -> Result<()> {
    let world = furnished().await;
    let walk = Walk::of(&world, "ada").await?;
    walk.open("/transit", "Keys of transit").await?;
    walk.judge("transit-keys").await?;
    walk.press("main .tabs li:nth-child(2) a", "New key of transit")
        .await?;
    walk.fill(&[("name", "mail"), ("rotate", "soon")]).await?;
    walk.press(SEND, "New key of transit").await?;
    walk.judge("transit-refused").await?;
    walk.fill(&[("rotate", "90d")]).await?;
    walk.press(SEND, "Key mail").await?;
    walk.judge("transit-key").await?;
    walk.fill(&[
        ("plain", "the text of a letter"),
        ("plain-about", "letter 7"),
    ])
    .await?;
    walk.press("form[action$='/encrypt'] button", "Key mail")
        .await?;
    let sealed = walk.text("#result").await?;
    ensure!(sealed.starts_with("metacrypt:v1:"), "{sealed}");
    walk.judge("transit-encrypted").await?;
    walk.press("main a[href$='/rotate']", "Rotate the key mail?")
        .await?;
    walk.judge("transit-rotate").await?;
    walk.press(SEND, "Key mail").await?;
    ensure!(walk.count("table tbody tr").await? == 2);
    walk.fill(&[("cipher", &sealed), ("cipher-about", "letter 8")])
        .await?;
    walk.press("form[action$='/decrypt'] button", "Key mail")
        .await?;
    ensure!(walk.count("[role=alert]").await? == 1, "another letter's");
    walk.fill(&[("cipher-about", "letter 7")]).await?;
    walk.press("form[action$='/decrypt'] button", "Key mail")
        .await?;
    ensure!(walk.text("#result").await? == "the text of a letter");
    walk.judge("transit-decrypted").await?;
    walk.open("/transit/transit/key/releases", "Key releases")
        .await?;
    ensure!(
        walk.count("form[action$='/encrypt']").await? == 0,
        "it signs"
    );
    walk.judge("transit-signs").await?;
    let all = format!("{:?}", world.audit());
    ensure!(!all.contains("the text of a letter"), "not in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_rules_and_the_log_are_administered() -> Result<()> {
    let world = furnished().await;
    let walk = Walk::of(&world, "admin").await?;
    walk.open("/mounts", "Mounts").await?;
    walk.fill(&[("name", "Not a name")]).await?;
    walk.press(SEND, "Mounts").await?;
    ensure!(walk.count("[role=alert]").await? == 1, "why it was refused");
    walk.fill(&[("name", "second")]).await?;
    walk.click("option[value=transit]").await?;
    walk.press(SEND, "Mounts").await?;
    walk.says("The mount second is there.").await?;
    walk.judge("mounts").await?;
    walk.press(
        "a[href='/mounts/second/delete']",
        "Remove the mount second?",
    )
    .await?;
    walk.fill(&[("confirm", "first")]).await?;
    walk.press(SEND, "Remove the mount second?").await?;
    walk.judge("mount-refused").await?;
    walk.fill(&[("confirm", "second")]).await?;
    walk.press(SEND, "Mounts").await?;
    walk.says("The mount second is gone.").await?;

    walk.open("/policy/rule", "New rule").await?;
    walk.judge("rule-new").await?;
    walk.fill(&[
        ("name", "guests-out"),
        ("priority", "10"),
        ("actions", "transit:decrypt"),
        ("resources", "transit/keys/backup"),
    ])
    .await?;
    walk.click("input[value=deny]").await?;
    walk.press(SEND, "New rule").await?;
    ensure!(walk.count("[role=alert]").await? == 1, "nobody is named");
    walk.judge("rule-refused").await?;
    walk.click("input[name=roles][value=guest]").await?;
    walk.press(SEND, "Policy").await?;
    walk.says("The rule guests-out is in force.").await?;
    walk.judge("rules").await?;
    walk.press("a[href='/policy/rule?name=guests-out']", "Rule guests-out")
        .await?;
    walk.judge("rule").await?;
    walk.open("/policy/explain", "Who may do what").await?;
    walk.fill(&[
        ("account", "ada"),
        ("action", "transit:decrypt"),
        ("resource", "transit/keys/backup"),
    ])
    .await?;
    walk.press(SEND, "Who may do what").await?;
    walk.says("ada-uses-all").await?;
    walk.judge("explain").await?;
    walk.open("/policy/rule?name=guests-out", "Rule guests-out")
        .await?;
    walk.press("main a.danger", "Remove the rule guests-out?")
        .await?;
    walk.judge("rule-remove").await?;
    walk.press(SEND, "Policy").await?;
    ensure!(!walk.text("table").await?.contains("guests-out"));

    walk.open("/audit?action=CreateRule", "Audit log").await?;
    let rows = walk.text("tbody").await?;
    ensure!(
        rows.contains("System/CreateRule") && !rows.contains("System/CreateMount"),
        "{rows}"
    );
    walk.judge("audit").await?;
    walk.open("/audit?outcome=invalid&account=admin", "Audit log")
        .await?;
    ensure!(walk.text("tbody").await?.contains("invalid argument"));
    walk.open(
        "/audit?since=2020-01-01T00:00&until=2020-01-02T00:00",
        "Audit log",
    )
    .await?;
    walk.says("Nothing is like that.").await?;
    ensure!(
        world
            .audit()
            .iter()
            .any(|(action, _, outcome, _)| action.ends_with("/ListAudit") && outcome == "OK")
    );
    Ok(())
}
