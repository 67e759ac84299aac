//! Whether everybody may log in everywhere: asked of the policy, for there are more ways to write that than anybody would compare.

use std::collections::BTreeSet;

use mc_proto::AccountType;
use mcdsl::policy::{Name, Resource, ResourceName, Subject};
use rusqlite::Connection;

use super::{LoginPolicy, resource};
use crate::{error::Error, random, service};

/// The field that says that it is meant.
const MEANT: &str = "allow_everybody";

/// Who may log in to every service, of people whom nobody has given anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    guests: bool,
    without_role: bool,
}

/// Refuses that everybody may log in everywhere, and could not before.
///
/// # Errors
/// If so: who, and the field that says that it is meant.
pub(super) fn check(
    db: &Connection,
    before: &LoginPolicy,
    after: &LoginPolicy,
) -> Result<(), Error> {
    let services = services(db)?;
    let (was, is) = (Open::by(before, &services)?, Open::by(after, &services)?);
    let who = match (
        is.guests && !was.guests,
        is.without_role && !was.without_role,
    ) {
        (false, false) => return Ok(()),
        (true, true) => "everybody, guests included,",
        (true, false) => "every guest",
        (false, true) => "everybody without a role",
    };
    let what = format!("{who} may log in to every service then");
    Err(Error::unmeant(what, MEANT))
}

/// All there are, and before them some that there are not: a list of all is not everywhere, and most policies say no to these.
fn services(db: &Connection) -> Result<Vec<Resource>, Error> {
    let mut all = Vec::new();
    // A pattern of how names begin or end does not cover both.
    for end in ["a", "z"] {
        let name = format!("{end}{}{end}", random::id()?);
        let name: ResourceName = name.parse().map_err(|_| Error::Internal("no name"))?;
        all.push(Resource::from(name));
    }
    for service in service::list(db)? {
        all.push(resource(&service)?);
    }
    Ok(all)
}

impl Open {
    fn by(policy: &LoginPolicy, services: &[Resource]) -> Result<Self, Error> {
        // Which nobody has.
        let name = random::id()?;
        let name: Name = name.parse().map_err(|_| Error::Internal("no name"))?;
        let mut somebody = Subject {
            account: name.clone(),
            name,
            account_type: AccountType::Human,
            roles: BTreeSet::new(),
            tags: BTreeSet::new(),
        };
        let everywhere = |who: &Subject| {
            let mut services = services.iter();
            services.all(|service| policy.answer(who, service).allowed)
        };
        let without_role = everywhere(&somebody);
        let guest = "guest".parse().map_err(|_| Error::Internal("no role"))?;
        somebody.roles.insert(guest);
        Ok(Self {
            guests: everywhere(&somebody),
            without_role,
        })
    }
}
