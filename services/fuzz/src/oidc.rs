//! OpenID Connect: parameters of requests, what they ask for, where their answers go, who clients say they are.

#[path = "../../mcias/src/oidc/basic.rs"]
mod basic;
#[path = "../../mcias/src/oidc/params.rs"]
mod params;
#[path = "../../mcias/src/oidc/pkce.rs"]
mod pkce;
#[path = "../../mcias/src/redirect.rs"]
mod redirect;
#[path = "../../mcias/src/oidc/scope.rs"]
mod scope;
#[path = "../../mcias/src/oidc/wanted.rs"]
mod wanted;

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use params::Params;
use url::{Host, Url, form_urlencoded};
use wanted::Wanted;

use crate::web::form_action;

const HERE: &str = "https://mcias.example/oauth/authorize";
/// A request that is fine, but for what follows it.
const FINE: &[u8] = b"response_type=code&scope=openid+roles&code_challenge_method=S256&\
    code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&";

/// Parameters mean what they say, once: written again they are the same ones, and what is left out is gone.
pub fn request(text: &[u8]) {
    for text in [text, &[FINE, text].concat()] {
        let Ok(params) = Params::parse(text) else {
            continue;
        };
        let mut names = HashSet::new();
        let all: Vec<_> = form_urlencoded::parse(text).collect();
        for (name, value) in &all {
            assert!(names.insert(name), "{name:?} is there twice");
            let said = Some(&**value).filter(|value| !value.is_empty());
            assert_eq!(params.get(name), said, "{name:?}");
        }
        let query = params.query();
        let again = Params::parse(query.as_bytes()).expect("what is written is read");
        assert_eq!(again.query(), query);
        let (name, _) = all.first().cloned().unwrap_or_default();
        let less = Params::parse(params.query_without(&[&name]).as_bytes());
        let less = less.expect("less is read as well");
        assert_eq!(less.get(&name), None);
        for (other, _) in all.iter().skip(1) {
            assert_eq!(less.get(other), params.get(other));
        }
        if let Ok(wanted) = Wanted::of(&params) {
            asked(&params, &wanted);
        }
    }
}

/// A request that is answered is one for a code, by S256, in the query.
fn asked(params: &Params, wanted: &Wanted) {
    assert_eq!(params.get("response_type"), Some("code"));
    assert_eq!(params.get("code_challenge_method"), Some("S256"));
    assert_eq!(params.get("code_challenge"), Some(&*wanted.challenge));
    assert_eq!(params.get("nonce"), wanted.nonce.as_deref());
    assert!(
        params
            .get("response_mode")
            .is_none_or(|mode| mode == "query")
    );
    assert!(params.get("request").is_none() && params.get("request_uri").is_none());
    assert!(pkce::is_challenge(&wanted.challenge));
    let asked = params.get("scope").unwrap_or_default();
    assert!(scope::has(&wanted.scopes, "openid"));
    for granted in wanted.scopes.split(' ') {
        assert!(scope::ALL.contains(&granted) && scope::has(asked, granted));
    }
    assert!(!(wanted.silent && params.get("prompt") != Some("none")));
    assert!(wanted.max_age.is_none_or(|age| age > 0));
}

/// PKCE: a challenge is answered by its verifier alone.
pub fn verifier(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let filled = format!("{text:a<43}");
    let challenge = BASE64.encode(digest(&SHA256, filled.as_bytes()));
    assert!(pkce::is_challenge(&challenge));
    let length = filled.len();
    assert_eq!(
        pkce::verifies(&filled, &challenge),
        length <= 128,
        "{length}"
    );
    assert!(!pkce::verifies(&filled, &filled), "plain");
    assert!(!pkce::verifies(&filled, ""), "no challenge");
    assert!(!pkce::verifies(&format!("{filled}a"), &challenge));
    assert!(!pkce::verifies(&filled[..0], &challenge));
}

/// An address that a service may have leads browsers there and nowhere else, with whatever state comes back.
pub fn redirect(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (uri, state) = text.split_once('\n').unwrap_or((text, text));
    for prefix in ["", "https://", "https://a.example", "http://127.0.0.1"] {
        let uri = format!("{prefix}{uri}");
        if redirect::check(&uri).is_err() {
            continue;
        }
        let here = Url::parse(HERE).expect("an address");
        let there = Url::parse(&uri).expect("it was checked");
        assert!(redirect::is_own(&uri, &uri, false));
        if redirect::is_own("http://127.0.0.1/cb", &uri, true) {
            let local = (there.host_str(), there.path(), there.query());
            assert_eq!(local, (Some("127.0.0.1"), "/cb", None), "{uri}");
        }
        assert_eq!(here.join(&uri).as_ref(), Ok(&there), "of this site: {uri}");
        // Of an address of IPv6 a policy names the scheme alone.
        let named = match there.host() {
            Some(Host::Ipv6(_)) => format!("{}:", there.scheme()),
            _ => there.origin().ascii_serialization(),
        };
        let source = form_action(&uri).map(|source| source.to_ascii_lowercase());
        let source = source.map(|source| match Url::parse(&source) {
            Ok(url) => url.origin().ascii_serialization(),
            Err(_) => source,
        });
        assert_eq!(source, Some(named), "pages may not lead to it: {uri}");

        let said = [("code", "c"), ("state", state), ("iss", HERE)];
        let to = redirect::with_answer(&uri, &params::query(said));
        assert!(HeaderValue::from_str(&to).is_ok(), "{to:?}");
        let to = here.join(&to).expect("an address");
        assert_eq!(to.origin(), there.origin(), "{to}");
        assert_eq!(to.path(), there.path(), "{to}");
        assert!(to.fragment().is_none() && to.username().is_empty(), "{to}");
        let pairs: Vec<_> = to.query_pairs().collect();
        let told = &pairs[pairs.len() - said.len()..];
        for ((name, value), (wanted, what)) in told.iter().zip(said) {
            assert_eq!((&**name, &**value), (wanted, what), "{to}");
        }
    }
}

/// A client that says who it is by Basic (RFC 6749 §2.3.1) says it in one way: written again it is the same.
pub fn basic(data: &[u8]) {
    let field = |value: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).ok()?);
        basic::basic(&headers).ok()?
    };
    let encoded = |text: &[u8]| field(format!("Basic {}", STANDARD.encode(text)).as_bytes());
    let written = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    for (id, secret) in [field(data), encoded(data)].into_iter().flatten() {
        let text = format!("{}:{}", written(&id), written(&secret));
        assert_eq!(encoded(text.as_bytes()), Some((id, secret)), "{text}");
    }
    if let Ok(text) = std::str::from_utf8(data)
        && !text.is_empty()
    {
        let both = format!("{}:{}", written("wiki"), written(text));
        assert_eq!(
            encoded(both.as_bytes()),
            Some(("wiki".to_owned(), text.to_owned()))
        );
    }
}
