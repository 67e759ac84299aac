//! Heads of requests: how many fields they have, and what they cost. Over HTTP/2 a field is a few bytes on the wire and more than a hundred in
//! memory, and each stream may send a head and never end.

use axum::http::request::Parts;

/// As many as HTTP/1.1 has (hyper's bound): a browser sends about twenty.
pub(super) const MAX_FIELDS: usize = 100;
/// What a field costs beside its bytes.
const FIELD: usize = 128;
/// What a request costs beside its fields: its stream, its task, what goes with it.
const REQUEST: usize = 1024;

/// Bytes that a request takes in memory before anything of its body is there, about.
pub(super) fn cost(request: &Parts) -> usize {
    let fields = request.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
        .sum();
    let target = request.uri.path_and_query();
    REQUEST + fields + target.map_or(0, |target| target.as_str().len())
}

/// Whether there are more fields than a request may have.
pub(super) fn too_many(request: &Parts) -> bool {
    request.headers.len() > MAX_FIELDS
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_field_costs_more_than_its_bytes() {
        for (description, fields, value, wanted, refused) in [
            ("none", 0, "", REQUEST + 2, false),
            ("one", 1, "abc", REQUEST + 2 + 4 + 3 + FIELD, false),
            ("the bound", 100, "", REQUEST + 2 + 100 * (4 + FIELD), false),
            ("one more", 101, "", REQUEST + 2 + 101 * (4 + FIELD), true),
        ] {
            let mut request = Request::builder().uri("/a");
            for number in 0..fields {
                request = request.header(format!("x{number:03}"), value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(cost(&parts), wanted, "{description}");
            assert_eq!(too_many(&parts), refused, "{description}");
        }
    }
}
