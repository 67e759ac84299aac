//! Where a member of a kernel struct lies, from the kernel's own BTF: aya relocates no accesses of Rust programs and keeps
//! its parser's types private.

const MAGIC: u16 = 0xEB9F;
const KIND_STRUCT: u32 = 4;
/// Of a struct's member: name, type, offset.
const MEMBER: usize = 12;

/// Offset in bytes of `member`, not a bit-field, directly in `structure`.
pub(super) fn member_offset(btf: &[u8], structure: &str, member: &str) -> Option<u32> {
    if u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let header = u32_at(btf, 4)? as usize;
    let section = |at| -> Option<&[u8]> {
        let start = header + u32_at(btf, at)? as usize;
        btf.get(start..start + u32_at(btf, at + 4)? as usize)
    };
    let (mut types, strings) = (section(8)?, section(16)?);
    let named = |at: u32, name: &str| {
        strings
            .get(at as usize..)
            .and_then(|s| s.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    };
    while !types.is_empty() {
        let info = u32_at(types, 4)?;
        let kind = info >> 24 & 0x1f;
        let members = types.get(12..12 + extra(kind, info as usize & 0xffff)?)?;
        if kind == KIND_STRUCT && named(u32_at(types, 0)?, structure) {
            let found = members
                .chunks_exact(MEMBER)
                .find(|m| u32_at(m, 0).is_some_and(|name| named(name, member)))?;
            let bits = u32_at(found, 8)?;
            return (bits % 8 == 0).then_some(bits / 8);
        }
        types = &types[12 + members.len()..];
    }
    None
}

/// Bytes after a type's first twelve.
fn extra(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        6 | 13 => 8 * count,
        4 | 5 | 15 | 19 => 12 * count,
        // Unknown, so its length is too.
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_of_this_kernel() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
        for (description, structure, member, found) in [
            ("a member", "tcp_sock", "copied_seq", true),
            ("no such member", "tcp_sock", "copied_se", false),
            ("no such struct", "tcp_soc", "copied_seq", false),
        ] {
            let offset = member_offset(&btf, structure, member);
            assert_eq!(offset.is_some(), found, "{description}: {offset:?}");
        }
        for at in [0, 1, 7, 23, 24, 4000, btf.len() / 2] {
            assert_eq!(member_offset(&btf[..at], "tcp_sock", "copied_seq"), None);
        }
        assert_eq!(member_offset(&btf, "list_head", "next"), Some(0));
        assert_eq!(member_offset(&btf, "list_head", "prev"), Some(8));
    }
}
