//! What SSH writes (RFC 4251 §5).

/// Bytes in the forms of SSH.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Vec<u8>);

impl Wire {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A byte.
    pub(super) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Four bytes.
    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Eight bytes.
    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Bytes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A string, with its length.
    pub(super) fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("all that is written here is bounded");
        self.u32(length).raw(bytes)
    }

    /// A number without a sign, of big-endian bytes: none in front that says nothing, and a zero where the first bit would be a sign.
    pub(super) fn mpint(self, bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[zeros..];
        if bytes.first().is_some_and(|first| *first >= 0x80) {
            return self.string([&[0], bytes].concat());
        }
        self.string(bytes)
    }

    /// What was written.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// What was written, to be read.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let empty: &[u8] = &[];
        for (description, written, wanted) in [
            ("a byte", Wire::new().byte(1), &[1][..]),
            ("four bytes", Wire::new().u32(258), &[0, 0, 1, 2]),
            (
                "eight bytes",
                Wire::new().u64(258),
                &[0, 0, 0, 0, 0, 0, 1, 2],
            ),
            ("a string", Wire::new().string("ab"), b"\0\0\0\x02ab"),
            ("an empty one", Wire::new().string(""), &[0; 4]),
            ("zero (RFC 4251 §5)", Wire::new().mpint(&[0]), &[0; 4]),
            ("nothing", Wire::new().mpint(empty), &[0; 4]),
            (
                "80 (RFC 4251 §5)",
                Wire::new().mpint(&[0x80]),
                &[0, 0, 0, 2, 0, 0x80],
            ),
            (
                "zeros in front",
                Wire::new().mpint(&[0, 0, 0x7f]),
                &[0, 0, 0, 1, 0x7f],
            ),
        ] {
            assert_eq!(written.bytes(), wanted, "{description}");
        }
    }
}
