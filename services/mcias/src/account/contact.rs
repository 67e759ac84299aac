//! What a person is called and where mail reaches him. It is for services that ask for it (scopes `profile` and `email`), and decides nothing
//! here. Administrators alone say it: there are services that take somebody for whose address he has.

use crate::error::Error;

/// Characters of a display name.
const MAX_NAME: usize = 100;
/// Bytes of an address (RFC 5321 §4.5.3.1.3, without its brackets), and of what is before the `@` (§4.5.3.1.1).
const MAX_ADDRESS: usize = 254;
const MAX_LOCAL: usize = 64;

/// What is asked for, or `None`: it stays. Empty: none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
}

impl Contact {
    /// Of a new account, which has none: what says something.
    pub(crate) fn said(self) -> Self {
        let said = |text: &String| !text.is_empty();
        Self {
            display_name: self.display_name.filter(said),
            email: self.email.filter(said),
        }
    }

    /// Without white space around it.
    ///
    /// # Errors
    /// If it cannot be one, or a system account's.
    pub(crate) fn checked(self, human: bool) -> Result<Self, Error> {
        let said = [&self.display_name, &self.email].into_iter().flatten();
        if !human && said.into_iter().any(|text| !text.is_empty()) {
            return Err(Error::invalid(
                "a system account has neither a display name nor an e-mail address",
            ));
        }
        Ok(Self {
            display_name: self.display_name.as_deref().map(display_name).transpose()?,
            email: self.email.as_deref().map(email).transpose()?,
        })
    }
}

fn display_name(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.chars().count() > MAX_NAME || mcdsl::shown::visible(text) != text {
        return Err(Error::invalid(format!(
            "display_name: at most {MAX_NAME} characters, all of them visible and in one line"
        )));
    }
    Ok(text.to_owned())
}

/// Not all that RFC 5321 has: no quotes, comments, lists or other scripts, which services would read each in its own way.
fn email(text: &str) -> Result<String, Error> {
    let text = text.trim();
    let plain = |b: u8| b.is_ascii_graphic() && !br#"@"(),:;<>[\]"#.contains(&b);
    let is_one = |(local, host): (&str, &str)| {
        !local.is_empty()
            && local.len() <= MAX_LOCAL
            && !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
            && host.split('.').all(|label| !label.is_empty())
            && local.bytes().all(plain)
    };
    let fine = text.is_empty() || text.split_once('@').is_some_and(is_one);
    if !fine || text.len() > MAX_ADDRESS {
        return Err(Error::invalid(
            "email: write one address as ada@example.org, ASCII, without a name or brackets",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_seen_and_addresses_are_one() {
        let long = "n".repeat(MAX_NAME);
        let address = format!(
            "{}@{}",
            "l".repeat(MAX_LOCAL),
            "h".repeat(MAX_ADDRESS - MAX_LOCAL - 1)
        );
        for (description, check, text, kept) in [
            (
                "a name",
                display_name as fn(&str) -> _,
                "Ada Lovelace",
                Some("Ada Lovelace"),
            ),
            ("of another script", display_name, "Ада", Some("Ада")),
            ("with spaces around it", display_name, " Ada ", Some("Ada")),
            ("none", display_name, " ", Some("")),
            ("the longest", display_name, &long, Some(&*long)),
            ("longer", display_name, &format!("{long}n"), None),
            ("two lines", display_name, "Ada\nroot", None),
            ("what turns the text", display_name, "Ada\u{202e}x", None),
            (
                "an address",
                email,
                "ada@example.org",
                Some("ada@example.org"),
            ),
            (
                "a tag, and spaces around it",
                email,
                " ada+x@a-b.example ",
                Some("ada+x@a-b.example"),
            ),
            (
                "of this machine",
                email,
                "ada@localhost",
                Some("ada@localhost"),
            ),
            ("no address", email, "", Some("")),
            ("the longest", email, &address, Some(&*address)),
            ("longer", email, &format!("{address}h"), None),
            ("nothing before the @", email, "@example.org", None),
            ("nothing behind it", email, "ada@", None),
            ("a host that ends in a dot", email, "ada@example.", None),
            ("no @", email, "ada", None),
            ("two", email, "ada@b@example.org", None),
            ("a list", email, "ada@example.org,bob@example.org", None),
            ("a name before it", email, "Ada <ada@example.org>", None),
            (
                "a line more",
                email,
                "ada@example.org\nBcc: bob@example.org",
                None,
            ),
            ("another script", email, "аda@example.org", None),
        ] {
            assert_eq!(check(text).ok().as_deref(), kept, "{description}");
        }
    }

    #[test]
    fn programs_have_neither() {
        let said = |name: &str, email: &str| Contact {
            display_name: Some(name.to_owned()),
            email: Some(email.to_owned()),
        };
        for (description, contact, human, fine) in [
            ("a person", said("Ada", "ada@example.org"), true, true),
            ("nothing of a program", said("", ""), false, true),
            ("a program's name", said("Ada", ""), false, false),
            (
                "a program's address",
                said("", "ada@example.org"),
                false,
                false,
            ),
        ] {
            assert_eq!(contact.checked(human).is_ok(), fine, "{description}");
        }
    }
}
