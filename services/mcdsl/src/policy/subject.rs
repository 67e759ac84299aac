//! Who asks, and what of.

use std::collections::BTreeSet;

use mc_proto::AccountType;

use super::{Name, NameError, ResourceName};
use crate::auth::Identity;

/// Most roles, and most tags, of a subject or a resource: each rule compares them.
pub const MAX_TAGS: usize = 64;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The account's id.
    pub account: Name,
    /// Its name; rules name it by that.
    pub name: Name,
    /// A person or a service.
    pub account_type: AccountType,
    /// Its roles.
    pub roles: BTreeSet<Name>,
    /// Its tags.
    pub tags: BTreeSet<Name>,
}

/// On what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name; of `auth:login`, the service's.
    pub name: ResourceName,
    /// Its tags.
    pub tags: BTreeSet<Name>,
}

/// A subject or a resource that cannot be asked about; it is denied everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// One of its names is none.
    #[error("{field} {value:?} cannot be judged")]
    Name {
        /// Which.
        field: &'static str,
        /// As it came.
        value: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// Over [`MAX_TAGS`].
    #[error("more than {MAX_TAGS} {0} cannot be judged")]
    TooMany(&'static str),
}

impl TryFrom<&Identity> for Subject {
    type Error = SubjectError;

    /// A tag that is no name is no reason to go on without it: a rule could deny by it.
    fn try_from(identity: &Identity) -> Result<Self, SubjectError> {
        Ok(Self {
            account: name("account", &identity.account)?,
            name: name("account name", &identity.name)?,
            account_type: identity.account_type,
            roles: names("role", &identity.roles)?,
            tags: names("tag", &identity.tags)?,
        })
    }
}

impl Resource {
    /// Of a name and the tags that go with it, as a login has (service, tags).
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn tagged(name: ResourceName, tags: &[String]) -> Result<Self, SubjectError> {
        let tags = names("tag", tags)?;
        Ok(Self { name, tags })
    }
}

impl From<ResourceName> for Resource {
    fn from(name: ResourceName) -> Self {
        let tags = BTreeSet::new();
        Self { name, tags }
    }
}

impl AsRef<Self> for Resource {
    fn as_ref(&self) -> &Self {
        self
    }
}

fn name(field: &'static str, text: &str) -> Result<Name, SubjectError> {
    text.parse().map_err(|source| SubjectError::Name {
        field,
        value: text.to_owned(),
        source,
    })
}

fn names(field: &'static str, texts: &[String]) -> Result<BTreeSet<Name>, SubjectError> {
    if texts.len() > MAX_TAGS {
        return Err(SubjectError::TooMany(field));
    }
    texts.iter().map(|text| name(field, text)).collect()
}
