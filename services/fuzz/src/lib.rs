//! What reads hostile bytes, without the services around it: the modules themselves, under the names that they know one another by, so that
//! neither SQLite nor gRPC is built for it. A module whose functions are its service's own has its properties beside it here (`head`, `oidc`, `pki`, `rest`,
//! `shares`, `ssh`, `transit`, `typed`, `web`); those of the others are in their targets.

#![expect(dead_code, reason = "of the modules no target uses all")]

extern crate self as mc_proto;
extern crate self as mcdsl;

pub mod head;
pub mod oidc;
pub mod pki;
pub mod rest;
pub mod shares;
pub mod ssh;
pub mod transit;
pub mod typed;
pub mod web;

#[path = "../../proto/src/method.rs"]
mod method;
pub use method::{Access, AccountType, Level, Method, Rest};

/// Tokens; not the client that asks for keys and revocations.
#[path = "../../mcdsl/src/auth"]
pub mod auth {
    pub mod id_token;
    mod identity;
    pub mod token;

    pub use identity::{ADMIN, AuthError, Identity};
    pub(crate) use identity::{ELSEWHERE, EXPIRED};
}

/// Archives; not the snapshot of a database.
#[path = "../../mcdsl/src/archive"]
pub mod archive {
    mod form;
    mod read;
    mod write;

    pub use self::{
        form::{ArchiveError, Listed, MANIFEST, MAX_FILES, MAX_NAME, Manifest, Source},
        read::read,
        write::{files_of, write},
    };
}

/// What Metacrypt's engines check alike.
#[path = "../../metacrypt/src/engine"]
pub mod engine {
    mod edwards;

    pub(crate) use edwards::is_ed25519;
}

#[path = "../../mcias/src/breached.rs"]
pub mod breached;
#[path = "../../mcdsl/src/cidr.rs"]
pub mod cidr;
#[path = "../../mcdsl/src/clock.rs"]
pub mod clock;
#[path = "../../mcdsl/src/files.rs"]
pub mod files;
#[path = "../../mcdsl/src/hostname.rs"]
pub mod hostname;
#[path = "../../mcdsl/src/human.rs"]
pub mod human;
#[path = "../../mcias/src/name.rs"]
pub mod name;
#[path = "../../mcdsl/src/policy/mod.rs"]
pub mod policy;
#[path = "../../mcias/src/seal.rs"]
pub mod seal;
#[path = "../../mcdsl/src/shown.rs"]
pub mod shown;
#[path = "../../mcias/src/totp.rs"]
pub mod totp;
