//! Before a start: all that is in its way, what soon will be, and who is at its addresses.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use mcdsl::{
    certificate::Identity,
    cli::chain,
    files::directory_of,
    human,
    server::{Found, room},
};
use serde_json::Value;
use url::Url;

use crate::{
    config::{Config, Examined},
    oidc,
    start::of_database,
};

/// A certificate with less left is told of, as mc-proxy's `status` does.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes: with less room on the disk, it is told. SQLite's log alone may need some MiB.
const LITTLE_ROOM: u64 = 64 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What a start would fail of.
    pub(crate) problems: Vec<String>,
    /// What it would not, and somebody has to do something about.
    pub(crate) warnings: Vec<String>,
    /// What is right if it was meant.
    pub(crate) hints: Vec<String>,
    /// Which address, and who is there.
    pub(crate) servers: Vec<(&'static str, SocketAddr, Found)>,
}

/// Looks at everything that a start needs, and changes nothing.
pub(crate) async fn check(config: &Config) -> Report {
    let examined = config.examine();
    let mut report = Report::default();
    let settings = examined.problems.iter().chain(&examined.server.problems);
    report.problems = settings.map(ToString::to_string).collect();
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
    report.warnings.extend(of_disk(&config.database.path));
    let port = issuer.and_then(|url| url.port_or_known_default());
    report
        .hints
        .extend(of_port(port, config.server.listen.port()));
    for (key, name, address) in [
        ("server.listen", "HTTPS", config.server.listen),
        ("server.grpc_listen", "gRPC", config.server.grpc_listen),
    ] {
        let found = who_is_at(&examined, &config.token.issuer, address).await;
        if let Found::Another(why) = &found {
            report.problems.push(format!(
                "{key}: another program is at {address} ({why}); end it, or write another address"
            ));
        }
        report.servers.push((name, address, found));
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
    let left = identity.not_after.duration_since(now).unwrap_or_default();
    if left <= ENDS_SOON {
        told.push(format!(
            "server.tls_cert: {}: the certificate ends in {}; put a new one there, which is loaded without a restart",
            path.display(),
            human::duration_short(left)
        ));
    }
    // Of an issuer that is none it is told elsewhere.
    let name = host.and_then(|host| host.parse().ok());
    if let Some(Err(error)) = name.map(|name| identity.is_for(path, &name)) {
        told.push(format!(
            "server.tls_cert: {error}: clients that come to the name of token.issuer refuse it, unless a proxy in front shows them another"
        ));
    }
    told
}

/// Of the directory, where the database's log grows and snapshots are.
fn of_disk(database: &Path) -> Option<String> {
    let directory = directory_of(database);
    let left = room(directory).ok().filter(|left| *left < LITTLE_ROOM)?;
    Some(format!(
        "the disk of {} has {} left; make room: what cannot be written is refused",
        directory.display(),
        human::bytes(left)
    ))
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
