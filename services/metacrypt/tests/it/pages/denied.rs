//! Who may do nothing: no data, no buttons, and no for an answer.

use anyhow::{Result, ensure};

use super::{Walk, call, furnished};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_nothing_sees_nothing_and_has_no_buttons() -> Result<()> {
    let world = furnished().await;
    let token = world.token("admin", &world.mcias.password).await;
    let issue = r#"{"mount":"pki","profile":"web","names":["secret.example.org"]}"#;
    let issued = call(&world, &token, "Pki/Issue", issue);
    let serial = issued["serial"].as_str().unwrap();
    let walk = Walk::of(&world, "gil").await?;
    walk.says("There is no mount that you may see.").await?;
    walk.judge("denied-overview").await?;
    ensure!(
        walk.count("header a[href='/policy'], header a[href='/audit'], a[href='/seal']")
            .await?
            == 0
    );
    for (path, title) in [
        ("/pki", "Certificates"),
        ("/pki/pki", "Certificates of pki"),
        ("/pki/pki/issue", "Issue a certificate of pki"),
        ("/pki/pki/issue?profile=web", "Issue a certificate of pki"),
        ("/pki/pki/issuers", "Issuers of pki"),
        ("/pki/pki/profiles", "Profiles of pki"),
        ("/ssh/ssh", "Certificates of ssh"),
        ("/ssh/ssh/sign", "Sign a key by ssh"),
        ("/ssh/ssh/sign?profile=people", "Sign a key by ssh"),
        ("/ssh/ssh/profiles", "Profiles of ssh"),
        ("/ssh/ssh/revocations", "Revocations of ssh"),
        ("/transit/transit", "Keys of transit"),
        ("/mounts", "Mounts"),
        ("/pki/other", "Certificates of other"),
    ] {
        walk.open(path, title).await?;
        let said = walk.text("main").await?;
        for word in [
            "example", "services", "people", "backup", "releases", "deploy",
        ] {
            ensure!(!said.contains(word), "{path} has {word}: {said}");
        }
        let buttons = walk
            .count("main form[method=post], main a.danger, main tbody tr")
            .await?;
        ensure!(buttons == 0, "{path}: {said}");
    }
    walk.open("/pki/pki/issue", "Issue a certificate of pki")
        .await?;
    walk.judge("denied-issue").await?;
    for path in [
        &*format!("/pki/pki/certificate/{serial}"),
        "/transit/transit/key/backup",
        "/ssh/ssh/certificate/7",
        "/policy",
        "/policy/rule",
        "/audit",
    ] {
        walk.open(path, "You may not do that").await?;
        ensure!(!walk.text("main").await?.contains("ada-uses-all"), "{path}");
    }
    walk.judge("denied").await?;
    let question = "/policy/explain?account=ada&action=transit:read&resource=x";
    walk.open(question, "Who may do what").await?;
    ensure!(walk.count("[role=alert]").await? == 1, "why not");
    ensure!(!walk.text("main").await?.contains("ada-uses-all"));
    let rows = world.audit();
    let denied = |what: &str| {
        rows.iter()
            .any(|(action, _, outcome, _)| action.ends_with(what) && outcome == "PERMISSION_DENIED")
    };
    for what in [
        "Pki/GetCertificate",
        "Transit/GetKey",
        "System/ListRules",
        "AuditLog/ListAudit",
    ] {
        ensure!(denied(what), "{what} is not in the log");
    }
    Ok(())
}
