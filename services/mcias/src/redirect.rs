//! Addresses of services that browsers are sent back to.

use url::Url;

/// Bytes of one.
pub(crate) const MAX: usize = 512;

const SCHEME: &str = "is neither https:// nor http:// of 127.0.0.1 or [::1]";

/// An absolute `https` address without a fragment (RFC 6749 §3.1.2), or one of this machine (RFC 8252 §7.3).
pub(crate) fn check(uri: &str) -> Result<(), &'static str> {
    if uri.len() > MAX {
        return Err("is longer than 512 bytes");
    }
    if !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("has a character that an address has not");
    }
    let parsed = Url::parse(uri).map_err(|_| "is no absolute address")?;
    if parsed.fragment().is_some() {
        return Err("has a fragment");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("has a user in it");
    }
    if !matches!(parsed.scheme(), "https" | "http") {
        return Err(SCHEME);
    }
    if uri.contains('*') {
        return Err("has a `*`, which stands for itself alone: each address is registered whole");
    }
    // What parsers of addresses mend (`https:a`, backslashes), a redirect from here leads elsewhere; and other hosts no page's policy can name.
    let written = uri.strip_prefix(parsed.scheme());
    let rest = written.and_then(|rest| rest.strip_prefix("://"));
    let host = rest.unwrap_or_default().split(['/', '?']).next();
    let host = host.unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(
            "is not written as https://host/path, the host of letters, digits, `-` and `.`",
        );
    }
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port = host.rsplit_once(':').filter(|(_, port)| digits(port));
    let name = port.map_or(host, |(name, _)| name);
    match (parsed.scheme(), name) {
        ("https", _) | ("http", "127.0.0.1" | "[::1]") => Ok(()),
        _ => Err(SCHEME),
    }
}

/// The address with an answer in its query, behind what it has of one.
pub(crate) fn with_answer(uri: &str, answer: &str) -> String {
    let between = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{between}{answer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_go_to_where_only_the_service_is() {
        let long = format!("https://a.example/{}", "x".repeat(MAX));
        for (description, uri, fine) in [
            ("https", "https://a.example/callback", true),
            (
                "with a port and a query",
                "https://a.example:8443/cb?x=1",
                true,
            ),
            ("this machine", "http://127.0.0.1:1234/cb", true),
            ("this machine, IPv6", "http://[::1]/cb", true),
            (
                "another address of this machine",
                "http://127.0.0.2/cb",
                false,
            ),
            ("this machine in another spelling", "http://127.1/cb", false),
            ("this machine by name", "http://localhost/cb", false),
            ("http elsewhere", "http://a.example/cb", false),
            ("a fragment", "https://a.example/cb#x", false),
            ("a user", "https://u@a.example/cb", false),
            ("relative", "/cb", false),
            ("a script", "javascript:alert(1)", false),
            ("data", "data:text/html,x", false),
            ("a space", "https://a.example/c b", false),
            ("a new line", "https://a.example/cb\n", false),
            ("another script", "https://а.example/cb", false),
            (
                "no slashes: a path of this site",
                "https:a.example/cb",
                false,
            ),
            ("three slashes", "https:///a.example/cb", false),
            ("backslashes", "https:\\\\a.example\\cb", false),
            (
                "a backslash behind the host",
                "https://a.example\\cb",
                false,
            ),
            ("capitals before the host", "HTTPS://a.example/cb", false),
            ("capitals in the host", "https://A.example/cb", true),
            ("a directive in the host", "https://a;b.example/cb", false),
            ("an encoded host", "https://a%2eexample/cb", false),
            ("no path", "https://a.example?x", true),
            ("any host", "https://*.example/cb", false),
            ("any path", "https://a.example/*", false),
            ("too long", long.as_str(), false),
        ] {
            assert_eq!(check(uri).is_ok(), fine, "{description}");
        }
    }
}
