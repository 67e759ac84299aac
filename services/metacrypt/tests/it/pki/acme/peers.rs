//! Programs that people use: each obtains a certificate, renews it and revokes it (`xtask/src/setup.rs` installs them).

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use super::*;

/// Runs a program that trusts the test's CA alone. Needs root: what it trusts is a file of the system.
fn run(acme: &Acme, command: &str) -> String {
    let trusted = "/etc/ssl/certs/ca-certificates.crt";
    let ca = acme.ca.file("ca.pem");
    let script = format!(
        "mount --bind '{}' {trusted} && exec {command}",
        ca.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env("REQUESTS_CA_BUNDLE", trusted)
        .env("HOME", acme.ca.world.root.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    text
}

/// The certificate in a file: its serial number.
fn serial(path: &Path) -> String {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", path.display());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Obtains, renews (another certificate), and revokes.
async fn peer(acme: &Acme, name: &str, certificate: &Path, [obtain, renew, revoke]: [String; 3]) {
    run(acme, &obtain);
    let first = serial(certificate);
    run(acme, &renew);
    assert_ne!(serial(certificate), first, "{name}: renewed");
    run(acme, &revoke);
    let rows = acme.ca.world.audit();
    let revoked = rows.iter().filter(|row| row.0 == "acme.revoke-cert");
    assert!(
        revoked.clone().count() == 1 && revoked.clone().all(|row| row.2 == "OK"),
        "{name}: {rows:?}"
    );
    if let Some(spent) = &acme.spent {
        assert!(spent.refused() > 0, "{name} was given no spent nonce");
    }
}

/// A CA, a directory for a program and one for its files, and a key.
async fn prepared(through: Through) -> (Acme, String, String, String, String) {
    let acme = Acme::reached(through).await;
    let at = acme.ca.file("peer");
    let root = acme.ca.file("web");
    for directory in [&at, &root.join(".well-known/acme-challenge")] {
        fs::create_dir_all(directory).unwrap();
    }
    acme.names.root(&root);
    let made = acme.key().await;
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (at, root) = (text(&at), text(&root));
    (acme, at, root, made.key.unwrap().id, made.hmac_key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certbot() {
    certbot_through(Through::Nothing).await;
    certbot_through(Through::SpentNonces).await;
}

async fn certbot_through(through: Through) {
    let (acme, at, root, id, secret) = prepared(through).await;
    let server = &acme.directory;
    let common = format!(
        "--non-interactive --server {server} --config-dir {at} --work-dir {at} --logs-dir {at}"
    );
    let live = acme.ca.file("peer/live/a.svc.example.org/cert.pem");
    let order = format!(
        "certbot certonly {common} --agree-tos -m ada@example.org --eab-kid {id} --eab-hmac-key {secret} --webroot -w {root} -d a.svc.example.org"
    );
    peer(
        &acme,
        "certbot",
        &live,
        [
            order,
            format!("certbot renew {common} --force-renewal --no-random-sleep-on-renew"),
            format!(
                "certbot revoke {common} --cert-path {} --no-delete-after-revoke",
                live.display()
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lego() {
    lego_through(Through::Nothing).await;
    lego_through(Through::SpentNonces).await;
}

async fn lego_through(through: Through) {
    let (acme, at, root, id, secret) = prepared(through).await;
    let server = &acme.directory;
    let common = format!(
        "lego --server {server} --accept-tos --email ada@example.org --path {at} --domains a.svc.example.org --http --http.webroot {root} --eab --kid {id} --hmac {secret}"
    );
    let file = acme.ca.file("peer/certificates/a.svc.example.org.crt");
    peer(
        &acme,
        "lego",
        &file,
        [
            format!("{common} run"),
            format!("{common} renew --days 9999 --no-random-sleep"),
            format!("{common} revoke --keep"),
        ],
    )
    .await;
}

/// It answers on port 443 itself (RFC 8737).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lego_by_tls() {
    let (mut acme, at, _, id, secret) = prepared(Through::Nothing).await;
    acme.names.leave_tls().await;
    let (server, host) = (&acme.directory, acme.names.host);
    let common = format!(
        "lego --server {server} --accept-tos --email ada@example.org --path {at} --domains a.svc.example.org --tls --tls.port {host}:443 --eab --kid {id} --hmac {secret}"
    );
    let file = acme.ca.file("peer/certificates/a.svc.example.org.crt");
    peer(
        &acme,
        "lego by tls-alpn-01",
        &file,
        [
            format!("{common} run"),
            format!("{common} renew --days 9999 --no-random-sleep"),
            format!("{common} revoke --keep"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uacme() {
    uacme_through(Through::Nothing).await;
    uacme_through(Through::SpentNonces).await;
}

async fn uacme_through(through: Through) {
    let (acme, at, root, id, secret) = prepared(through).await;
    let hook = acme.ca.write(
        "hook",
        format!(
            "#!/bin/sh\n# method, type, name, token, content\n[ \"$2\" = http-01 ] || exit 1\nfile={root}/.well-known/acme-challenge/$4\n\
             case \"$1\" in begin) printf %s \"$5\" >\"$file\";; *) rm -f \"$file\";; esac\n"
        ),
    );
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let common = format!("uacme -v -y -c {at} -a {}", acme.directory);
    run(
        &acme,
        &format!("{common} -e {id}:{secret} new ada@example.org"),
    );
    let issue = format!("{common} -f -h {} issue a.svc.example.org", hook.display());
    let file = acme.ca.file("peer/a.svc.example.org/cert.pem");
    let revoke = format!("{common} revoke {}", file.display());
    peer(&acme, "uacme", &file, [issue.clone(), issue, revoke]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dehydrated() {
    // It does not begin anew when a nonce is refused.
    let (acme, at, root, id, secret) = prepared(Through::Nothing).await;
    let config = acme.ca.write(
        "config",
        format!(
            "CA={}\nBASEDIR={at}\nWELLKNOWN={root}/.well-known/acme-challenge\nEAB_KID={id}\nEAB_HMAC_KEY={secret}\nCONTACT_EMAIL=ada@example.org\n",
            acme.directory
        ),
    );
    let common = format!("dehydrated --config {}", config.display());
    run(&acme, &format!("{common} --register --accept-terms"));
    let issue = format!("{common} --cron --force --domain a.svc.example.org");
    let file = acme.ca.file("peer/certs/a.svc.example.org/cert.pem");
    let revoke = format!("{common} --revoke {}", file.display());
    peer(&acme, "dehydrated", &file, [issue.clone(), issue, revoke]).await;
}

/// All below a name, which is shown by DNS alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dehydrated_by_dns() {
    let (acme, at, root, id, secret) = prepared(Through::Nothing).await;
    let hook = acme.ca.write(
        "hook",
        format!(
            "#!/bin/sh\n# what, name, token, text\nfile={root}/_acme-challenge.$2\n\
             case \"$1\" in deploy_challenge) printf %s \"$4\" >\"$file\";; clean_challenge) rm \"$file\";; esac\n"
        ),
    );
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let config = acme.ca.write(
        "config",
        format!(
            "CA={}\nBASEDIR={at}\nCHALLENGETYPE=dns-01\nHOOK={}\nEAB_KID={id}\nEAB_HMAC_KEY={secret}\nCONTACT_EMAIL=ada@example.org\n",
            acme.directory,
            hook.display()
        ),
    );
    let common = format!("dehydrated --config {}", config.display());
    run(&acme, &format!("{common} --register --accept-terms"));
    let issue = format!("{common} --cron --force --domain '*.a.svc.example.org' --alias all");
    let file = acme.ca.file("peer/certs/all/cert.pem");
    let revoke = format!("{common} --revoke {}", file.display());
    let how = [issue.clone(), issue, revoke];
    peer(&acme, "dehydrated by dns-01", &file, how).await;
}

/// The one of PyPI renews when it is told to (RFC 9773), and says what it replaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certbot_renews_what_is_revoked() {
    let (acme, at, root, id, secret) = prepared(Through::Nothing).await;
    let home = std::env::home_dir().unwrap();
    let program = home.join(".cache/metacircular/certbot-5.8.0/bin/certbot");
    let common = format!(
        "{} --non-interactive --config-dir {at} --work-dir {at} --logs-dir {at}",
        program.display()
    );
    let order = format!(
        "{common} certonly --server {} --agree-tos -m ada@example.org --eab-kid {id} --eab-hmac-key {secret} --webroot -w {root} -d a.svc.example.org",
        acme.directory
    );
    run(&acme, &order);
    let live = acme.ca.file("peer/live/a.svc.example.org/cert.pem");
    let first = serial(&live);
    let renew = format!("{common} renew --no-random-sleep-on-renew");
    let said = run(&acme, &renew);
    assert!(said.contains("not yet due"), "{said}");
    assert_eq!(serial(&live), first);
    let revoke = format!(
        "{common} revoke --server {} --no-delete-after-revoke --reason superseded --cert-path {}",
        acme.directory,
        live.display()
    );
    run(&acme, &revoke);
    // It asks seldom.
    let lineage = acme.ca.file("peer/renewal/a.svc.example.org.conf");
    let text = fs::read_to_string(&lineage).unwrap();
    let (kept, _) = text.split_once("[acme_renewal_info]").unwrap();
    fs::write(&lineage, kept).unwrap();
    run(&acme, &renew);
    assert_ne!(serial(&live), first, "renewed");
    // Whoever has its key may revoke it as well (RFC 8555 §7.6).
    let key = live.with_file_name("privkey.pem");
    let revoke = revoke.replace("superseded", "keycompromise");
    run(&acme, &format!("{revoke} --key-path {}", key.display()));
    let rows = acme.ca.world.audit();
    let revoked = rows
        .iter()
        .filter(|row| row.0 == "acme.revoke-cert" && row.2 == "OK");
    assert_eq!(revoked.count(), 2, "{rows:?}");
}
