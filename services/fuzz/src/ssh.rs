//! What clients send to the SSH CA: public keys.

#[path = "../../metacrypt/src/engine/ssh/key.rs"]
mod key;

use key::SubjectKey;

/// Types whose fields are read.
const TYPES: [&str; 10] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-ed25519-cert-v01@openssh.com",
    "x@example.org",
];

/// A key reads back as itself from the line that is shown of it.
pub fn line(text: &str) {
    let Ok(key) = SubjectKey::parse(text) else {
        return;
    };
    let line = key.line();
    let again = SubjectKey::parse(&line).expect("it is shown as it is read");
    assert_eq!(again, key);
    assert_eq!(
        line,
        key::line(key.data().algorithm().as_str(), key.written())
    );
    assert!(key.written().ends_with(key.fields()) && !key.fields().is_empty());
    assert_eq!(key.fingerprint(), again.fingerprint());
}

/// A key of each type: as its fields all bytes, or as many pieces of a length as there are.
pub fn fields(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else {
        return;
    };
    let pieces = rest.chunks(usize::from(*length).max(1));
    let pieces: Vec<u8> = pieces.flat_map(string).collect();
    for name in TYPES {
        for fields in [rest, &pieces] {
            let curve = name.rsplit_once('-').filter(|_| name.contains("ecdsa"));
            let curve = curve.map(|(_, curve)| curve.trim_end_matches("@openssh.com"));
            let curve = curve.map(|curve| string(curve.as_bytes()));
            let all = [
                string(name.as_bytes()),
                curve.unwrap_or_default(),
                fields.to_vec(),
            ];
            line(&key::line(name, &all.concat()));
        }
    }
}

/// RFC 4251 §5.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("it is short");
    [&length.to_be_bytes()[..], bytes].concat()
}
