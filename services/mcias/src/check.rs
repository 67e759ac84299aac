//! Before a start: all that is in its way, what soon will be, and who is at its addresses.

use std::{net::SocketAddr, path::Path, time::SystemTime};

use mcdsl::{
    archive::backups,
    certificate::{Identity, ends_soon},
    cli::chain,
    files::directory_of,
    owner::{closed, open_to_others},
    server::{Found, little_left, needs_capability},
    service::Condition,
};
use serde_json::Value;
use url::Url;

use crate::{
    config::{Config, Examined},
    oidc,
    start::of_database,
};

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// What a start would fail of.
    pub(crate) problems: Vec<String>,
    /// What it would not, and somebody has to do something about.
    pub(crate) warnings: Vec<String>,
    /// What is right if it was meant.
    pub(crate) hints: Vec<String>,
    /// Which address, and who is there.
    pub(crate) servers: Vec<(&'static str, SocketAddr, Found)>,
    /// What follows from all this.
    pub(crate) condition: Condition,
}

/// Looks at everything that a start needs, and changes nothing.
pub(crate) async fn check(config: &Config) -> Report {
    let examined = config.examine();
    let settings = examined.problems.iter().chain(&examined.server.problems);
    let mut report = Report {
        problems: settings.map(ToString::to_string).collect(),
        warnings: Vec::new(),
        hints: Vec::new(),
        servers: Vec::new(),
        condition: Condition::Hindered,
    };
    let database = of_database(config);
    report
        .problems
        .extend(database.iter().map(|error| chain(error)));
    let issuer = Url::parse(&config.token.issuer).ok();
    if let Some(identity) = examined.server.certificate() {
        let host = issuer.as_ref().and_then(Url::domain);
        let now = SystemTime::now();
        report
            .warnings
            .extend(of_certificate(&config.server.tls_cert, identity, host, now));
    }
    let directory = directory_of(&config.database.path);
    report.warnings.extend(config.foreign_files());
    report.warnings.extend(open_to_others(directory));
    report
        .warnings
        .extend(closed(&backups(&config.database.path)));
    report.warnings.extend(little_left(&config.database.path));
    let port = issuer.and_then(|url| url.port_or_known_default());
    report
        .hints
        .extend(of_port(port, config.server.listen.port()));
    for (key, name, address) in [
        ("server.listen", "HTTPS", config.server.listen),
        ("server.grpc_listen", "gRPC", config.server.grpc_listen),
    ] {
        report.hints.extend(needs_capability(key, address));
        let found = who_is_at(&examined, &config.token.issuer, address).await;
        if let Found::Another(why) = &found {
            report.problems.push(format!(
                "{key}: another program is at {address} ({why}); end it, or write another address"
            ));
        }
        report.servers.push((name, address, found));
    }
    if report.problems.is_empty() {
        let asked = examined.server.who_is_at(config.server.listen, "/healthz");
        report.condition = Condition::of_health(&asked.await);
    }
    report
}

/// This MCIAS has the certificate's key, and says of itself that it is this issuer.
async fn who_is_at(examined: &Examined, issuer: &str, address: SocketAddr) -> Found {
    match examined.server.who_is_at(address, oidc::DISCOVERY).await {
        Found::Own(said) => {
            let document: Value = serde_json::from_str(&said).unwrap_or_default();
            match document["issuer"] == issuer {
                true => Found::Own(said),
                false => Found::Another(format!(
                    "it has this certificate, and does not say that it is {issuer}"
                )),
            }
        }
        other => other,
    }
}

/// What clients will not take for long, or not by that name.
fn of_certificate(
    path: &Path,
    identity: &Identity,
    host: Option<&str>,
    now: SystemTime,
) -> Vec<String> {
    let mut told = Vec::new();
    told.extend(
        ends_soon(identity.not_after, now)
            .map(|text| format!("server.tls_cert: {}: {text}", path.display())),
    );
    // Of an issuer that is none it is told elsewhere.
    let name = host.and_then(|host| host.parse().ok());
    if let Some(Err(error)) = name.map(|name| identity.is_for(path, &name)) {
        told.push(format!(
            "server.tls_cert: {error}: clients that come to the name of token.issuer refuse it, unless a proxy in front shows them another"
        ));
    }
    told
}

/// Issuer and service at different ports: a proxy is meant, or one of them is wrong.
fn of_port(issuer: Option<u16>, listen: u16) -> Option<String> {
    let issuer = issuer.filter(|port| *port != listen && listen != 0)?;
    Some(format!(
        "token.issuer is reached at port {issuer}, and server.listen is {listen}: something has to lead from there to here, as a route of \
         mc-proxy does"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_than_the_issuers_is_told() {
        for (description, issuer, listen, told) in [
            ("a proxy in front", Some(443), 8443, true),
            ("straight", Some(8443), 8443, false),
            ("any port", Some(443), 0, false),
            ("no issuer", None, 8443, false),
        ] {
            let said = of_port(issuer, listen);
            assert_eq!(said.is_some(), told, "{description}: {said:?}");
        }
    }
}
