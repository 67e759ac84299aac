//! An account that something was given to, which acts by that later and not by a token (ACME's account keys).

use mc_proto::AccountType;
use mcdsl::auth::{ADMIN, Identity};
use serde::{Deserialize, Serialize};
use std::time::UNIX_EPOCH;

/// Who it was given to, as it is stored. Without the role `admin`, since nobody tells when that is taken away: what it may do, rules of the policy say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    id: String,
    name: String,
    system: bool,
    roles: Vec<String>,
    tags: Vec<String>,
}

impl From<&Identity> for Account {
    fn from(identity: &Identity) -> Self {
        let roles = identity.roles.iter().filter(|role| *role != ADMIN);
        Self {
            id: identity.account.clone(),
            name: identity.name.clone(),
            system: identity.account_type == AccountType::System,
            roles: roles.cloned().collect(),
            tags: identity.tags.clone(),
        }
    }
}

impl Account {
    /// Who asks, without a token. What is stored is read back by nobody else, and the role is left out here too.
    pub(crate) fn identity(&self) -> Identity {
        let roles = self.roles.iter().filter(|role| *role != ADMIN);
        Identity {
            account: self.id.clone(),
            name: self.name.clone(),
            account_type: match self.system {
                true => AccountType::System,
                false => AccountType::Human,
            },
            roles: roles.cloned().collect(),
            tags: self.tags.clone(),
            token: String::new(),
            session: String::new(),
            methods: Vec::new(),
            issued: UNIX_EPOCH,
            expires: UNIX_EPOCH,
        }
    }
}
