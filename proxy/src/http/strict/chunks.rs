//! What frames the chunks of a body (RFC 9112 §7.1).

use super::{MAX_HEX, State, Validator, Violation};

impl Validator {
    /// One byte between the data of chunks.
    pub(super) fn chunk(&mut self, byte: u8) -> Result<State, Violation> {
        use State::*;
        Ok(match (self.state, byte) {
            (SizeStart | Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.state == SizeStart {
                    (self.left, self.token.len) = (0, 0);
                }
                if self.token.len == MAX_HEX {
                    return Err(Violation::ChunkSize);
                }
                self.token.len += 1;
                self.left = self.left * 16 + u64::from((byte as char).to_digit(16).unwrap_or(0));
                Size
            }
            (Size, b';') => {
                self.size = 0;
                Extension
            }
            (Size | Extension, b'\r') => SizeLf,
            (SizeStart | Size, _) => return Err(Violation::ChunkSize),
            (Extension, _) => return Err(Violation::ChunkExtension),
            (SizeLf, b'\n') if self.left > 0 => Data,
            (SizeLf, b'\n') => {
                self.in_trailers = true;
                (self.size, self.fields) = (0, 0);
                FieldStart
            }
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                self.size = 0;
                SizeStart
            }
            _ => return Err(Violation::LineEnd),
        })
    }
}
