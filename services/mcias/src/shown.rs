//! What clients call themselves, and other text of theirs, as people are shown it: bounded, and nothing in it that is not seen or turns
//! what is around it.

use std::fmt::Write as _;

/// Characters of what a client calls itself; the rest is cut.
pub(crate) const MAX: usize = 200;
/// Characters of a product that is not known.
const MAX_PRODUCT: usize = 40;

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

fn is_seen(c: char) -> bool {
    !c.is_control()
        && !UNSEEN
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&c))
}

/// What is seen of a text, [`MAX`] characters at most, without white space around it.
pub(crate) fn visible(text: &str) -> String {
    let seen: String = text.chars().filter(|c| is_seen(*c)).take(MAX).collect();
    seen.trim().to_owned()
}

/// A text in which everything is seen, what would not be as `\u{202e}`, and a backslash as two, so that nobody can write
/// what is only shown: for a log, which takes nothing away.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            c if is_seen(c) => shown.push(c),
            // Writing into a text does not fail.
            c => _ = write!(shown, "{}", c.escape_unicode()),
        }
    }
    shown
}

/// Browsers by the product that they alone name; first those that name others' as well.
const BROWSERS: [(&str, &str); 12] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chromium"),
    ("HeadlessChrome/", "Chromium"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chromium"),
    // Of Safari that is the version; the number behind its name is the engine's.
    ("Version/", "Safari"),
];

/// Systems by what is between the brackets; first those that name others' as well.
const SYSTEMS: [(&str, &str); 10] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("OpenBSD", "OpenBSD"),
    ("FreeBSD", "FreeBSD"),
    ("NetBSD", "NetBSD"),
    ("Linux", "Linux"),
];

/// What a client calls itself, as its owner knows it again: a browser and its system if that is a browser's `User-Agent` (RFC 9110
/// §10.1.5), of another product its name, and else what it says. It names what is to be told apart and proves nothing.
pub(crate) fn device(text: &str) -> String {
    let text = visible(text);
    let first = text.split(' ').next().unwrap_or_default();
    let Some((product, _)) = first.split_once('/') else {
        return text;
    };
    match product {
        "Mozilla" => browser(&text).unwrap_or_else(|| "A browser".to_owned()),
        "curl" | "Wget" | "okhttp" => product.to_owned(),
        _ => first.chars().take(MAX_PRODUCT).collect(),
    }
}

fn browser(text: &str) -> Option<String> {
    let (name, rest) = BROWSERS.iter().find_map(|(product, name)| {
        let (before, rest) = text.split_once(product)?;
        // A product begins a word, so that `XChrome/` is none.
        before.ends_with(' ').then_some((*name, rest))
    })?;
    let version: String = rest
        .chars()
        .take_while(char::is_ascii_digit)
        .take(4)
        .collect();
    let mut shown = name.to_owned();
    if !version.is_empty() {
        shown += &format!(" {version}");
    }
    let system = text.split(['(', ')']).nth(1).unwrap_or_default();
    if let Some((_, system)) = SYSTEMS.iter().find(|(part, _)| system.contains(part)) {
        shown += &format!(" on {system}");
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_its_owner_knows_it() {
        let long = format!("Bot/{}", "x".repeat(1000));
        for (description, text, shown) in [
            (
                "Chromium",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                "Chromium 131 on Linux",
            ),
            (
                "Edge, which names Chrome",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
                "Edge 131 on Windows",
            ),
            (
                "Firefox",
                "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0",
                "Firefox 132 on Android",
            ),
            (
                "without a version",
                "Mozilla/5.0 (Android 14; Mobile) Gecko Firefox/",
                "Firefox on Android",
            ),
            (
                "Android, which names Linux",
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
                "Chromium 131 on Android",
            ),
            (
                "Safari, by its own version",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari 17 on iPhone",
            ),
            (
                "a Mac",
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
                "Safari 17 on macOS",
            ),
            ("no browser that is known", "Mozilla/5.0 (X)", "A browser"),
            (
                "a part of a word",
                "Mozilla/5.0 (X) NotChrome/1",
                "A browser",
            ),
            ("a program of ours", "mciasctl on desk", "mciasctl on desk"),
            ("a name", "Ada's phone", "Ada's phone"),
            ("curl", "curl/8.5.0", "curl"),
            ("another product", "Backup/2.1 (x; y) lib/3", "Backup/2.1"),
            ("a long product", &long, &long[..MAX_PRODUCT]),
            ("nothing", "", ""),
            ("nothing that is seen", " \u{200b}\u{2066}\u{3164}", ""),
            (
                "one that reads from right to left",
                "desk\u{202e}gpj.exe",
                "deskgpj.exe",
            ),
            ("an isolate", "\u{2068}desk\u{2069}", "desk"),
            ("tags", "desk\u{e0041}\u{e007f}", "desk"),
            (
                "lines and controls",
                "a\nb\u{1b}[31m\u{2028}c\u{85}",
                "ab[31mc",
            ),
            ("other scripts", "телефон 電話", "телефон 電話"),
        ] {
            assert_eq!(device(text), shown, "{description}");
        }
        assert_eq!(visible(&"ü".repeat(1000)).chars().count(), MAX, "bounded");
        assert_eq!(device(&"ü".repeat(1000)).chars().count(), MAX, "bounded");
    }

    #[test]
    fn a_log_shows_what_is_there() {
        for (description, text, shown) in [
            ("unseen", "a\u{202e}b\nc ü", "a\\u{202e}b\\u{a}c ü"),
            ("as if unseen", "a\\u{202e}b", "a\\\\u{202e}b"),
        ] {
            assert_eq!(escaped(text), shown, "{description}");
        }
    }
}
