//! The fields of a head or of trailers (RFC 9112 §5), and what those mean that frame a message.

use std::mem;

use super::{
    Known, MAX_DIGITS, MAX_FIELDS, State, Validator, Violation,
    bytes::{Token, is_tchar, is_text},
};

impl Validator {
    /// One byte of a section of fields.
    pub(super) fn field(&mut self, byte: u8) -> Result<State, Violation> {
        use State::*;
        Ok(match (self.state, byte) {
            (FieldStart, b'\r') => EndLf,
            (FieldStart, b' ' | b'\t') => return Err(Violation::Folded),
            (FieldStart, b'\n') => return Err(Violation::LineEnd),
            (FieldStart, _) if is_tchar(byte) => {
                self.fields += 1;
                if self.fields > MAX_FIELDS {
                    return Err(Violation::TooLarge);
                }
                self.token = Token::default();
                self.token.push(byte);
                Name
            }
            (Name, b':') => {
                self.known = self.named()?;
                self.token = Token::default();
                Before
            }
            (Name | FieldStart, _) => return Err(Violation::FieldName),
            (Before | After, b' ' | b'\t') => self.state,
            (Value, b' ' | b'\t') => After,
            (Before | Value | After, b'\r') => {
                self.valued()?;
                ValueLf
            }
            (ValueLf, b'\n') => FieldStart,
            (EndLf, b'\n') => self.section_end()?,
            (ValueLf | EndLf, _) | (_, b'\n') => return Err(Violation::LineEnd),
            (After, _) => return Err(self.flaw()),
            (_, _) => {
                self.value(byte)?;
                Value
            }
        })
    }

    /// A field's name is complete.
    fn named(&mut self) -> Result<Known, Violation> {
        let known = if self.token.is(b"content-length") {
            Known::Length
        } else if self.token.is(b"transfer-encoding") {
            Known::Encoding
        } else if self.token.is(b"host") {
            Known::Host
        } else if self.token.is(b"upgrade") {
            Known::Upgrade
        } else {
            return Ok(Known::Other);
        };
        if self.in_trailers {
            return Err(Violation::Trailer);
        }
        let head = &mut self.head;
        match known {
            Known::Length if head.length.is_some() => return Err(Violation::DuplicateLength),
            Known::Length => head.length = Some(0),
            Known::Encoding if mem::replace(&mut head.encoding, true) => {
                return Err(Violation::Encoding);
            }
            Known::Host if mem::replace(&mut head.host, true) => return Err(Violation::Host),
            Known::Upgrade => head.upgrade = true,
            _ => {}
        }
        if head.encoding && head.length.is_some() {
            return Err(Violation::LengthAndEncoding);
        }
        Ok(known)
    }

    fn flaw(&self) -> Violation {
        match self.known {
            Known::Length => Violation::Length,
            Known::Encoding => Violation::Encoding,
            _ => Violation::FieldValue,
        }
    }

    fn value(&mut self, byte: u8) -> Result<(), Violation> {
        match self.known {
            Known::Length if byte.is_ascii_digit() && self.token.len < MAX_DIGITS => {
                let length = self.head.length.get_or_insert(0);
                *length = *length * 10 + u64::from(byte - b'0');
                self.token.push(byte);
            }
            Known::Encoding if byte.is_ascii_alphabetic() => self.token.push(byte),
            Known::Length | Known::Encoding => return Err(self.flaw()),
            _ if is_text(byte) => {}
            _ => return Err(Violation::FieldValue),
        }
        Ok(())
    }

    /// A field's value is complete.
    fn valued(&self) -> Result<(), Violation> {
        let whole = match self.known {
            Known::Length => self.token.len > 0,
            Known::Encoding => self.token.is(b"chunked"),
            _ => true,
        };
        whole.then_some(()).ok_or_else(|| self.flaw())
    }
}
