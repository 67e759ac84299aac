//! Headers as they cross a proxy (RFC 9110 §7.6): what concerns one hop ends here, what says who the client is begins here.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Method, Version,
    header::{self, HeaderName, HeaderValue},
    http::{request::Parts, uri::Authority},
};

use super::upstream::field;

/// Whether a field is of one hop (RFC 9110 §7.6.1). `te: trailers` is added again where it means something.
fn is_of_hop(name: &str) -> bool {
    matches!(
        name,
        "http2-settings"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
    )
}

/// Who the client is, as backends are told. Always ours: what a client says of itself is removed.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Whether a field is one of those, or of the same family.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

/// What of a client is the same for all requests of its connection.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    address: HeaderValue,
    /// As RFC 7239 writes it: IPv6 in brackets and quotes.
    forwarded: String,
}

impl Identity {
    pub(super) fn new(client: SocketAddr) -> Self {
        let ip = client.ip().to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).expect("an address is a token");
        let forwarded = if ip.is_ipv6() {
            format!("for=\"[{ip}]\";proto=https;host=")
        } else {
            format!("for={ip};proto=https;host=")
        };
        Self { address, forwarded }
    }

    /// What backends are told with a request to this host.
    pub(super) fn told(&self, authority: &Authority) -> Told {
        let host = authority.as_str();
        // A port makes it no token (RFC 7239 §4).
        let quote = if host.contains(':') { "\"" } else { "" };
        let forwarded = HeaderValue::try_from(format!("{}{quote}{host}{quote}", self.forwarded));
        let fields = [
            (FORWARDED_FOR, Some(self.address.clone())),
            (REAL_IP, Some(self.address.clone())),
            (FORWARDED_PROTO, Some(HeaderValue::from_static("https"))),
            (header::FORWARDED, forwarded.ok()),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let fields: Vec<_> = fields.collect();
        let mut lines = BytesMut::new();
        field(&mut lines, &header::HOST, host.as_bytes());
        for (name, value) in &fields {
            field(&mut lines, name, value.as_bytes());
        }
        Told {
            fields,
            lines: lines.freeze(),
        }
    }
}

/// What backends are told with a request: who sends it, and for HTTP/1.1 the host.
#[derive(Debug)]
pub(super) struct Told {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// As HTTP/1.1 writes it: made once for a connection, since it is much of what most requests' heads are.
    pub(super) lines: Bytes,
}

impl Told {
    /// Says it with these.
    pub(super) fn insert(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
    }
}

/// The protocol that an HTTP/1.1 request asks to change to, kept beside the request while its headers are rewritten.
#[derive(Clone, Debug)]
pub(super) struct Upgrade(pub(super) HeaderValue);

/// A client's request as a backend may have it, [`Told`] apart. Says how many fields imitated ours.
pub(super) fn rewrite(parts: &mut Parts) -> usize {
    if parts.version == Version::HTTP_11
        && let Some(asked) = upgrade(&parts.headers)
    {
        parts.extensions.insert(Upgrade(asked));
    }
    if strip(&mut parts.headers) {
        (parts.headers).insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // Answered here, when the backend's connection asks for the body.
    parts.headers.remove(header::EXPECT);
    drop_claims(&mut parts.headers)
}

/// Removes what says who the client is, and what imitates that: fields that become ours where `-` and what is neither letter nor digit are the same: CGI, WSGI and the like name `X-Real-IP`, `X_Real_IP` and, some of them,
/// `X.Real.IP` `HTTP_X_REAL_IP`. Says how many. Other such names stay: gRPC's metadata has them. `Proxy` would be `HTTP_PROXY`, by which programs reach others ("httpoxy").
fn drop_claims(headers: &mut HeaderMap) -> usize {
    let strange = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    let imitates = |name: &&HeaderName| {
        let name = name.as_str();
        name == "proxy"
            || name.contains(strange) && {
                let name = name.replace(strange, "-");
                is_ours(&name)
                    || is_of_hop(&name)
                    || matches!(&*name, "content-length" | "content-type")
            }
    };
    let claims = |name: &&HeaderName| is_ours(name.as_str()) || imitates(name);
    let found: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
    for name in &found {
        headers.remove(name);
    }
    found.iter().filter(|name| !is_ours(name.as_str())).count()
}

/// Removes what concerns the hop it came over. Says whether the sender takes trailers.
pub(super) fn strip(headers: &mut HeaderMap) -> bool {
    let of_hop = |name: &&HeaderName| is_of_hop(name.as_str());
    if !headers.keys().any(|name| of_hop(&name)) {
        return false;
    }
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|te| te.to_str().is_ok_and(|te| lists(te, "trailers")));
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    let found: Vec<HeaderName> = headers.keys().filter(of_hop).cloned().collect();
    for name in found {
        headers.remove(name);
    }
    trailers
}

/// The protocol that an HTTP/1.1 request asks to change to.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|c| c.to_str().is_ok_and(|c| lists(c, "upgrade")));
    let protocol = headers.get(header::UPGRADE).filter(|_| asked)?;
    tunnels(protocol.to_str().ok()?).then(|| protocol.clone())
}

/// Whether there may be a tunnel for a protocol: one by name, and not HTTP/2, which would pass every rule of the route in it (h2c
/// smuggling).
pub(super) fn tunnels(protocol: &str) -> bool {
    let name = protocol.trim().to_ascii_lowercase();
    // RFC 9110 §7.8: a token, and another for its version.
    let mut parts = name.splitn(2, '/');
    let tokens = parts.all(|part| HeaderName::from_bytes(part.as_bytes()).is_ok());
    tokens && !name.starts_with("h2") && !name.starts_with("http") && !name.contains("h2c")
}

