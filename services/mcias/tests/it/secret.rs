//! What nobody is to read, and where it is found.

use std::collections::HashMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// Something that nobody is to read, and what it is.
pub(crate) struct Secret {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    /// As it is, and as it may be written.
    pub(crate) fn of(what: &'static str, secret: &[u8]) -> Self {
        assert!(secret.len() > 5, "{what}: too short to be looked for");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let form: String = url::form_urlencoded::byte_serialize(secret).collect();
        let list = format!("{secret:?}");
        let mut forms = vec![
            secret.to_vec(),
            form.into_bytes(),
            STANDARD.encode(secret).into_bytes(),
            URL_SAFE_NO_PAD.encode(secret).into_bytes(),
            // As Debug shows bytes.
            list.trim_matches(['[', ']']).as_bytes().to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
        ];
        // As Debug shows text.
        if let Ok(text) = std::str::from_utf8(secret) {
            forms.push(text.escape_debug().to_string().into_bytes());
            forms.push(text.escape_default().to_string().into_bytes());
        }
        forms.sort();
        forms.dedup();
        Self { what, forms }
    }
}

/// Whether a form is in these bytes at `at`. One that is as short as six digits counts as a word alone: numbers are everywhere.
fn is_at(bytes: &[u8], at: usize, form: &[u8]) -> bool {
    let joined = |at: usize| {
        let byte = bytes.get(at).copied().unwrap_or(b' ');
        byte.is_ascii_alphanumeric() || byte == b'.'
    };
    let end = at + form.len();
    bytes[at..].starts_with(form)
        && (form.len() > 8 || !(joined(at.wrapping_sub(1)) || joined(end)))
}

/// Which of the secrets are in these bytes, and what is around them.
pub(crate) fn found<'s>(
    secrets: impl IntoIterator<Item = &'s Secret>,
    bytes: &[u8],
) -> Vec<String> {
    // By their first two bytes: a log is long, and there are many secrets.
    let mut by_start: HashMap<[u8; 2], Vec<(&str, &[u8])>> = HashMap::new();
    for secret in secrets {
        for form in &secret.forms {
            let start = [form[0], form[1]];
            by_start.entry(start).or_default().push((secret.what, form));
        }
    }
    let mut begins = vec![false; 1 << 16];
    for start in by_start.keys() {
        begins[usize::from(u16::from_be_bytes(*start))] = true;
    }
    let mut found = Vec::new();
    for (at, start) in bytes.windows(2).enumerate() {
        let start = [start[0], start[1]];
        if !begins[usize::from(u16::from_be_bytes(start))] {
            continue;
        }
        for (what, form) in &by_start[&start] {
            if is_at(bytes, at, form) {
                let around = at.saturating_sub(200)..bytes.len().min(at + 100);
                let around = String::from_utf8_lossy(&bytes[around]).into_owned();
                found.push(format!("{what}: …{around}…"));
            }
        }
    }
    found
}

#[test]
fn what_is_written_in_any_way_is_found() {
    let secret = Secret::of("it", b"s3cr3t & ->");
    let code = Secret::of("a code", b"123456");
    for (description, secret, text, there) in [
        ("as it is", &secret, "a s3cr3t & -> b".to_owned(), true),
        ("in a form", &secret, "p=s3cr3t+%26+-%3E&q".to_owned(), true),
        ("as bytes", &secret, format!("{:?}", b"s3cr3t & ->"), true),
        ("in Base64", &secret, STANDARD.encode("s3cr3t & ->"), true),
        (
            "in hexadecimal",
            &secret,
            "7333637233742026202d3e".to_owned(),
            true,
        ),
        ("cut off", &secret, "s3cr3t & -".to_owned(), false),
        ("a code", &code, "code=123456,".to_owned(), true),
        (
            "another number",
            &code,
            "0.123456Z 1234567 x123456".to_owned(),
            false,
        ),
    ] {
        let found = found([secret], text.as_bytes());
        assert_eq!(!found.is_empty(), there, "{description}: {found:?}");
    }
}
