//! What scanners of TLS find: TLS 1.3 alone, and nothing to complain of.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{NAME, Site, text};
use crate::{http::Speaks, world::NODE};

/// Findings of testssl.sh that are the test's, with their severity, and why.
const EXPECTED: &[(&str, &str, &str)] = &[
    (
        "engine_problem",
        "WARN",
        "of the openssl that it uses, which has no GOST",
    ),
    (
        "cert_revocation",
        "HIGH",
        "the test's CA revokes nothing and names no list",
    ),
    (
        "sessionresumption_ticket",
        "WARN",
        "its client may close before TLS 1.3's ticket comes and then has none to resume by; `certificates` resumes",
    ),
];

/// Whose certificate is as long valid as browsers would have it.
fn site() -> Result<Site> {
    let site = Site::new(Speaks::Http1, "")?;
    let leaf = site.ca.issue_until(&[NAME], 80 * 24 * 3600)?;
    leaf.write(site.world.dir.path(), "web")?;
    site.add_backend("")?;
    Ok(site)
}

#[test]
fn testssl_finds_nothing() -> Result<()> {
    let site = site()?;
    let (ca, findings) = (site.path("ca.pem"), site.path("findings.json"));
    let target = format!("{NAME}:443");
    // Protocols, ciphers, preferences, server defaults, vulnerabilities.
    let output = site.program(
        170,
        &[
            "testssl",
            "--quiet",
            "--color=0",
            "--warnings=off",
            "--nodns=none",
            "--add-ca",
            &ca,
            "--ip",
            NODE,
            "--jsonfile",
            &findings,
            "-p",
            "-s",
            "-P",
            "-S",
            "-U",
            &target,
        ],
    )?;
    let said = text(&output);
    let found: Value =
        serde_json::from_str(&std::fs::read_to_string(findings)?).with_context(|| said.clone())?;
    let found = found.as_array().context("a list")?;
    let of = |id: &str, key: &str| {
        let one = found.iter().find(|f| f["id"] == id);
        one.map(|f| f[key].as_str().unwrap_or_default().to_owned())
    };
    for (id, wanted) in [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "not offered"),
        ("TLS1_3", "offered with final"),
        ("ALPN_HTTP2", "h2"),
        ("cert_chain_of_trust", "passed."),
        ("heartbleed", "not vulnerable, no heartbeat extension"),
        ("RC4", "not vulnerable"),
    ] {
        let got = of(id, "finding").with_context(|| format!("{id} was not looked at: {said}"))?;
        ensure!(got.starts_with(wanted), "{id}: {got:?}");
    }
    for finding in found {
        let severity = finding["severity"].as_str().context("a severity")?;
        let id = finding["id"].as_str().context("an id")?;
        let expected =
            (EXPECTED.iter()).any(|(known, worst, _)| *known == id && *worst == severity);
        ensure!(
            matches!(severity, "OK" | "INFO") || expected,
            "{finding}\n{said}"
        );
    }
    Ok(())
}

#[test]
fn sslscan_sees_tls_1_3_alone() -> Result<()> {
    let site = site()?;
    let (name, target) = (format!("--sni-name={NAME}"), format!("{NODE}:443"));
    // Its test for Heartbleed names no server, so that it is reset: that ends its whole scan. testssl.sh has its own.
    let output = site.program(
        60,
        &["sslscan", "--no-colour", "--no-heartbleed", &name, &target],
    )?;
    let said = text(&output);
    let enabled: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_suffix("enabled"))
        .map(str::trim)
        .collect();
    ensure!(output.status.success() && enabled == ["TLSv1.3"], "{said}");
    let ciphers: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
        .collect();
    ensure!(
        ciphers.len() == 3 && ciphers.iter().all(|c| c.contains("TLSv1.3")),
        "{said}"
    );
    Ok(())
}
