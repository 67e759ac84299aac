//! Services that tokens may be for.

pub(crate) mod change;

use mc_proto::mcias::v1::Service as Message;
use mcdsl::policy::Name;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    account::{MAX_TAGS, json, to_json},
    error::Error,
    name::{AccountName, Tag},
    random, redirect,
};

/// Services there may be.
const MAX_SERVICES: i64 = 1000;
/// Addresses of a service.
const MAX_URIS: usize = 16;
/// Bytes of a comment.
pub(crate) const MAX_COMMENT: usize = 500;

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) post_logout_redirect_uris: Vec<String>,
    pub(crate) public_client: bool,
    /// SHA-256 of the client's secret.
    pub(crate) secret: Option<[u8; 32]>,
    pub(crate) comment: String,
}

impl Service {
    /// Whether it logs people in by OpenID Connect.
    pub(crate) fn is_client(&self) -> bool {
        !self.redirect_uris.is_empty()
    }
}

const SELECT: &str = "SELECT name, tags, redirect_uris, post_logout_redirect_uris, public_client, secret, comment FROM service";

fn service(row: &Row<'_>) -> rusqlite::Result<Service> {
    Ok(Service {
        name: row.get(0)?,
        tags: json(row, 1)?,
        redirect_uris: json(row, 2)?,
        post_logout_redirect_uris: json(row, 3)?,
        public_client: row.get(4)?,
        secret: row.get(5)?,
        comment: row.get(6)?,
    })
}

/// The service of that name.
///
/// # Errors
/// If there is none.
pub(crate) fn named(db: &Connection, name: &str) -> Result<Service, Error> {
    find(db, name)?.ok_or_else(|| Error::not_found("service", name))
}

/// The service of that name.
pub(crate) fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<Service>> {
    let sql = format!("{SELECT} WHERE name = ?1");
    db.prepare_cached(&sql)?
        .query_row([name], service)
        .optional()
}

/// All, by name.
pub(crate) fn list(db: &Connection) -> rusqlite::Result<Vec<Service>> {
    let sql = format!("{SELECT} ORDER BY name");
    db.prepare_cached(&sql)?.query_map([], service)?.collect()
}

/// Adds or replaces one. A confidential client gets a secret if it has none or `new_secret`; the secret is given.
///
/// # Errors
/// If there are too many.
pub(crate) fn put(
    tx: &Transaction<'_>,
    mut service: Service,
    new_secret: bool,
) -> Result<(Service, Option<String>), Error> {
    if service.name == crate::SERVICE
        && (service.public_client || !service.redirect_uris.is_empty())
    {
        return Err(Error::invalid(format!(
            "redirect_uris, public_client: {} is this service, and no client of itself",
            crate::SERVICE
        )));
    }
    let before = find(tx, &service.name)?;
    let count: i64 = tx.query_row("SELECT count(*) FROM service", [], |row| row.get(0))?;
    if before.is_none() && count >= MAX_SERVICES {
        return Err(Error::precondition(format!(
            "there are {MAX_SERVICES} services, and no more can be"
        )));
    }
    service.secret = before.and_then(|before| before.secret);
    let mut secret = None;
    if service.public_client || service.redirect_uris.is_empty() {
        service.secret = None;
    } else if new_secret || service.secret.is_none() {
        let new = random::readable::<50>()?;
        service.secret = Some(random::hash(&["client", &new]));
        secret = Some(new);
    }
    tx.execute(
        "INSERT OR REPLACE INTO service (name, tags, redirect_uris, post_logout_redirect_uris, public_client, secret, comment)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            service.name,
            to_json(&service.tags),
            to_json(&service.redirect_uris),
            to_json(&service.post_logout_redirect_uris),
            service.public_client,
            service.secret,
            service.comment
        ],
    )?;
    Ok((service, secret))
}

/// Takes one away.
///
/// # Errors
/// If there is none, it is MCIAS itself, or tokens of system accounts are for it.
pub(crate) fn delete(tx: &Transaction<'_>, name: &str) -> Result<(), Error> {
    if name == crate::SERVICE {
        return Err(Error::precondition(format!(
            "{name} is this service; nobody could log in to it any more"
        )));
    }
    let sql = "SELECT count(*) FROM token, json_each(token.services) WHERE NOT revoked AND json_each.value = ?1";
    let tokens: i64 = tx.query_row(sql, [name], |row| row.get(0))?;
    if tokens > 0 {
        return Err(Error::precondition(format!(
            "{tokens} valid tokens of system accounts are for {name}; revoke them first"
        )));
    }
    match tx.execute("DELETE FROM service WHERE name = ?1", [name])? {
        0 => named(tx, name).map(drop),
        _ => Ok(()),
    }
}

/// From what a client sent.
///
/// # Errors
/// What is wrong in it.
pub(crate) fn parse(message: Message) -> Result<Service, Error> {
    let Message {
        name,
        tags,
        redirect_uris,
        post_logout_redirect_uris,
        public_client,
        comment,
        // Told, not taken.
        issuer: _,
    } = message;
    // A name that accounts could have is one that the policy's patterns and tokens' lists take as it is.
    let parsed = name.parse::<AccountName>().ok();
    if parsed.is_none() || name.parse::<Name>().is_err() {
        let name: String = name.chars().take(65).collect();
        return Err(Error::invalid(format!(
            "name {name:?} is none of a service: 1 to 64 small letters, digits, `.`, `-` and `_`, beginning with a letter or a digit"
        )));
    }
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid(format!("more than {MAX_TAGS} tags")));
    }
    for tag in &tags {
        tag.parse::<Tag>()?;
    }
    for (field, uris) in [
        ("redirect_uris", &redirect_uris),
        ("post_logout_redirect_uris", &post_logout_redirect_uris),
    ] {
        if uris.len() > MAX_URIS {
            return Err(Error::invalid(format!("{field}: more than {MAX_URIS}")));
        }
        for uri in uris {
            redirect::check(uri).map_err(|why| {
                let uri: String = uri.chars().take(redirect::MAX).collect();
                Error::invalid(format!("{field}: {uri:?} {why}"))
            })?;
        }
    }
    if comment.len() > MAX_COMMENT {
        return Err(Error::invalid(format!(
            "comment: longer than {MAX_COMMENT} bytes"
        )));
    }
    Ok(Service {
        name,
        tags,
        redirect_uris,
        post_logout_redirect_uris,
        public_client,
        secret: None,
        comment,
    })
}

/// As clients read it; `issuer` is this service's, for those that are clients of OpenID Connect.
pub(crate) fn message(service: Service, issuer: &str) -> Message {
    Message {
        issuer: match service.is_client() {
            true => issuer.to_owned(),
            false => String::new(),
        },
        name: service.name,
        tags: service.tags,
        redirect_uris: service.redirect_uris,
        post_logout_redirect_uris: service.post_logout_redirect_uris,
        public_client: service.public_client,
        comment: service.comment,
    }
}
