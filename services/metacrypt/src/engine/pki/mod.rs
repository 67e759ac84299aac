//! The CA: certificates by profiles, and what everybody may know of them.

mod acme;
mod api;
mod constraints;
mod crls;
mod csr;
mod issuer;
mod job;
mod name;
mod ocsp;
mod oid;
mod pem;
mod profile;
mod public;
mod public_key;
mod ready;
mod revocation;
mod serial;
mod signed;
mod store;
mod urls;

use mc_proto::metacrypt::v1::{acme_server::AcmeServer, pki_server::PkiServer};

pub(crate) use self::name::AltName;
use super::{EngineError, Job, Kind};
use crate::barrier::Items;

/// What may be done.
pub(crate) mod action {
    actions! {
        ALL:
        // Judged on `issuers/<name>`; of one below a root on `issuers/<root>` too.
        CREATE_ISSUER = "pki:create-issuer",
        UPDATE_ISSUER = "pki:update-issuer",
        DELETE_ISSUER = "pki:delete-issuer",
        // On `default`.
        SET_DEFAULT = "pki:set-default",
        // On `urls`.
        SET_URLS = "pki:set-urls",
        // On `profiles/<name>`, and on `issuers/<name>` of the issuer that it names.
        PUT_PROFILE = "pki:put-profile",
        DELETE_PROFILE = "pki:delete-profile",
        // On `profiles/<name>`, also of what is found by its serial number.
        ISSUE = "pki:issue",
        SIGN = "pki:sign",
        RENEW = "pki:renew",
        REVOKE = "pki:revoke",
        // On `acme`.
        SET_ACME = "pki:set-acme",
        // On `acme`: a key of one's own.
        CREATE_ACME_KEY = "pki:create-acme-key",
        // On `acme/keys/<id>`, of others.
        DELETE_ACME_KEY = "pki:delete-acme-key",
        // On whatever is read.
        READ = "pki:read",
    }
}

/// What certificates of a profile are made by.
const CERTIFYING: &[super::Act] = &[action::ISSUE, action::SIGN, action::RENEW];
/// About how many microseconds of a processor it takes, at least, to make and sign something, and to check that.
const COST_US: usize = 300;
/// Where issuers are, and profiles, for stores and rules.
const ISSUERS: &str = "issuers";
const PROFILES: &str = "profiles";
const CERTIFICATES: &str = "certificates";
const DEFAULT: &str = "default";
const URLS: &str = "urls";
const ACME: &str = "acme";

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "pki",
    description: "issues certificates by profiles, and tells everybody which are revoked",
    actions: action::ALL,
    routes: |routes, api| {
        routes
            .add_service(PkiServer::new(api.clone()))
            .add_service(AcmeServer::new(api.clone()))
    },
    http: |api| public::routes(api).merge(acme::routes(api)),
    public: public::signed,
    keeps: kept,
    job: Some(Job {
        name: job::NAME,
        every: job::EVERY,
        run: job::run,
    }),
};

/// A mount that has a CA is not removed by a slip of the pen.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    let names = items.names("issuers/", "", 1)?;
    let first = names.first().and_then(|path| path.rsplit('/').next());
    Ok(first.map(|name| format!("the CA {name:?}, and perhaps others")))
}

/// The name of an issuer or a profile: it is part of addresses.
fn item_name(field: &str, name: &str) -> Result<(), EngineError> {
    if is_item_name(name) {
        return Ok(());
    }
    let why = format!("1 to {MAX_ITEM_NAME} small letters, digits and `-`");
    Err(EngineError::field(field, why))
}

const MAX_ITEM_NAME: usize = 64;

fn is_item_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_ITEM_NAME).contains(&name.len()) && name.bytes().all(letter)
}
