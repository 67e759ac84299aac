//! Headers of every response: what the browser may do with it.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// Nothing but what comes from this site; no inline script or style, no frame, no plug-in. `data:` is for QR codes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const HEADERS: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    // Not `no-referrer`: with that browsers send forms with `Origin: null`.
    ("referrer-policy", "same-origin"),
    ("strict-transport-security", "max-age=63072000"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), bluetooth=(), midi=(), \
         display-capture=(), publickey-credentials-create=(self), publickey-credentials-get=(self)",
    ),
];

/// An origin that a form of this response may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormAction(pub(super) String);

/// Not an origin that a form may lead to.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no origin as https://host or https://host:port")]
pub struct OriginError(pub(super) String);

impl FormAction {
    /// Of a URL: what is before its path; of an address of IPv6 the scheme alone. Loopback hosts may have http (RFC 8252, 7.3).
    pub(super) fn of(url: &str) -> Result<Self, OriginError> {
        let wrong = || OriginError(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
        let port = host.rsplit_once(':').filter(|(_, port)| digits(port));
        let name = port.map_or(host, |(name, _)| name);
        let loopback = matches!(name, "127.0.0.1" | "[::1]" | "localhost");
        // Nothing that ends a source, a directive or the header, and no `*`.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
        if host.is_empty()
            || !host.bytes().all(plain)
            || !(scheme == "https" || scheme == "http" && loopback)
        {
            return Err(wrong());
        }
        // Of IPv6 the policy's grammar has no addresses (CSP3 §2.3.1): what browsers do not understand they pass over.
        let is_v6 = name.starts_with('[') && name.ends_with(']');
        Ok(Self(match is_v6 {
            true => format!("{scheme}:"),
            false => format!("{scheme}://{host}"),
        }))
    }
}

/// Sets them, over what a handler may have set.
pub(super) async fn set(mut response: Response) -> Response {
    let policy = match response.extensions().get::<FormAction>() {
        Some(FormAction(origin)) => HeaderValue::try_from(format!("{POLICY} {origin}"))
            .unwrap_or(HeaderValue::from_static(POLICY)),
        None => HeaderValue::from_static(POLICY),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_are_added_to_the_policy() {
        for (what, url, origin) in [
            (
                "a URL",
                "https://a.example/cb?x=1",
                Some("https://a.example"),
            ),
            (
                "a port",
                "https://a.example:8443/cb",
                Some("https://a.example:8443"),
            ),
            ("no path", "https://a.example?x", Some("https://a.example")),
            (
                "a native app's",
                "http://127.0.0.1:51004/cb",
                Some("http://127.0.0.1:51004"),
            ),
            ("IPv6", "http://[::1]:5/", Some("http:")),
            ("IPv6 without a port", "http://[::1]/", Some("http:")),
            (
                "another address of IPv6",
                "https://[2001:db8::1]:8443/cb",
                Some("https:"),
            ),
            ("no TLS", "http://a.example/", None),
            ("a directive", "https://a.example; script-src *", None),
            (
                "a second source",
                "https://a.example https://b.example",
                None,
            ),
            ("any host", "https://*/", None),
            ("a user", "https://a@b.example/", None),
            ("a header", "https://a.example\r\nx: y/", None),
            ("a script", "javascript://a", None),
            ("nothing", "https:///", None),
            ("a path", "/cb", None),
        ] {
            let found = FormAction::of(url).ok().map(|f| f.0);
            assert_eq!(found.as_deref(), origin, "{what}");
        }
    }
}
