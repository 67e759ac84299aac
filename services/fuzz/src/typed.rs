//! What people type: recovery codes; and what clients call themselves.

#[path = "../../mcias/src/shown.rs"]
mod device;
#[path = "../../mcias/src/readable.rs"]
mod readable;

use readable::{normalised, written};

use crate::shown;

/// However a code is typed, it is the one that was made; and none of two that were made is typed as the other.
pub fn code(made: &[u8], typing: &[u8]) {
    let (text, plain) = (written(made), normalised(&written(made)));
    assert_eq!(plain.len(), made.len());
    let mut typed = String::new();
    for (i, c) in text.chars().enumerate() {
        let how = typing.get(i % typing.len().max(1)).copied().unwrap_or(0);
        match (c, how & 7) {
            ('-', 0) => {}
            ('-', 1) => typed.push(' '),
            ('0', 2) => typed.push('o'),
            ('0', 3) => typed.push('O'),
            ('1', 2) => typed.push('l'),
            ('1', 3) => typed.push('I'),
            (c, 4) => typed.extend(c.to_uppercase()),
            (c, 5) => typed.extend(['-', c, '\u{a0}']),
            (c, _) => typed.push(c),
        }
    }
    assert_eq!(normalised(&typed), plain, "{typed:?}");
    assert_eq!(normalised(&plain), plain);
    if let Some((last, rest)) = made.split_last() {
        let other = [rest, &[last ^ 1]].concat();
        assert_ne!(normalised(&written(&other)), plain);
    }
}

/// However a client calls itself, people are shown something short, of which all is seen.
pub fn name(text: &str) {
    let seen = shown::visible(text);
    assert_eq!(shown::visible(&seen), seen);
    let named = device::device(text);
    assert_eq!(shown::visible(&named), named.trim());
    for shown in [&seen, &named] {
        assert!(shown.chars().count() <= shown::MAX, "{shown:?}");
    }
    let escaped = shown::escaped(text);
    for line in [escaped, shown::line(text)] {
        assert!(line.chars().all(shown::is_seen), "{line:?}");
        assert_eq!(shown::line(&line), line);
    }
    let plain = shown::plain(text);
    assert!(
        plain.replace(['\n', '\t'], "").chars().all(shown::is_seen),
        "{plain:?}"
    );
}
