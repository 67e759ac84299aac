//! Messages are the API's as well, which puts names in backticks: pages show those as code.

/// The parts of a text, in order, and whether each is code. A backtick without another one is text.
pub(super) fn marked(text: &str) -> Vec<(bool, &str)> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('`')
        && let Some((code, after)) = after.split_once('`')
    {
        parts.extend([(false, before), (true, code)]);
        rest = after;
    }
    parts.push((false, rest));
    parts.retain(|(_, part)| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_backticks_is_code() {
        for (description, text, parts) in [
            ("nothing", "", &[][..]),
            ("text", "a b", &[(false, "a b")]),
            ("code", "`a`", &[(true, "a")]),
            (
                "code in text",
                "a `b` c",
                &[(false, "a "), (true, "b"), (false, " c")],
            ),
            ("twice", "`a``b`", &[(true, "a"), (true, "b")]),
            (
                "an odd one",
                "a `b` `c",
                &[(false, "a "), (true, "b"), (false, " `c")],
            ),
            ("one", "`", &[(false, "`")]),
            ("nothing in it", "a``b", &[(false, "a"), (false, "b")]),
        ] {
            assert_eq!(marked(text), parts, "{description}");
        }
    }
}
