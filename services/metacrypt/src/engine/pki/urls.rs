//! Where what is to be known of an issuer is told to everybody.

use url::Url;

/// Longest base.
const MAX_BASE: usize = 512;

/// Addresses that the certificates of an issuer name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Urls {
    /// Its CRL (DER).
    pub(crate) crl: String,
    /// Its OCSP responder.
    pub(crate) ocsp: String,
    /// Its certificate (DER).
    pub(crate) issuer: String,
}

impl Urls {
    /// Those of an issuer, at a base that was checked.
    pub(crate) fn new(base: &str, mount: &str, issuer: &str) -> Self {
        let at = |what: &str| format!("{base}/v1/pki/{mount}/issuer/{issuer}/{what}");
        Self {
            crl: at("crl"),
            ocsp: at("ocsp"),
            issuer: at("der"),
        }
    }
}

/// A base, in its one spelling: without a slash at the end.
///
/// # Errors
/// What would be right.
pub(crate) fn base(text: &str) -> Result<String, &'static str> {
    let wrong = "write http://<host> or https://<host>, perhaps with a port and a path, without user, query or fragment";
    let url = Url::parse(text).map_err(|_| wrong)?;
    let plain = url.username().is_empty() && url.password().is_none();
    let scheme = matches!(url.scheme(), "http" | "https");
    let bare = url.query().is_none() && url.fragment().is_none();
    let text = url.as_str().trim_end_matches('/').to_owned();
    if !plain || !scheme || !bare || !url.has_host() || text.len() > MAX_BASE {
        return Err(wrong);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_address_that_everybody_can_ask() {
        for (text, wanted) in [
            ("http://pki.example.org", Some("http://pki.example.org")),
            (
                "HTTPS://PKI.example.org:8443/a/",
                Some("https://pki.example.org:8443/a"),
            ),
            ("http://192.0.2.1/", Some("http://192.0.2.1")),
            ("ftp://pki.example.org", None),
            ("http://user@pki.example.org", None),
            ("http://pki.example.org/?a", None),
            ("http://pki.example.org/#a", None),
            ("pki.example.org", None),
            ("http://", None),
            ("", None),
        ] {
            assert_eq!(base(text).ok().as_deref(), wanted, "{text}");
        }
        let urls = Urls::new("http://a", "pki", "services");
        assert_eq!(urls.crl, "http://a/v1/pki/pki/issuer/services/crl");
    }
}
