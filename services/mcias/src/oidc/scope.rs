//! What of an account a client asks to be told.

/// Scopes that mean something here.
pub(super) const ALL: [&str; 5] = ["openid", "profile", "email", "roles", "groups"];

/// Those of a request that mean something, in their own order; `None` if `openid` is not among them. Others are passed over (OpenID
/// Connect Core §3.1.2.1).
pub(super) fn granted(asked: &str) -> Option<String> {
    let has = |name: &&str| asked.split(' ').any(|scope| scope == *name);
    let granted: Vec<&str> = ALL.into_iter().filter(has).collect();
    granted.contains(&"openid").then(|| granted.join(" "))
}

/// Whether one is among those that were granted.
pub(super) fn has(scopes: &str, scope: &str) -> bool {
    scopes.split(' ').any(|name| name == scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words() {
        for (asked, wanted) in [
            ("openid", Some("openid")),
            ("roles openid", Some("openid roles")),
            ("groups openid", Some("openid groups")),
            ("openid email profile x", Some("openid profile email")),
            ("openid openid", Some("openid")),
            ("profile", None),
            ("openidx", None),
            ("OPENID", None),
            ("", None),
        ] {
            assert_eq!(granted(asked).as_deref(), wanted, "{asked:?}");
        }
        assert!(has("openid roles", "roles") && !has("openid roles", "role"));
    }
}
