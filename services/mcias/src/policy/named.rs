//! What rules name: accounts, and services without a pattern. A rule that outlived what it names would be about whatever has that name next.

use mcdsl::policy::Rule;
use rusqlite::Connection;

use super::{Stored, rules};
use crate::{account, error::Error, service};

/// Rules that are told by their names.
const TOLD: usize = 5;

/// What has a name that rules know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Account,
    Service,
}

impl Kind {
    /// The list of a rule that names such.
    fn list(self, rule: &Rule) -> &[String] {
        match self {
            Self::Account => &rule.subjects.accounts,
            Self::Service => &rule.resources,
        }
    }

    fn is_there(self, db: &Connection, name: &str) -> rusqlite::Result<bool> {
        Ok(match self {
            Self::Account => account::by_name(db, name)?.is_some(),
            Self::Service => service::find(db, name)?.is_some(),
        })
    }
}

/// That there is what a rule names. What it named before may be gone since, in a database of an earlier version.
///
/// # Errors
/// If something is not there: what.
pub(super) fn check_there(
    db: &Connection,
    rule: &Stored,
    before: Option<&Stored>,
) -> Result<(), Error> {
    for (kind, field, what) in [
        (Kind::Account, "accounts", "account"),
        (Kind::Service, "services", "service"),
    ] {
        let known = before.map_or(&[][..], |before| kind.list(&before.rule));
        let names = kind.list(&rule.rule).iter();
        for name in names.filter(|name| !name.contains('*') && !known.contains(name)) {
            if !kind.is_there(db, name)? {
                return Err(Error::invalid(format!(
                    "{field}: there is no {what} {name:?}"
                )));
            }
        }
    }
    Ok(())
}

/// That no rule names what is to go.
///
/// # Errors
/// If one does: which, and what to do.
pub(crate) fn check_unnamed(db: &Connection, kind: Kind, name: &str) -> Result<(), Error> {
    let mut naming = rules(db)?;
    naming.retain(|stored| kind.list(&stored.rule).iter().any(|named| named == name));
    let names: Vec<&str> = naming.iter().map(|stored| &*stored.rule.name).collect();
    let (all, them) = match names.as_slice() {
        [] => return Ok(()),
        [one] => (
            format!("the rule {one} of the login policy names {name}"),
            *one,
        ),
        many => {
            let (told, more) = many.split_at(many.len().min(TOLD));
            let more = match more.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let told = told.join(", ");
            let all = format!("the rules {told}{more} of the login policy name {name}");
            (all, "RULE")
        }
    };
    Err(Error::precondition(format!(
        "{all}, and whatever has that name next would inherit it; `mciasctl policy show {them}` says how to change it, \
         `mciasctl policy delete {them}` removes it"
    )))
}
