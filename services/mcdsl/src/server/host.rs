//! Whom a request is for, said once (RFC 9112 §3.2, RFC 9113 §8.3.1): what a proxy before us and we could read differently is refused. hyper
//! passes on whatever came.

use axum::http::{Version, header, request::Parts, uri::Authority};

/// What is wrong with whom a request says that it is for.
pub(super) fn flaw(request: &Parts) -> Option<&'static str> {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let (first, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Some("the request has more than one Host field");
    }
    // HTTP/2's `:authority`; in HTTP/1.1 only of a request that names all of its target (RFC 9112 §3.2.2).
    let target = match request.uri.authority() {
        None => None,
        Some(target) => match named(target.as_str().as_bytes()) {
            None => return Some("the request's target is no host"),
            target => target,
        },
    };
    let Some(host) = first else {
        // HTTP/1.0 knows no Host, and in HTTP/2 `:authority` is in its place.
        let needless = request.version < Version::HTTP_11
            || request.version >= Version::HTTP_2 && target.is_some();
        return (!needless).then_some("the request has no Host field");
    };
    let Some(host) = named(host.as_bytes()) else {
        return Some("the Host field is no host");
    };
    let differ = target.is_some_and(|target| !same(&target, &host));
    differ.then_some("the Host field and the request's target are of different hosts")
}

/// A host with its port, if it has one (RFC 9110 §7.2); nobody is at it, which [`Authority`] would take.
fn named(field: &[u8]) -> Option<Authority> {
    if field.contains(&b'@') {
        return None;
    }
    let host = Authority::try_from(field).ok()?;
    let port = host.as_str().strip_prefix(host.host())?;
    let plain = port.is_empty() || host.port_u16().is_some();
    (plain && !host.host().is_empty()).then_some(host)
}

/// Both are of https.
fn same(one: &Authority, other: &Authority) -> bool {
    const HTTPS: u16 = 443;
    let port = |of: &Authority| of.port_u16().unwrap_or(HTTPS);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_request_says_once_whom_it_is_for() {
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (description, version, uri, hosts, fine) in [
            ("HTTP/1.1", v11, "/", &["a.example"][..], true),
            ("with a port", v11, "/", &["a.example:8443"], true),
            ("IPv6", v11, "/", &["[2001:db8::1]:443"], true),
            ("no host", v11, "/", &[], false),
            ("an empty one", v11, "/", &[""], false),
            ("a port alone", v11, "/", &[":443"], false),
            ("two", v11, "/", &["a.example", "b.example"], false),
            (
                "twice the same",
                v11,
                "/",
                &["a.example", "a.example"],
                false,
            ),
            ("a list", v11, "/", &["a.example, b.example"], false),
            ("no host's letters", v11, "/", &["a example"], false),
            ("an URL", v11, "/", &["https://a.example"], false),
            ("somebody at it", v11, "/", &["somebody@a.example"], false),
            (
                "somebody at it who begins like it",
                v11,
                "/",
                &["a.example.evil@a.example:443"],
                false,
            ),
            (
                "somebody at the target",
                v11,
                "https://somebody@a.example/",
                &["a.example"],
                false,
            ),
            ("a port that is none", v11, "/", &["a.example:https"], false),
            ("a port beyond all", v11, "/", &["a.example:65536"], false),
            (
                "all of its target",
                v11,
                "https://a.example/",
                &["a.example"],
                true,
            ),
            (
                "another's",
                v11,
                "https://a.example/",
                &["b.example"],
                false,
            ),
            ("HTTP/1.0 without", v10, "/", &[], true),
            (
                "HTTP/1.0 with two",
                v10,
                "/",
                &["a.example", "b.example"],
                false,
            ),
            ("HTTP/2", v2, "https://a.example/", &[], true),
            (
                "HTTP/2 with both",
                v2,
                "https://a.example/",
                &["A.example:443"],
                true,
            ),
            (
                "of different hosts",
                v2,
                "https://a.example/",
                &["b.example"],
                false,
            ),
            (
                "of different ports",
                v2,
                "https://a.example/",
                &["a.example:1"],
                false,
            ),
            ("HTTP/2 by Host", v2, "/", &["a.example"], true),
            ("HTTP/2 without", v2, "/", &[], false),
            (
                "HTTP/2 of somebody at it",
                v2,
                "https://somebody@a.example/",
                &[],
                false,
            ),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(
                flaw(&parts).is_none(),
                fine,
                "{description}: {:?}",
                flaw(&parts)
            );
        }
    }
}
