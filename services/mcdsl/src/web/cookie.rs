//! Cookies: all are `__Host-`, so that neither another host of the domain nor a connection without TLS can set one, and no script reads them.

use axum::http::{HeaderMap, HeaderValue, header};

/// When the browser sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SameSite {
    /// With requests that began on this site.
    Strict,
    /// Also when somebody is sent here by another site.
    Lax,
}

/// The value of the cookie `name`. `None` also if there are two: one of them is somebody else's.
pub(super) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

/// `value` is Base64. Without `seconds` it lasts as long as the browser runs.
pub(super) fn set(
    name: &str,
    value: &str,
    same_site: SameSite,
    seconds: Option<u64>,
) -> HeaderValue {
    let age = seconds.map_or_else(String::new, |s| format!("; Max-Age={s}"));
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site:?}{age}");
    HeaderValue::from_str(&text).expect("names are the program's, values Base64")
}

pub(super) fn remove(name: &str, same_site: SameSite) -> HeaderValue {
    set(name, "", same_site, Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_is_read() {
        let big = format!("x={}; a=1", "y".repeat(20_000));
        for (what, fields, value) in [
            ("alone", &["a=1"][..], Some("1")),
            ("among others", &["b=2; a=1; c=3"], Some("1")),
            (
                "in a second field, as HTTP/2 sends them",
                &["b=2", "a=1"],
                Some("1"),
            ),
            ("with a '='", &["a=1=2"], Some("1=2")),
            ("beside a large one", &[&big], Some("1")),
            ("twice", &["a=1; a=2"], None),
            ("twice, in two fields", &["a=1", "a=1"], None),
            ("as part of a name", &["aa=1; a.a=2"], None),
            ("in other letters", &["A=1"], None),
            ("without a value", &["a"], None),
            ("not there", &[], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::COOKIE, field.parse().unwrap());
            }
            assert_eq!(read(&headers, "a"), value, "{what}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_over() {
        let mut headers = HeaderMap::new();
        let odd = HeaderValue::from_bytes(b"a=\xff").unwrap();
        headers.append(header::COOKIE, odd);
        assert_eq!(read(&headers, "a"), None);
    }
}
