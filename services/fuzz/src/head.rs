//! What a request's head says of who asks, whom, and from which page.

#[path = "../../mcdsl/src/server/bearer.rs"]
mod bearer;
#[path = "../../mcdsl/src/server/host.rs"]
mod host;
#[path = "../../mcdsl/src/web/origin.rs"]
mod origin;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Version, header, request::Parts, uri::Authority,
};
use url::Url;

/// The values of fields of one name, as far as they can be values.
fn fields(name: HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&name, value);
        }
    }
    headers
}

/// There is one token, which is read again as itself, or there is none: never a part of what was sent, nor one of two.
pub fn tokens(data: &[u8]) {
    let whole = [b"Bearer ", data].concat();
    for data in [data, &whole] {
        let headers = fields(header::AUTHORIZATION, data);
        let sent: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().collect();
        let Ok(read) = bearer::bearer(&headers) else {
            assert!(!sent.is_empty(), "there is no field");
            continue;
        };
        let Some(token) = read else {
            assert!(sent.is_empty(), "{sent:?}");
            continue;
        };
        let [field] = sent[..] else {
            panic!("{token} of {sent:?}");
        };
        assert!(field.len() <= bearer::MAX);
        let field = field.to_str().expect("text").to_ascii_lowercase();
        let rest = field.strip_prefix("bearer ").expect("the scheme");
        assert_eq!(rest.trim(), token.to_ascii_lowercase());
        let mut again = fields(header::AUTHORIZATION, format!("Bearer {token}").as_bytes());
        assert_eq!(bearer::bearer(&again), Ok(Some(token)));
        again.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(bearer::bearer(&again), Err(bearer::NotOne));
    }
}

fn request(version: Version, uri: &str, headers: HeaderMap) -> Option<Parts> {
    let request = Request::builder().version(version).uri(uri).body(()).ok()?;
    let (mut parts, ()) = request.into_parts();
    parts.headers = headers;
    Some(parts)
}

/// A request that is let in names one host, and the one of its target if that has one.
pub fn hosts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let headers = fields(header::HOST, data);
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        for uri in ["/", "https://a.example/", &format!("https://{text}/")] {
            let Some(request) = request(version, uri, headers.clone()) else {
                continue;
            };
            if host::flaw(&request).is_some() {
                continue;
            }
            let named: Vec<_> = headers.get_all(header::HOST).iter().collect();
            assert!(named.len() < 2, "{named:?}");
            let origin = |host: &str| {
                Url::parse(&format!("https://{host}/"))
                    .ok()
                    .map(|u| u.origin())
            };
            let named = named.first().map(|host| host.to_str().expect("text"));
            let target = request.uri.authority().map(Authority::as_str);
            let someone = |host: &str| host.contains('@');
            assert!(!named.into_iter().chain(target).any(someone), "{request:?}");
            match (named, request.uri.authority()) {
                (Some(named), Some(target)) => assert_eq!(origin(named), origin(target.as_str())),
                (None, None) => assert_eq!(version, Version::HTTP_10),
                _ => {}
            }
        }
    }
}

/// What began here is said by no other site, and by an origin that is the host's.
pub fn origins(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (host, said) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let site = HeaderName::from_static("sec-fetch-site");
    let Some(mut sites) = request(Version::HTTP_11, "/", fields(site.clone(), said)) else {
        return;
    };
    if origin::began_here(&sites.uri, &sites.headers) {
        let own = |site: &HeaderValue| site == "same-origin" || site == "none";
        assert!(sites.headers.get_all(&site).iter().all(own));
        sites
            .headers
            .append(site, HeaderValue::from_static("cross-site"));
        assert!(!origin::began_here(&sites.uri, &sites.headers));
    }
    let mut headers = fields(header::ORIGIN, said);
    headers.extend(fields(header::HOST, host));
    let Some(request) = request(Version::HTTP_11, "/", headers) else {
        return;
    };
    if host::flaw(&request).is_some() || !origin::began_here(&request.uri, &request.headers) {
        return;
    }
    let mut origins = request.headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return };
    assert!(origins.next().is_none(), "two origins");
    let host = request.headers[header::HOST].to_str().expect("text");
    let of = |text: &str| Url::parse(text).ok().map(|url| url.origin());
    assert_eq!(
        of(origin.to_str().expect("text")),
        of(&format!("https://{host}"))
    );
}
