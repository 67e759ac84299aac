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

/// Whether `asked` is a client's `own` address: byte for byte, but for the port of a public client on this machine, which takes any that is
/// free when it begins (RFC 8252 §7.3).
pub(crate) fn is_own(own: &str, asked: &str, public: bool) -> bool {
    own == asked || (public && local(own).is_some_and(|own| local(asked) == Some(own)))
}

/// Whether it is an address of the machine that the browser is on, where any program may wait for an answer.
pub(crate) fn is_local(uri: &str) -> bool {
    local(uri).is_some()
}

/// An address of this machine by number, without its port: what is before that and behind. A name (`localhost`) may be another machine's.
fn local(uri: &str) -> Option<(&'static str, &str)> {
    let hosts = ["http://127.0.0.1", "http://[::1]"];
    let after = |host| Some((host, uri.strip_prefix(host)?));
    let (host, rest) = hosts.into_iter().find_map(after)?;
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (port, rest) = rest.split_at(end);
            let number: u16 = port.parse().ok()?;
            // In its one spelling; nobody listens on 0.
            if number == 0 || port != number.to_string() {
                return None;
            }
            rest
        }
    };
    // Anything else goes on with the host: 127.0.0.1.example, 127.0.0.1@example.
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
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
    fn a_public_client_on_this_machine_has_any_port() {
        let (v4, v6) = ("http://127.0.0.1/cb", "http://[::1]:7/cb?a=b");
        for (description, own, asked, any_port) in [
            ("another port", v4, "http://127.0.0.1:51004/cb", true),
            ("the first one", v4, "http://127.0.0.1:1/cb", true),
            ("the last one", v4, "http://127.0.0.1:65535/cb", true),
            ("IPv6, another", v6, "http://[::1]:51004/cb?a=b", true),
            ("IPv6, none", v6, "http://[::1]/cb?a=b", true),
            ("port 0", v4, "http://127.0.0.1:0/cb", false),
            ("a port too high", v4, "http://127.0.0.1:65536/cb", false),
            ("far too high", v4, "http://127.0.0.1:99999/cb", false),
            ("an empty port", v4, "http://127.0.0.1:/cb", false),
            ("a zero before", v4, "http://127.0.0.1:080/cb", false),
            ("a sign before", v4, "http://127.0.0.1:+80/cb", false),
            ("another path", v4, "http://127.0.0.1:80/cb/", false),
            ("a query more", v4, "http://127.0.0.1:80/cb?x", false),
            ("a fragment", v4, "http://127.0.0.1:80/cb#x", false),
            ("another query", v6, "http://[::1]:80/cb?a=c", false),
            ("the other family", v4, "http://[::1]:80/cb", false),
            ("by name", v4, "http://localhost:80/cb", false),
            (
                "registered by name",
                "http://localhost/cb",
                "http://localhost:80/cb",
                false,
            ),
            (
                "another address of this machine",
                v4,
                "http://127.0.0.2:80/cb",
                false,
            ),
            ("another spelling", v4, "http://127.1:80/cb", false),
            ("in capitals", v4, "HTTP://127.0.0.1:80/cb", false),
            ("another scheme", v4, "https://127.0.0.1:80/cb", false),
            (
                "a name behind it",
                v4,
                "http://127.0.0.1.evil.example/cb",
                false,
            ),
            ("a user", v4, "http://127.0.0.1@evil.example/cb", false),
            (
                "a user with a port",
                v4,
                "http://127.0.0.1:80@evil.example/cb",
                false,
            ),
            (
                "a user before it",
                v4,
                "http://evil.example@127.0.0.1/cb",
                false,
            ),
            (
                "a backslash",
                v4,
                "http://127.0.0.1:80\\@evil.example/cb",
                false,
            ),
            (
                "elsewhere",
                "https://a.example/cb",
                "https://a.example:80/cb",
                false,
            ),
        ] {
            assert_eq!(is_own(own, asked, true), any_port, "{description}");
            assert!(!is_own(own, asked, false), "{description}: with a secret");
            for public in [false, true] {
                assert!(is_own(asked, asked, public), "{description}: itself");
            }
        }
    }

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
