//! Pages: cookies, paths that somebody is sent on to, tokens of forms, origins in the policy.

#[path = "../../mcdsl/src/web/cookie.rs"]
mod cookie;
// Its middleware is not used here.
#[allow(dead_code)]
#[path = "../../mcdsl/src/web/headers.rs"]
mod headers;
#[path = "../../mcdsl/src/web/login_state.rs"]
mod login_state;
#[path = "../../mcdsl/src/web/path.rs"]
mod path;
// Sessions are not used here.
#[allow(dead_code)]
#[path = "../../mcdsl/src/web/secret.rs"]
mod secret;

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use cookie::SameSite;
use headers::FormAction;
use login_state::Key;
use path::LocalPath;
use secret::Secret;
use url::Url;

/// What a session's secret makes.
#[allow(dead_code)]
struct SessionId([u8; 32]);

static SECRETS: LazyLock<[Secret; 2]> = LazyLock::new(|| [Secret::random(), Secret::random()]);
static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::random(), Key::random()]);

/// Whatever cookies are beside it, one of ours is read as it was set, or not at all if there is another of its name.
pub fn cookies(data: &[u8]) {
    let [secret, other] = &*SECRETS;
    let set = cookie::set("__Host-s", &secret.text(), SameSite::Strict, Some(9));
    let set = set.to_str().expect("text");
    let ours = set.split(';').next().expect("one part");
    let mut headers = HeaderMap::new();
    let mut twice = false;
    for (i, field) in data.split(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(field) else {
            continue;
        };
        twice |= field.windows(9).any(|part| part == b"__Host-s=");
        headers.append(header::COOKIE, value);
        if i == 0 {
            let removed = cookie::remove("__Host-s", SameSite::Lax);
            assert!(
                removed
                    .to_str()
                    .is_ok_and(|text| text.contains("Max-Age=0"))
            );
            headers.append(header::COOKIE, ours.parse().expect("a header"));
        }
    }
    let alone = cookie::read(&headers, "__Host-s");
    let read = alone.and_then(Secret::parse);
    if headers
        .get_all(header::COOKIE)
        .iter()
        .any(|field| field == ours)
        && !twice
    {
        assert_eq!(
            read.map(|read| read.hash()),
            Some(secret.hash()),
            "{headers:?}"
        );
    } else if let Some(read) = read {
        assert_ne!(read.hash(), other.hash(), "a cookie that nobody sent");
    }
}

/// A path that somebody is sent on to is one of this site to browsers, and comes through the login page as it is.
pub fn local(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for text in [text, &format!("/{text}")] {
        let Some(path) = LocalPath::parse(text) else {
            continue;
        };
        assert_eq!(path.header().as_bytes(), text.as_bytes());
        let here = Url::parse("https://here.example/a/b?c").expect("an address");
        let there = here.join(text).expect("a path");
        assert_eq!(there.origin(), here.origin(), "{text}");
        let asked = text.split(['?', '#']).next().unwrap_or_default();
        let segments = |path: &str| path.split('/').count();
        assert_eq!(
            segments(there.path()),
            segments(asked),
            "browsers change {text}"
        );
        let login = path.after("/login");
        let login: Uri = login.as_str().parse().expect("an address");
        assert_eq!(LocalPath::next(&login), path);
    }
    assert_eq!(LocalPath::or_home(Some("//a.example")), LocalPath::home());
}

/// The origin of an address as the policy of pages names it, if there is one.
pub(crate) fn form_action(url: &str) -> Option<String> {
    FormAction::of(url).ok().map(|FormAction(origin)| origin)
}

/// What the policy names is one origin, the address's.
pub fn origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for url in [
        text,
        &format!("https://{text}"),
        &format!("http://127.0.0.1{text}"),
    ] {
        let Some(origin) = form_action(url) else {
            continue;
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]/".contains(&b);
        assert!(origin.bytes().all(plain), "{origin}");
        // What is no address leads nowhere.
        if let (Ok(url), Ok(origin)) = (Url::parse(url), Url::parse(&origin)) {
            assert_eq!(url.origin(), origin.origin(), "{url}");
        }
    }
}

/// A form's token is one of its secret's, and there is no other: neither made up nor changed in a byte.
pub fn tokens(data: &[u8]) {
    let [secret, other] = &*SECRETS;
    let token = secret.token();
    assert!(secret.is_token(&token) && !other.is_token(&token));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(!secret.is_token(text), "made up: {text}");
    if let Some(parsed) = Secret::parse(text) {
        assert_eq!(parsed.text(), text, "a second spelling");
    }
    if let [at, byte, ..] = data {
        let mut bytes = token.clone().into_bytes();
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert_eq!(secret.is_token(&changed), changed == token, "at {at}");
        }
    }
}

/// What is sealed under a cookie or for one opens as itself alone.
pub fn sealed(at: usize, mask: u8, text: &[u8]) {
    let [secret, other] = &*SECRETS;
    let sealed = secret.seal(text);
    assert_eq!(secret.open(&sealed).as_deref(), Some(text));
    assert_eq!(other.open(&sealed), None, "of another cookie");
    assert_eq!(
        secret.open(&changed(&sealed, at, mask)),
        None,
        "changed at {at}"
    );
    let made_up = String::from_utf8_lossy(text);
    assert_eq!(secret.open(&made_up), None, "made up");

    let [key, other] = &*KEYS;
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let open = |key: &Key, name: &str, value: &str| key.open::<String>(name, value, now);
    assert_eq!(open(key, "a", &made_up), None, "made up");
    let Some(sealed) = key.seal("a", &made_up, now) else {
        // As JSON, which writes some bytes as six.
        let written = serde_json::to_string(&made_up).map_or(0, |json| json.len());
        assert!(written > 500, "that would fit");
        return;
    };
    assert_eq!(open(key, "a", &sealed).as_deref(), Some(&*made_up));
    assert_eq!(open(key, "b", &sealed), None, "another cookie's");
    assert_eq!(open(other, "a", &sealed), None, "another process's");
    assert_eq!(
        open(key, "a", &changed(&sealed, at, mask)),
        None,
        "changed at {at}"
    );
}

/// With one character of it another one.
fn changed(sealed: &str, at: usize, mask: u8) -> String {
    const ALPHABET: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \n";
    let mut bytes = sealed.as_bytes().to_vec();
    let at = at % bytes.len();
    let mut character = usize::from(mask) % ALPHABET.len();
    if ALPHABET[character] == bytes[at] {
        character = (character + 1) % ALPHABET.len();
    }
    bytes[at] = ALPHABET[character];
    String::from_utf8(bytes).expect("ASCII")
}
