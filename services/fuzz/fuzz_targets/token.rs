//! Bearer tokens and ID tokens: without the key's signature none is accepted, whatever it says; with it, none but of its kind and for whom it is.
#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use libfuzzer_sys::fuzz_target;
use mc_services_fuzz::auth::{
    Identity,
    id_token::Expected,
    token::{Claims, Keys},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://mcias.example";
const SERVICE: &str = "notes";
const NONCE: &str = "n";
const NOW: u64 = 1_800_000_000;
/// Clocks may differ by as much.
const LEEWAY: u64 = 5;
const ACCESS: &[u8] = br#"{"typ":"at+jwt","alg":"EdDSA","kid":"k"}"#;
const ID: &[u8] = br#"{"typ":"JWT","alg":"EdDSA","kid":"k"}"#;

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes"));
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new([("k", PAIR.public_key().as_ref())]));

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (header, claims, more) = (part(), part(), part());
    unsigned(&String::from_utf8_lossy(data));
    for header in [header, ACCESS, ID] {
        let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        unsigned(&text);
        unsigned(&format!("{text}."));
        unsigned(&format!("{text}.{}", BASE64.encode(more)));
        let mac =
            aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, PAIR.public_key().as_ref());
        let mac = aws_lc_rs::hmac::sign(&mac, text.as_bytes());
        unsigned(&format!("{text}.{}", BASE64.encode(mac.as_ref())));
        signed(header, claims);
        signed(header, &merged(claims));
    }
    changed(data);
});

fn unsigned(token: &str) {
    assert!(access(token).is_none(), "{token}");
    assert!(!is_id(token), "{token}");
}

/// By the key, as nobody but the issuer can: it is accepted for what it says, if at all.
fn signed(header: &[u8], claims: &[u8]) {
    let token = token(header, claims);
    let (access, id) = (access(&token), is_id(&token));
    assert!(access.is_none() || !id, "of two kinds: {token}");
    if access.is_none() && !id {
        return;
    }
    let header: Value = serde_json::from_slice(header).expect("JSON");
    let claims: Value = serde_json::from_slice(claims).expect("JSON");
    let kind = if id { "JWT" } else { "at+jwt" };
    for (name, wanted) in [("alg", "EdDSA"), ("kid", "k"), ("typ", kind)] {
        assert_eq!(header[name], wanted, "{header}");
    }
    assert_eq!(claims["iss"], ISSUER);
    let time = |name: &str| claims[name].as_u64().expect("a time");
    assert!(NOW < time("exp").saturating_add(LEEWAY) && time("iat") <= NOW + LEEWAY);
    let Some(access) = access else {
        assert_eq!(
            (&claims["aud"], &claims["nonce"]),
            (&json!(SERVICE), &json!(NONCE))
        );
        return;
    };
    assert!(time("nbf") <= NOW + LEEWAY);
    let services = claims["aud"].as_array().expect("a list");
    assert!(services.iter().any(|name| name == SERVICE), "{claims}");
    let who = Identity::from(access);
    assert!(!who.account.is_empty() && !who.token.is_empty() && !who.session.is_empty());
    let roles: Vec<&str> = who.roles.iter().map(String::as_str).collect();
    assert_eq!(json!(roles), claims["roles"], "no more than it says");
}

/// One byte of a good one.
fn changed(data: &[u8]) {
    let [low, high, byte, ..] = data else { return };
    for (header, good) in [(ACCESS, fine()), (ID, fine_id())] {
        let token = token(header, good.to_string().as_bytes());
        assert!(access(&token).is_some() != is_id(&token), "{token}");
        let mut bytes = token.clone().into_bytes();
        let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
        bytes[at] = *byte;
        if let Ok(text) = String::from_utf8(bytes)
            && text != token
        {
            unsigned(&text);
        }
    }
}

fn fine() -> Value {
    json!({
        "iss": ISSUER, "sub": "id", "aud": [SERVICE], "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "jti": "t", "sid": "s",
        "name": "ada", "account_type": "human", "roles": ["user"], "tags": [], "amr": ["pwd"],
    })
}

fn fine_id() -> Value {
    json!({ "iss": ISSUER, "sub": "id", "aud": SERVICE, "iat": NOW, "exp": NOW + 3600, "nonce": NONCE, "sid": "s" })
}

/// Good claims, but for those that are given.
fn merged(claims: &[u8]) -> Vec<u8> {
    let mut all = fine();
    if let (Ok(Value::Object(given)), Value::Object(all)) =
        (serde_json::from_slice(claims), &mut all)
    {
        all.extend(given);
    }
    all.to_string().into_bytes()
}

fn token(header: &[u8], claims: &[u8]) -> String {
    let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = PAIR.sign(text.as_bytes());
    format!("{text}.{}", BASE64.encode(signature.as_ref()))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn access(token: &str) -> Option<Claims> {
    KEYS.verify(token, ISSUER, Some(SERVICE), now()).ok()
}

fn is_id(token: &str) -> bool {
    let expected = Expected {
        issuer: ISSUER,
        client: SERVICE,
        nonce: Some(NONCE),
    };
    KEYS.verify_id(token, expected, now()).is_ok()
}
