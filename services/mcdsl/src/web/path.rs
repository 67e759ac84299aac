//! Where somebody is sent on to: a path of this site, and nothing that a browser reads otherwise.

use axum::http::{HeaderValue, Uri};

/// Longer ones are not sent on.
const MAX: usize = 2000;
/// Of the page that somebody is at: the server takes no longer heads.
const MAX_OWN: usize = 32 * 1024;
/// The parameter of the login page.
pub(super) const NEXT: &str = "next";

/// A path of this site with its query, in visible ASCII. It neither names another host however browsers repair it, nor breaks a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath(String);

impl LocalPath {
    /// `/`.
    #[must_use]
    pub fn home() -> Self {
        Self("/".into())
    }

    /// `None` if it is anything but a path of this site.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::up_to(MAX, text)
    }

    /// Of a request, for the same page once more: as long as it came.
    pub(super) fn own(uri: &Uri) -> Self {
        let path = uri.path_and_query();
        let own = path.and_then(|path| Self::up_to(MAX_OWN, path.as_str()));
        own.unwrap_or_else(Self::home)
    }

    fn up_to(max: usize, text: &str) -> Option<Self> {
        let path = text.split(['?', '#']).next().unwrap_or_default();
        // Browsers read `\` as `/`, drop tabs and newlines, and take `//` for the begin of a host; segments of dots may leave one.
        let local = text.len() <= max
            && text.starts_with('/')
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
            && !path.contains("//")
            && !path.split('/').any(is_dots);
        local.then(|| Self(text.into()))
    }

    /// As [`Self::parse`]; `/` instead of what is refused.
    #[must_use]
    pub fn or_home(text: Option<&str>) -> Self {
        text.and_then(Self::parse).unwrap_or_else(Self::home)
    }

    /// Of the query `next=…`, else `/`.
    pub(super) fn next(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let next = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == NEXT);
        Self::or_home(next.as_ref().map(|(_, value)| value.as_ref()))
    }

    /// `login?next=self`.
    pub(super) fn after(&self, login: &str) -> Self {
        let next: String = form_urlencoded::byte_serialize(self.0.as_bytes()).collect();
        Self(format!("{login}?{NEXT}={next}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("visible ASCII")
    }
}

/// `.` or `..`, also percent-encoded, which browsers take for the same.
fn is_dots(segment: &str) -> bool {
    matches!(
        segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
        "." | ".."
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_paths_of_this_site() {
        let long = format!("/{}", "a".repeat(MAX));
        for (what, text, local) in [
            ("home", "/", true),
            ("a page", "/accounts", true),
            ("with a query", "/a?b=c&d=%20", true),
            ("a URL within the query", "/a?b=https://c.example//d", true),
            (
                "encoded slashes stay in the path",
                "/%2f%2fevil.example",
                true,
            ),
            ("nothing", "", false),
            ("a relative one", "accounts", false),
            ("a host", "//evil.example", false),
            ("a host by three", "///evil.example", false),
            ("a backslash, as browsers read it", "/\\evil.example", false),
            ("two backslashes", "\\\\evil.example", false),
            ("a later backslash", "/a\\..\\b", false),
            ("a URL", "https://evil.example/", false),
            ("a scheme alone", "https:evil.example", false),
            ("a script", "javascript:alert(1)", false),
            ("a tab that browsers drop", "/\t/evil.example", false),
            ("a new line that browsers drop", "/\n/evil.example", false),
            ("a header of its own", "/a\r\nSet-Cookie: a=b", false),
            ("NUL", "/\0/evil.example", false),
            ("a space before", " //evil.example", false),
            ("dots that leave two slashes", "/.//evil.example", false),
            ("dots", "/a/..//evil.example", false),
            ("dots that end", "/a/..", false),
            ("encoded dots", "/%2E%2e/evil.example", false),
            ("not ASCII", "/é", false),
            ("a slash of another script", "/\u{ff0f}evil.example", false),
            ("too long", &long, false),
        ] {
            assert_eq!(LocalPath::parse(text).is_some(), local, "{what}: {text:?}");
        }
    }

    #[test]
    fn the_next_page_goes_through_the_login_page() {
        let page = LocalPath::parse("/a?b=c&d=e").unwrap();
        let login = page.after("/login");
        assert_eq!(login.as_str(), "/login?next=%2Fa%3Fb%3Dc%26d%3De");
        assert_eq!(LocalPath::next(&login.as_str().parse().unwrap()), page);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_header_and_no_host(text in "[/\\\\.a:%2eE?#\t\n é@-]{0,12}") {
            if let Some(path) = LocalPath::parse(&text) {
                prop_assert!(HeaderValue::from_str(path.as_str()).is_ok());
                let uri: Uri = match text.parse() { Ok(uri) => uri, Err(_) => return Ok(()) };
                prop_assert!(uri.authority().is_none() && uri.scheme().is_none());
            }
        }
    }
}
