//! Hostnames against rustls-pki-types, whose names are those that certificates and SNI may have.

use mc_proxy::hostname::{HostPattern, Hostname};
use proptest::prelude::*;
use rustls::pki_types::DnsName;

/// Strings near the rules: label edges, lengths, dots, digits.
fn nearly_names() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[aZ0_.-]{0,12}",
        2 => "([a-z]{60,64}\\.){0,4}[a-z0-9]{0,64}\\.?",
        2 => "([a-z]\\.){120,127}[a-z]{0,2}",
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_same_names_are_taken(text in nearly_names()) {
        let theirs = DnsName::try_from(text.as_str());
        match text.parse::<Hostname>() {
            Ok(name) => {
                prop_assert!(theirs.is_ok() || text.len() == 254, "{text:?} is taken");
                prop_assert_eq!(name.as_str(), text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase());
            }
            Err(e) => prop_assert!(theirs.is_err() || stricter(&text), "{text:?} is refused: {e}"),
        }
    }

    #[test]
    fn a_pattern_is_a_name_behind_a_star(text in nearly_names()) {
        let name = text.parse::<Hostname>();
        prop_assert_eq!(text.parse::<HostPattern>().is_ok(), name.is_ok());
        let pattern = format!("*.{text}").parse::<HostPattern>();
        // "*." needs room for at least one byte more than the parent: 251 bytes are left.
        prop_assert_eq!(pattern.is_ok(), name.as_ref().is_ok_and(|n| n.as_str().len() <= 251));
        if let (Ok(pattern), Ok(name)) = (pattern, name) {
            prop_assert_eq!(pattern.as_str(), format!("*.{name}"));
            let below: Hostname = format!("a.{name}").parse().unwrap();
            let candidate = below.candidates().nth(1);
            prop_assert_eq!(candidate.as_deref(), Some(pattern.as_str()));
        }
    }

    #[test]
    fn candidates_are_patterns_from_the_longest_down(text in crate::wire::names()) {
        let name: Hostname = text.parse().unwrap();
        let candidates: Vec<String> = name.candidates().map(|c| c.into_owned()).collect();
        prop_assert_eq!(candidates.len(), text.split('.').count());
        prop_assert_eq!(&candidates[0], name.as_str());
        for pair in candidates.windows(2) {
            prop_assert!(pair[0].len() >= pair[1].len());
        }
        for candidate in &candidates[1..] {
            prop_assert!(name.as_str().ends_with(candidate.strip_prefix('*').unwrap()));
            let pattern: HostPattern = candidate.parse().unwrap();
            prop_assert_eq!(pattern.as_str(), candidate);
        }
    }
}

/// pki-types takes a leading hyphen in a label, which RFC 952 and RFC 1123 §2.1 do not.
fn stricter(text: &str) -> bool {
    text.split('.').any(|label| label.starts_with('-'))
}
