//! Whether a request began on one of our own pages, by what its browser says.

use axum::http::{HeaderMap, Uri, header};

/// Browsers that say nothing send the token of a form alone.
pub(super) fn began_here(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter().peekable();
    if sites.peek().is_some() {
        // `none`: the person began it, by restoring a tab.
        return sites.all(|site| site == "same-origin" || site == "none");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, None) = (origins.next(), origins.next()) else {
        return false;
    };
    let Some(origin) = origin else { return true };
    let authority = uri.authority().map(|a| a.as_str());
    let host = authority.or_else(|| headers.get(header::HOST)?.to_str().ok());
    let origin = (origin.to_str().ok()).and_then(|o| o.strip_prefix("https://"));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn requests_begin_here() {
        for (what, uri, headers, here) in [
            ("a program", "/", &[][..], true),
            ("a page", "/", &[("sec-fetch-site", "same-origin")], true),
            ("a restored tab", "/", &[("sec-fetch-site", "none")], true),
            (
                "another site",
                "/",
                &[("sec-fetch-site", "cross-site")],
                false,
            ),
            (
                "another host of the domain",
                "/",
                &[("sec-fetch-site", "same-site")],
                false,
            ),
            (
                "a word of the future",
                "/",
                &[("sec-fetch-site", "x")],
                false,
            ),
            (
                "an old browser",
                "/",
                &[("host", "a.example"), ("origin", "https://a.example")],
                true,
            ),
            (
                "HTTP/2",
                "https://a.example:8443/",
                &[("origin", "https://A.example:8443")],
                true,
            ),
            (
                "another origin",
                "/",
                &[("host", "a.example"), ("origin", "https://b.example")],
                false,
            ),
            (
                "another port",
                "/",
                &[("host", "a.example"), ("origin", "https://a.example:1")],
                false,
            ),
            (
                "no TLS",
                "/",
                &[("host", "a.example"), ("origin", "http://a.example")],
                false,
            ),
            (
                "a sandbox",
                "/",
                &[("host", "a.example"), ("origin", "null")],
                false,
            ),
            ("no host", "/", &[("origin", "https://a.example")], false),
            (
                "two sites",
                "/",
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
            (
                "two origins",
                "/",
                &[
                    ("host", "a.example"),
                    ("origin", "https://a.example"),
                    ("origin", "https://b.example"),
                ],
                false,
            ),
        ] {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (request, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(began_here(&request.uri, &request.headers), here, "{what}");
        }
    }
}
