//! Secrets as people read and type them.

/// Crockford's Base32: nothing in it is mistaken for something else, by people either.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a group.
const GROUP: usize = 5;

/// 5 bits of each byte, in groups.
pub(crate) fn written(bytes: &[u8]) -> String {
    let character = |byte: &u8| char::from(ALPHABET[usize::from(byte & 31)]);
    let characters: Vec<char> = bytes.iter().map(character).collect();
    let groups = characters.chunks(GROUP).map(|group| group.iter().collect());
    groups.collect::<Vec<String>>().join("-")
}

/// What people typed of such a secret, as it was made: letters are small, and those that Crockford's alphabet has not are what they
/// look like.
pub(crate) fn normalised(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let lower = kept.map(|c| match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    });
    lower.collect()
}
