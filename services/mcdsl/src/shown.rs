//! Text of others as people are shown it: nothing in it that is not seen, turns what is around it, or that a terminal obeys.

use std::fmt::Write as _;

/// Characters of what a client calls itself; the rest is cut.
pub const MAX: usize = 200;
/// Characters that are not seen: format characters (Unicode's category Cf, those of direction among them), separators of lines, and what
/// renderers ignore (`Default_Ignorable_Code_Point`).
const UNSEEN: [(char, char); 29] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    // Nobody knows what a font shows of them.
    ('\u{e000}', '\u{f8ff}'),
    ('\u{f0000}', '\u{ffffd}'),
    ('\u{100000}', '\u{10fffd}'),
];

/// Whether it is seen, as the one that it is.
#[must_use]
pub fn is_seen(c: char) -> bool {
    !c.is_control()
        && !UNSEEN
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&c))
}

/// What is seen of a text, [`MAX`] characters at most, without white space around it.
#[must_use]
pub fn visible(text: &str) -> String {
    let seen: String = text.chars().filter(|c| is_seen(*c)).take(MAX).collect();
    seen.trim().to_owned()
}

/// A text in which everything is seen, what would not be as `\u{202e}`, and a backslash as two, so that nobody can write
/// what is only shown: for a log, which takes nothing away.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            c if is_seen(c) && (c == ' ' || !c.is_whitespace()) => shown.push(c),
            // Writing into a text does not fail.
            c => _ = write!(shown, "{}", c.escape_unicode()),
        }
    }
    shown
}

/// For a line of a terminal, which obeys nothing of it: what is not seen is as `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> String {
    plain(text).replace('\n', r"\u{a}").replace('\t', r"\u{9}")
}

/// The same of several lines, which stay, as do tabs.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if is_seen(c) => shown.push(c),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_named_is_seen_whole() {
        for (named, shown) in [
            ("ada", "ada"),
            ("Zoë", "Zoë"),
            ("a\u{202e}da", "a\\u{202e}da"),
            ("b\nc ü", "b\\u{a}c ü"),
            ("a\\u{202e}", "a\\\\u{202e}"),
            ("a\u{7}", "a\\u{7}"),
        ] {
            assert_eq!(escaped(named), shown);
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(line("a\n\tb\u{1b}"), r"a\u{a}\u{9}b\u{1b}");
        for (text, want) in [
            ("größer\n\tab", "größer\n\tab"),
            ("a\rb", r"a\u{d}b"),
            ("\u{1b}]52;c;cm0=\u{7}", r"\u{1b}]52;c;cm0=\u{7}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{202e}abc", r"\u{202e}abc"),
        ] {
            assert_eq!(plain(text), want);
        }
    }
}
