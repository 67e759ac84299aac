//! Names of keys and variables: how one becomes the other, and which was meant.

/// "mc-proxy" → "MC_PROXY".
pub(super) fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

/// The field whose variable name is `rest`, or its longest prefix that ends at an underscore.
pub(super) fn longest_match(rest: &str, variables: &[String]) -> Option<usize> {
    let matches = |v: &str| {
        rest.strip_prefix(v)
            .is_some_and(|tail| tail.is_empty() || tail.starts_with('_'))
    };
    (0..variables.len())
        .filter(|i| matches(&variables[*i]))
        .max_by_key(|i| variables[*i].len())
}

/// The known name at most two edits away.
pub fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    const FAR: usize = 3;
    let best = known.iter().map(|k| (distance(name, k), k)).min()?;
    (best.0 < FAR).then_some(best.1.as_str())
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
