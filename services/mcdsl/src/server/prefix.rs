//! Where messages of gRPC begin in a body, and how long they say they are.

/// What gRPC puts before a message: a flag, and the length.
pub(super) const PREFIX: usize = 5;

/// Where in messages of gRPC a body is.
#[derive(Default)]
pub(super) struct Prefix {
    bytes: [u8; PREFIX],
    have: usize,
    /// Of the message after it.
    left: usize,
    /// Bytes since the end of a message.
    since: usize,
}

impl Prefix {
    /// Whether a message begins in these bytes that is longer than `max`.
    pub(super) fn too_long(&mut self, mut bytes: &[u8], max: usize) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            self.since += skipped;
            self.note_end();
            let taken = (PREFIX - self.have).min(bytes.len());
            self.bytes[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            (self.have, bytes) = (self.have + taken, &bytes[taken..]);
            self.since += taken;
            if self.have == PREFIX {
                let [_, length @ ..] = self.bytes;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > max {
                    return true;
                }
                (self.have, self.left) = (0, length);
                self.note_end();
            }
        }
        false
    }

    fn note_end(&mut self) {
        if (self.have, self.left) == (0, 0) {
            self.since = 0;
        }
    }

    /// Bytes that came of a message that is not at its end, with its prefix.
    pub(super) fn unfinished(&self) -> usize {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_message_is_known_until_its_end() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![b'a'; length.into()]].concat();
        let two = [message(3), message(9)].concat();
        for (description, bytes, wanted) in [
            ("nothing", &[][..], 0),
            ("of a prefix", &[0, 0], 2),
            ("a prefix", &two[..5], 5),
            ("of a message", &two[..7], 7),
            ("a message", &two[..8], 0),
            ("and of the next", &two[..10], 2),
            ("both", &two, 0),
            ("an empty one", &[0, 0, 0, 0, 0], 0),
        ] {
            for size in 1..=bytes.len().max(1) {
                let mut prefix = Prefix::default();
                for part in bytes.chunks(size) {
                    assert!(!prefix.too_long(part, 10), "{description}");
                }
                assert_eq!(prefix.unfinished(), wanted, "{description} by {size}");
            }
        }
    }

    #[test]
    fn a_message_is_bounded_by_its_prefix() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![b'a'; length.into()]].concat();
        let whole = [message(0), message(10), message(3), message(9)].concat();
        for (description, tail, wanted) in [
            ("all short", &[][..], false),
            ("a long one", &[0, 0, 0, 0, 11], true),
            ("a very long one", &[1, 255, 255, 255, 255], true),
            ("the prefix of one", &[0, 255, 255], false),
        ] {
            let bytes = [&whole[..], tail].concat();
            for size in 1..bytes.len() {
                let mut prefix = Prefix::default();
                let got = bytes.chunks(size).any(|part| prefix.too_long(part, 10));
                assert_eq!(got, wanted, "{description} in parts of {size}");
            }
        }
    }
}
