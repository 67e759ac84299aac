//! Kinds of bytes, and the few words that matter.

/// The first bytes of what is read, and its length.
#[derive(Clone, Debug, Default)]
pub(super) struct Token {
    bytes: [u8; 17],
    pub(super) len: usize,
}

impl Token {
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let kept = self.bytes.len().saturating_sub(self.len).min(bytes.len());
        for &byte in &bytes[..kept] {
            self.push(byte);
        }
        self.len += bytes.len() - kept;
    }

    /// The bytes, unless they are too many for any that is known.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }

    pub(super) fn is(&self, name: &[u8]) -> bool {
        self.whole().is_some_and(|w| w.eq_ignore_ascii_case(name))
    }

    pub(super) fn starts_with(&self, prefix: &[u8]) -> bool {
        self.len >= prefix.len() && self.bytes[..prefix.len()].eq_ignore_ascii_case(prefix)
    }
}

/// RFC 9110 §5.6.2.
pub(super) const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// RFC 9110 §5.5: what may stand in a value.
pub(super) const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// RFC 3986, and what browsers leave as it is; a fragment is never sent.
const fn is_target(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'#'
}

pub(super) const NAME: u8 = 1;
pub(super) const TEXT: u8 = 2;
pub(super) const TARGET: u8 = 4;
static CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        table[i] = (is_tchar(byte) as u8 * NAME)
            | (is_text(byte) as u8 * TEXT)
            | (is_target(byte) as u8 * TARGET);
        i += 1;
    }
    table
};

/// How many bytes at the beginning are of a class.
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    bytes
        .iter()
        .position(|&byte| CLASSES[usize::from(byte)] & class == 0)
        .unwrap_or(bytes.len())
}
