//! Certificates: what is refused and why, and what a change of the files does to whom.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{ca::Ca, wait_for};
use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{NAME, Site, Speaks};

/// PEM of the first certificate of a chain.
fn leaf_only(chain: &str) -> &str {
    let end = "-----END CERTIFICATE-----\n";
    let at = chain.find(end).map_or(chain.len(), |i| i + end.len());
    &chain[..at]
}

/// Who opens one waits for a writer, and housekeeping, changes and shutdown would with it.
#[test]
fn a_fifo_in_the_place_of_a_certificate_stops_nothing() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    for file in ["web.crt", "web.key"] {
        let path = site.path(file);
        let before = fs::read(&path)?;
        fs::remove_file(&path)?;
        mkfifo(path.as_str(), Mode::S_IRWXU)?;
        let refused = format!("{path}: it is no regular file");
        let told = wait_for("the refusal", || {
            site.world.log().contains(&refused).then_some(())
        });
        told.with_context(|| site.world.log())?;
        site.world.run("firewall block 203.0.113.9")?;
        let got = site.curl("--http2", "/")?;
        ensure!(got.starts_with("hello"), "{file}: {got}");
        fs::remove_file(&path)?;
        fs::write(&path, before)?;
        site.world.run("firewall unblock 203.0.113.9")?;
    }
    Ok(())
}

#[test]
fn a_certificate_that_clients_would_refuse_is_refused_with_the_reason() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let other = Ca::new()?;
    let good = site.ca.issue(&[NAME])?;
    let stranger = other.issue(&[NAME])?;
    let expired = site.ca.issue_until(&[NAME], -3600)?;
    let elsewhere = site.ca.issue(&["other.example.org", "www.example.org"])?;
    let twice = leaf_only(&good.chain_pem).to_owned() + leaf_only(&elsewhere.chain_pem);
    let reversed = site.ca.pem() + leaf_only(&good.chain_pem);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            .to_owned();
    let mixed = leaf_only(&good.chain_pem).to_owned() + other.pem().as_str();
    for (description, chain, key, wanted) in [
        (
            "the leaf alone",
            leaf_only(&good.chain_pem),
            &good.key_pem,
            "chain is incomplete",
        ),
        (
            "another leaf behind it",
            twice.as_str(),
            &good.key_pem,
            "did not issue the one before it",
        ),
        (
            "the CA first",
            &reversed,
            &good.key_pem,
            "the server's own is certificate 2",
        ),
        (
            "a key with a passphrase",
            &good.chain_pem,
            &encrypted,
            "the private key is encrypted",
        ),
        (
            "another leaf's key",
            &good.chain_pem,
            &stranger.key_pem,
            "is not the private key",
        ),
        (
            "expired",
            &expired.chain_pem,
            &expired.key_pem,
            "has expired at",
        ),
        (
            "other names",
            &elsewhere.chain_pem,
            &elsewhere.key_pem,
            "other.example.org",
        ),
        (
            "another CA's certificate behind it",
            &mixed,
            &good.key_pem,
            "the chain does not hold",
        ),
        ("no certificate", "", &good.key_pem, "bad.crt"),
        ("not PEM", "hello", &good.key_pem, "bad.crt"),
        ("no key", &good.chain_pem, &String::new(), "bad.key"),
    ] {
        fs::write(site.path("bad.crt"), chain)?;
        fs::write(site.path("bad.key"), key)?;
        let (certificate, key) = (site.path("bad.crt"), site.path("bad.key"));
        let line = format!(
            "route add {NAME} --replace --certificate {certificate} --key {key} --backend 10.9.2.2:1"
        );
        let (code, complaint) = site
            .world
            .ctl_fails(&line.split_whitespace().collect::<Vec<_>>())?;
        ensure!(
            code != 0 && complaint.contains(wanted),
            "{description}: {wanted:?} in {complaint}"
        );
        let got = site.curl("", "/")?;
        ensure!(
            got == "hello from one\n",
            "{description}: the route before it stays: {got}"
        );
    }
    Ok(())
}