/// Trailers as the other side may have them: those that change what the head has said are removed (RFC 9110 §6.5.1), since many a
/// backend reads them as one.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    strip(trailers);
    drop_claims(trailers);
    let of_the_head = |name: &&HeaderName| {
        name.as_str().starts_with("content-")
            || matches!(
                **name,
                header::AUTHORIZATION
                    | header::COOKIE
                    | header::EXPECT
                    | header::HOST
                    | header::MAX_FORWARDS
                    | header::RANGE
                    | header::SET_COOKIE
                    | header::TRAILER
            )
    };
    let found: Vec<HeaderName> = trailers.keys().filter(of_the_head).cloned().collect();
    for name in found {
        trailers.remove(name);
    }
}

fn lists(value: &str, wanted: &str) -> bool {
    value
        .split(',')
        .any(|item| item.trim().eq_ignore_ascii_case(wanted))
}

/// Whether it may be sent again although a backend may have done it (RFC 9110 §9.2.1). PUT and DELETE are idempotent, but only in
/// what they leave behind: the second DELETE answers 404 and the second conditional PUT 412, for what has succeeded.
pub(super) fn repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// For the log.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    value.parse::<HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("connection", "\u{e9}, x-third"),
            ("x-third", "3"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, Trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-stays", "yes"),
        ]);
        assert!(strip(&mut headers), "trailers are taken");
        assert_eq!(headers, map(&[("x-stays", "yes")]));
        assert!(!strip(&mut headers));
    }

    #[test]
    fn trailers_say_nothing_of_the_head() {
        let mut trailers = map(&[
            ("x-checksum", "1"),
            ("grpc-status", "0"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_real_ip", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("content-length", "7"),
            ("host", "evil"),
            ("authorization", "x"),
            ("transfer-encoding", "chunked"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("x-checksum", "1"), ("grpc-status", "0")]));
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-real-ip", "10.0.0.3"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=10.0.0.4"),
        ]);
        assert_eq!(drop_claims(&mut headers), 0, "none is an imitation");
        assert_eq!(headers, HeaderMap::new());
        let client = Identity::new("[2001:db8::1]:4711".parse().unwrap());
        let told = client.told(&"a.example:8443".parse().unwrap());
        told.insert(&mut headers);
        assert_eq!(
            told.lines,
            "host: a.example:8443\r\nx-forwarded-for: 2001:db8::1\r\nx-real-ip: 2001:db8::1\r\nx-forwarded-proto: https\r\n\
             forwarded: for=\"[2001:db8::1]\";proto=https;host=\"a.example:8443\"\r\n"
        );
        assert_eq!(
            headers,
            map(&[
                ("x-forwarded-for", "2001:db8::1"),
                ("x-real-ip", "2001:db8::1"),
                ("x-forwarded-proto", "https"),
                (
                    "forwarded",
                    "for=\"[2001:db8::1]\";proto=https;host=\"a.example:8443\""
                ),
            ])
        );
        let client = Identity::new("[::ffff:192.0.2.1]:4711".parse().unwrap());
        client
            .told(&"a.example".parse().unwrap())
            .insert(&mut headers);
        assert_eq!(
            headers[header::FORWARDED],
            "for=192.0.2.1;proto=https;host=a.example"
        );
    }

    #[test]
    fn imitations_of_our_fields_are_dropped() {
        let mut headers = map(&[
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "http"),
            ("x_real-ip", "10.0.0.1"),
            ("transfer_encoding", "chunked"),
            ("content_length", "5"),
            ("x.forwarded.for", "10.0.0.1"),
            ("x~real~ip", "10.0.0.1"),
            ("proxy", "http://10.0.0.1"),
            ("x_request_id", "stays"),
            ("x-forwarded-for", "is ours, and no imitation"),
        ]);
        assert_eq!(drop_claims(&mut headers), 8);
        assert_eq!(headers, map(&[("x_request_id", "stays")]));
        assert_eq!(drop_claims(&mut headers), 0);
    }

    #[test]
    fn upgrades_need_both_fields() {
        for (description, headers, asked) in [
            (
                "as browsers do",
                map(&[("connection", "Upgrade"), ("upgrade", "websocket")]),
                true,
            ),
            (
                "in a list",
                map(&[
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "websocket"),
                ]),
                true,
            ),
            (
                "to HTTP/2",
                map(&[
                    ("connection", "upgrade, http2-settings"),
                    ("upgrade", "h2c"),
                ]),
                false,
            ),
            (
                "to HTTP/2 among others",
                map(&[("connection", "upgrade"), ("upgrade", "x, h2c")]),
                false,
            ),
            (
                "to HTTP/2 as another's version",
                map(&[("connection", "upgrade"), ("upgrade", "x/h2c")]),
                false,
            ),
            (
                "to what is no token",
                map(&[("connection", "upgrade"), ("upgrade", "web socket")]),
                false,
            ),
            (
                "with a version",
                map(&[("connection", "upgrade"), ("upgrade", "irc/6.9")]),
                true,
            ),
            ("no connection", map(&[("upgrade", "websocket")]), false),
            (
                "another connection",
                map(&[("connection", "close"), ("upgrade", "websocket")]),
                false,
            ),
            ("no upgrade", map(&[("connection", "upgrade")]), false),
        ] {
            assert_eq!(upgrade(&headers).is_some(), asked, "{description}");
        }
    }
}
