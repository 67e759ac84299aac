//! A question to a resolver and its answer (RFC 1035): what looks at challenges needs no more.

/// Longest answer over UDP that is asked for (EDNS, RFC 6891).
pub(crate) const MAX_UDP: usize = 1232;
/// Longest that is read at all.
pub(crate) const MAX_MESSAGE: usize = 16 << 10;
/// Most records of an answer that are looked at.
const MAX_RECORDS: usize = 200;
/// Aliases that are followed.
const MAX_ALIASES: usize = 10;
const CLASS_IN: u16 = 1;
const CNAME: u16 = 5;
const OPT: u16 = 41;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Txt,
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Txt => 16,
            Self::Aaaa => 28,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsFault {
    #[error("the name is none of the DNS")]
    Name,
    #[error("there is no such name (NXDOMAIN)")]
    NoName,
    #[error("the resolver cannot tell (response code {0})")]
    Code(u8),
    #[error("the resolver's answer is none")]
    Form,
    /// It is to be asked for over TCP.
    #[error("the answer is cut off")]
    Truncated,
}

/// A question in the form of RFC 1035 §4, with recursion.
///
/// # Errors
/// If the name is none.
pub(crate) fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, DnsFault> {
    let mut out = Vec::with_capacity(64 + name.len());
    out.extend(id.to_be_bytes());
    // RD; one question, one additional record.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let begin = out.len();
    for label in name.split('.') {
        let length = u8::try_from(label.len()).map_err(|_| DnsFault::Name)?;
        if !(1..=63).contains(&length) {
            return Err(DnsFault::Name);
        }
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - begin > 255 {
        return Err(DnsFault::Name);
    }
    out.extend(kind.number().to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.push(0);
    out.extend(OPT.to_be_bytes());
    out.extend((MAX_UDP as u16).to_be_bytes());
    out.extend([0; 6]);
    Ok(out)
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DnsFault> {
        let end = self.at.checked_add(bytes).ok_or(DnsFault::Form)?;
        let taken = self.all.get(self.at..end).ok_or(DnsFault::Form)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, DnsFault> {
        let two = self.take(2)?;
        Ok(u16::from_be_bytes([two[0], two[1]]))
    }

    /// A name, whose pointers lead back alone, in small letters and with its dots.
    fn name(&mut self) -> Result<Vec<u8>, DnsFault> {
        let (mut out, mut at, mut end, mut least) = (Vec::new(), self.at, None, self.at);
        loop {
            let length = *self.all.get(at).ok_or(DnsFault::Form)?;
            match length {
                0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Ok(out);
                }
                1..=63 => {
                    let label = self.all.get(at + 1..at + 1 + usize::from(length));
                    out.extend(label.ok_or(DnsFault::Form)?.to_ascii_lowercase());
                    out.push(b'.');
                    if out.len() > 255 {
                        return Err(DnsFault::Form);
                    }
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let low = *self.all.get(at + 1).ok_or(DnsFault::Form)?;
                    end = end.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if at >= least {
                        return Err(DnsFault::Form);
                    }
                    least = at;
                }
                _ => return Err(DnsFault::Form),
            }
        }
    }
}

/// The data of the records that answer a question, behind the aliases.
///
/// # Errors
/// [`DnsFault`]; also if it answers another question.
pub(crate) fn answer(
    id: u16,
    name: &str,
    kind: Kind,
    bytes: &[u8],
) -> Result<Vec<Vec<u8>>, DnsFault> {
    let mut reader = Reader { all: bytes, at: 0 };
    let header = reader.take(12)?;
    let wanted = format!("{}.", name.to_ascii_lowercase()).into_bytes();
    let two = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let asked = two(0) == id && header[2] & 0xf8 == 0x80 && two(4) == 1;
    if !asked || reader.name()? != wanted {
        return Err(DnsFault::Form);
    }
    if reader.number()? != kind.number() || reader.number()? != CLASS_IN {
        return Err(DnsFault::Form);
    }
    match header[3] & 0x0f {
        0 => {}
        3 => return Err(DnsFault::NoName),
        code => return Err(DnsFault::Code(code)),
    }
    if header[2] & 2 != 0 {
        return Err(DnsFault::Truncated);
    }
    let count = usize::from(two(6));
    if count > MAX_RECORDS {
        return Err(DnsFault::Form);
    }
    let (mut aliases, mut found) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let owner = reader.name()?;
        let (of, class) = (reader.number()?, reader.number()?);
        reader.take(4)?;
        let length = usize::from(reader.number()?);
        let begin = reader.at;
        let data = reader.take(length)?;
        if class != CLASS_IN {
            continue;
        }
        if of == CNAME {
            let mut inner = Reader {
                all: bytes,
                at: begin,
            };
            aliases.push((owner, inner.name()?));
        } else if of == kind.number() {
            found.push((owner, data.to_vec()));
        }
    }
    let mut owner = wanted;
    for _ in 0..MAX_ALIASES {
        match aliases.iter().find(|(from, _)| *from == owner) {
            Some((_, to)) => owner.clone_from(to),
            None => break,
        }
    }
    let ours = found.into_iter().filter(|(of, _)| *of == owner);
    Ok(ours.map(|(_, data)| data).collect())
}

/// The text of a TXT record: its strings, one behind the other (RFC 1035 §3.3.14).
///
/// # Errors
/// If it is none.
pub(crate) fn text(data: &[u8]) -> Result<Vec<u8>, DnsFault> {
    let (mut reader, mut out) = (Reader { all: data, at: 0 }, Vec::new());
    while reader.at < data.len() {
        let length = usize::from(reader.take(1)?[0]);
        out.extend(reader.take(length)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(records: &[(&str, u16, &[u8])]) -> Vec<u8> {
        let mut out = question(7, "a.example", Kind::Txt).unwrap();
        out.truncate(out.len() - 11);
        out[2] = 0x81;
        out[3] = 0x80;
        out[7] = u8::try_from(records.len()).unwrap();
        out[11] = 0;
        for (owner, of, data) in records {
            for label in owner.split('.') {
                out.push(u8::try_from(label.len()).unwrap());
                out.extend(label.as_bytes());
            }
            out.push(0);
            out.extend(of.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(*data);
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, DnsFault> {
        answer(7, "A.example", Kind::Txt, bytes)
    }

    #[test]
    fn answers_are_those_of_the_name_behind_its_aliases() {
        let alias = b"\x01b\x07example\x00";
        let good = response(&[
            ("a.example", CNAME, alias),
            ("b.example", 16, b"\x03one"),
            ("b.example", 16, b"\x03two\x01!"),
            ("c.example", 16, b"\x05other"),
            ("b.example", 1, &[1, 2, 3, 4]),
        ]);
        let texts = read(&good).unwrap();
        let texts: Vec<_> = texts.iter().map(|data| text(data).unwrap()).collect();
        assert_eq!(texts, [b"one".to_vec(), b"two!".to_vec()]);
        // `a.example` by a pointer.
        let mut pointed = response(&[]);
        pointed[7] = 1;
        pointed.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b'x']);
        assert_eq!(read(&pointed), Ok(vec![vec![1, b'x']]));
        for at in 0..good.len() {
            let cut = read(&good[..at]);
            assert!(cut.is_err(), "cut at {at}: {cut:?}");
        }
        assert_eq!(text(b"\x05ab"), Err(DnsFault::Form));
    }

    #[test]
    fn other_answers_are_told() {
        let base = response(&[("a.example", 16, b"\x01x")]);
        let with = |at: usize, value: u8| {
            let mut changed = base.clone();
            changed[at] = value;
            read(&changed)
        };
        for (description, got, wanted) in [
            ("another id", with(1, 8), DnsFault::Form),
            ("a question", with(2, 0x01), DnsFault::Form),
            ("cut off", with(2, 0x83), DnsFault::Truncated),
            ("no such name", with(3, 0x83), DnsFault::NoName),
            ("a failure", with(3, 0x82), DnsFault::Code(2)),
            ("another name", with(13, b'z'), DnsFault::Form),
            ("too many", with(6, 1), DnsFault::Form),
        ] {
            assert_eq!(got, Err(wanted), "{description}");
        }
        let mut looped = response(&[]);
        looped[7] = 1;
        let here = u8::try_from(looped.len()).unwrap();
        looped.extend([0xc0, here]);
        assert_eq!(read(&looped), Err(DnsFault::Form), "a pointer to itself");
        for name in ["", "a..b", &"a".repeat(64), &["a"; 200].join(".")] {
            assert_eq!(question(1, name, Kind::A), Err(DnsFault::Name), "{name}");
        }
    }
}
