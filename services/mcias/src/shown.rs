//! What clients call themselves, as people are shown it.

use mcdsl::shown::visible;

/// Characters of a product that is not known.
const MAX_PRODUCT: usize = 40;

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
    use mcdsl::shown::MAX;

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
}