#[test]
fn a_changed_certificate_is_loaded_and_a_bad_one_is_not() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let shown = || -> Result<serde_json::Value> {
        Ok(site.world.json(&["route", "show", NAME, "--port", "443"])?["l7"].clone())
    };
    let first = shown()?;
    let longer = site.ca.issue_until(&[NAME], 30 * 86_400)?;
    longer.write(site.world.dir.path(), "web")?;
    let want = wait_for("the new certificate to be in force", || {
        let now = shown().ok()?;
        (now["certificate_not_after_unix_s"] != first["certificate_not_after_unix_s"]
            && now["certificate_error"].is_null())
        .then_some(now)
    })?;
    ensure!(site.curl("", "/")? == "hello from one\n");
    let elsewhere = site.ca.issue(&["other.example.org"])?;
    fs::write(site.path("web.crt"), &elsewhere.chain_pem)?;
    let broken = wait_for("the broken one to be told", || {
        shown()
            .ok()
            .filter(|now| !now["certificate_error"].is_null())
    })?;
    ensure!(
        broken["certificate_not_after_unix_s"] == want["certificate_not_after_unix_s"],
        "the one before it stays in force: {broken}"
    );
    let status = site.world.json(&["status"])?;
    let told = &status["certificates"][0];
    ensure!(
        told["hostname"] == NAME
            && told["not_after_unix_s"] == want["certificate_not_after_unix_s"]
            && told["tried_unix_s"].is_i64()
            && told["error"] == broken["certificate_error"],
        "{status}"
    );
    ensure!(
        status["warnings"]
            .to_string()
            .contains("the certificate is not for"),
        "{status}"
    );
    ensure!(site.curl("", "/")? == "hello from one\n");
    Ok(())
}

/// Whoever asks the operator for help finds the reason in the log, and how many they are in the counters.
#[test]
fn why_clients_are_refused_is_told_and_counted() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let people = Ca::new()?;
    fs::write(site.path("people.pem"), people.pem())?;
    let told = |reason: &str, why: &str| -> Result<()> {
        let labels = [NAME, &format!("reason=\"{reason}\"")];
        site.world
            .wait_metric("mc_proxy_errors_total", &labels, 1.0)?;
        wait_for(why, || {
            let log = site.world.log();
            let mut lines = log.lines().filter(|l| l.contains("connection denied"));
            lines
                .any(|l| l.contains(reason) && l.contains(why))
                .then_some(())
        })
        .with_context(|| site.world.log())
    };
    ensure!(site.curl("--tls-max 1.2", "/").is_err());
    told("tls_version", "it does not speak TLS 1.3")?;
    ensure!(site.connect("h3").is_err());
    told("tls_alpn", "neither HTTP/2 nor HTTP/1.1")?;
    ensure!(
        site.curl(&format!("--cacert {}", site.path("people.pem")), "/")
            .is_err()
    );
    told("tls_certificate_refused", "UnknownCA")?;
    site.add_backend(&format!("--client-ca {}", site.path("people.pem")))?;
    ensure!(site.curl("", "/").is_err());
    told("tls_client_certificate", "it sent no certificate")?;
    Ok(())
}

#[test]
fn clients_need_a_certificate_where_the_route_says_so() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let people = Ca::new()?;
    fs::write(site.path("people.pem"), people.pem())?;
    people
        .issue_client("alice")?
        .write(site.world.dir.path(), "alice")?;
    site.ca
        .issue_client("mallory")?
        .write(site.world.dir.path(), "mallory")?;
    site.add_backend(&format!("--client-ca {}", site.path("people.pem")))?;
    let with = |who: &str| {
        format!(
            "--cert {} --key {}",
            site.path(&format!("{who}.crt")),
            site.path(&format!("{who}.key"))
        )
    };
    ensure!(site.curl(&with("alice"), "/")? == "hello from one\n");
    for (description, args) in [
        ("no certificate", String::new()),
        ("of another CA", with("mallory")),
    ] {
        ensure!(site.curl(&args, "/").is_err(), "{description}");
    }
    // In TLS 1.3 the client has finished when the server looks at its certificate: either side may be first to give up.
    ensure!(
        site.world.metric("mc_proxy_errors_total", &[NAME])? > 0.5,
        "refused handshakes are counted"
    );
    Ok(())
}
