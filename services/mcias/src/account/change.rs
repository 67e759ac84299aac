//! What administrators do to accounts, by whichever way they ask for it.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use mc_proto::AccountType;
use rusqlite::params;

use super::{
    Account, MAX_TAGS, New, Status, by_id, contact::Contact, create, named, remove_factors,
    set_contact, set_password, set_roles, set_tags,
};
use crate::{
    by::By,
    core::{Change, Mcias},
    error::Error,
    gate,
    name::{AccountName, Role, Tag},
    password::new_password,
    policy::{
        self, LoginPolicy,
        ended::{Was, end_denied},
        named::{Kind, check_unnamed},
    },
    session,
};

/// An account that is asked for.
pub(crate) struct NewAccount {
    pub(crate) name: String,
    pub(crate) contact: Contact,
    pub(crate) account_type: AccountType,
    pub(crate) roles: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) second_factor_required: bool,
    /// Of a person; empty: one is made, and has to be changed at the first login.
    pub(crate) password: String,
}

/// What of an account is to be otherwise; `None`: it stays.
#[derive(Default)]
pub(crate) struct Update {
    pub(crate) name: String,
    pub(crate) contact: Contact,
    pub(crate) status: Option<Status>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) second_factor_required: Option<bool>,
}

impl Update {
    /// Whether it revokes the tokens of the account as it is now: they say what it was, and one that says too much is valid no more. Tags may
    /// deny, so that any change of them counts.
    pub(crate) fn revokes(&self, now: &Account) -> bool {
        let inactive = self.status.unwrap_or(now.status) != Status::Active;
        let lost = |roles: &Vec<String>| now.roles.iter().any(|role| !roles.contains(role));
        let other = |tags: &Vec<String>| {
            let sets = [tags, &now.tags].map(|tags| tags.iter().collect::<BTreeSet<_>>());
            sets[0] != sets[1]
        };
        inactive
            || self.roles.as_ref().is_some_and(lost)
            || self.tags.as_ref().is_some_and(other)
            || (self.second_factor_required == Some(true) && !now.second_factor_required)
    }
}

impl Mcias {
    /// Makes an account, and gives the password that was made for it.
    ///
    /// # Errors
    /// What is wrong in it, or that the name is taken.
    pub(crate) async fn create_account(
        self: &Arc<Self>,
        by: &By,
        asked: NewAccount,
    ) -> Result<(Account, Option<String>), Error> {
        by.about(&asked.name);
        let name: AccountName = asked.name.parse()?;
        let roles = roles(&asked.roles)?;
        let tags = tags(&asked.tags)?;
        let account_type = asked.account_type;
        let human = account_type == AccountType::Human;
        let contact = asked.contact.checked(human)?.said();
        if !human && (!asked.password.is_empty() || asked.second_factor_required) {
            return Err(Error::invalid(
                "a system account has neither a password nor second factors; issue it a token",
            ));
        }
        let generated = match (human, asked.password.is_empty()) {
            (true, true) => Some(new_password()?),
            _ => None,
        };
        let hash = if let Some(password) = &generated {
            Some((self.passwords.hash(password.clone()).await?, true))
        } else if human {
            self.check_strength(&asked.password, name.as_str()).await?;
            Some((self.passwords.hash(asked.password).await?, false))
        } else {
            None
        };
        let write = move |change: &mut Change<'_>| {
            name.as_str().clone_into(&mut change.resource);
            change.note(|detail| detail.list("roles", roles.iter().map(|role| role.as_str())));
            note_contact(change, &contact);
            let new = New {
                name: &name,
                account_type,
                roles: &roles,
                tags: &tags,
                second_factor_required: asked.second_factor_required,
                password: hash.as_ref().map(|(hash, expired)| (&**hash, *expired)),
            };
            let made = create(change.tx, &new, change.now)?;
            set_contact(change.tx, &made.id, &contact)?;
            by_id(change.tx, &made.id)?.ok_or(Error::Internal("a new account is gone"))
        };
        Ok((self.write(by, write).await?, generated))
    }

    /// Changes an account, and revokes its tokens where they would say too much. How many logins ended, by that or since the policy lets it in
    /// no more.
    ///
    /// # Errors
    /// If there is none, or no administrator could log in any more.
    pub(crate) async fn update_account(
        self: &Arc<Self>,
        by: &By,
        asked: Update,
    ) -> Result<(Account, u64), Error> {
        by.about(&asked.name);
        let new_roles = asked.roles.as_deref().map(roles).transpose()?;
        let new_tags = asked.tags.as_deref().map(tags).transpose()?;
        let write = move |change: &mut Change<'_>| {
            let before = about(change, &asked.name)?;
            let (tx, id) = (change.tx, &before.id);
            if let Some(status) = asked.status {
                let sql = "UPDATE account SET status = ?2 WHERE id = ?1";
                tx.execute(sql, [id, status.as_str()])?;
                change.note(|detail| detail.text("status", status.as_str()));
            }
            if let Some(roles) = &new_roles {
                set_roles(tx, id, roles)?;
                change.note(|detail| detail.list("roles", roles.iter().map(|role| role.as_str())));
            }
            if let Some(tags) = &new_tags {
                set_tags(tx, id, tags)?;
                change.note(|detail| detail.list("tags", tags.iter().map(Tag::as_str)));
            }
            let contact = asked.contact.clone().checked(before.is_human())?;
            set_contact(tx, id, &contact)?;
            note_contact(change, &contact);
            if let Some(required) = asked.second_factor_required {
                if !before.is_human() {
                    return Err(Error::invalid(
                        "second_factor_required: a system account has none",
                    ));
                }
                let sql = "UPDATE account SET second_factor_required = ?2 WHERE id = ?1";
                tx.execute(sql, params![id, required])?;
                change.note(|detail| detail.flag("second_factor_required", required));
            }
            policy::check_admin_left(tx)?;
            let after = by_id(tx, id)?.ok_or(Error::Internal("an account is gone"))?;
            let ended = if asked.revokes(&before) {
                let ended = session::sessions(tx, id, change.now)?.len() as u64;
                change.revoke_account(id)?;
                change.note(|detail| detail.number("ended_logins", ended.cast_signed()));
                ended
            } else if new_roles.is_some() {
                let policy = LoginPolicy::load(tx)?;
                end_denied(change, &policy, &Was::Account(&before))?
            } else {
                0
            };
            Ok((after, ended))
        };
        self.write(by, write).await
    }

    /// Removes an account with all that is its own.
    ///
    /// # Errors
    /// If there is none, a rule names it, or no administrator could log in any more.
    pub(crate) async fn delete_account(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<(), Error> {
        let delete = move |change: &mut Change<'_>| {
            let account = about(change, &name)?;
            check_unnamed(change.tx, Kind::Account, &account.name)?;
            change.revoke_account(&account.id)?;
            let sql = "DELETE FROM account WHERE id = ?1";
            change.tx.execute(sql, [&account.id])?;
            policy::check_admin_left(change.tx)
        };
        self.write(by, delete).await
    }

    /// Gives a person a new password, which has to be changed at the next login, and ends all logins.
    ///
    /// # Errors
    /// If there is none, or it is a system account.
    pub(crate) async fn reset_password(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<String, Error> {
        let password = new_password()?;
        let hash = self.passwords.hash(password.clone()).await?;
        let write = move |change: &mut Change<'_>| {
            let account = person(about(change, &name)?)?;
            set_password(change.tx, &account.id, &hash, true, change.now)?;
            gate::open(change.tx, &account.name)?;
            change.revoke_account(&account.id)
        };
        self.write(by, write).await?;
        Ok(password)
    }

    /// Takes all second factors of a person away, who has lost them, and ends all logins.
    ///
    /// # Errors
    /// If there is none, it is a system account, or no administrator could log in any more.
    pub(crate) async fn clear_second_factors(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            let account = person(about(change, &name)?)?;
            remove_factors(change.tx, &account.id)?;
            policy::check_admin_left(change.tx)?;
            change.revoke_account(&account.id)
        };
        self.write(by, write).await
    }

    /// Forgets the failed logins of a person, who may try again at once, and gives their number.
    ///
    /// # Errors
    /// If there is none, or it is a system account.
    pub(crate) async fn clear_failed_logins(
        self: &Arc<Self>,
        by: &By,
        name: String,
    ) -> Result<u32, Error> {
        let write = move |change: &mut Change<'_>| {
            let account = person(about(change, &name)?)?;
            let known = gate::failures(change.tx, &account.name, change.now)?;
            let failures = known.iter().map(|place| place.failures).sum::<u32>();
            gate::open(change.tx, &account.name)?;
            change.note(|detail| detail.number("failures", failures.into()));
            Ok(failures)
        };
        self.write(by, write).await
    }

    /// Ends all logins of an account and revokes all its tokens; those of until an instant, if one is given.
    ///
    /// # Errors
    /// If there is none, or the instant is in the future.
    pub(crate) async fn end_logins(
        self: &Arc<Self>,
        by: &By,
        name: String,
        until: Option<SystemTime>,
    ) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            let account = about(change, &name)?;
            match until {
                None => change.revoke_account(&account.id),
                Some(until) => change.revoke_until(Some(&account.id), until),
            }
        };
        self.write(by, write).await
    }

    /// The same of all accounts.
    ///
    /// # Errors
    /// If the instant is in the future.
    pub(crate) async fn revoke_all(
        self: &Arc<Self>,
        by: &By,
        until: Option<SystemTime>,
    ) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            "everything".clone_into(&mut change.resource);
            match until {
                None => change.revoke_everything(),
                Some(until) => change.revoke_until(None, until),
            }
        };
        self.write(by, write).await
    }
}

/// Services may go by it.
fn note_contact(change: &mut Change<'_>, contact: &Contact) {
    let said = [
        ("display_name", &contact.display_name),
        ("email", &contact.email),
    ];
    for (what, text) in said {
        if let Some(text) = text {
            change.note(|detail| detail.text(what, text));
        }
    }
}

/// The account that a change is about.
pub(super) fn about(change: &mut Change<'_>, name: &str) -> Result<Account, Error> {
    name.clone_into(&mut change.resource);
    named(change.tx, name)
}

fn person(account: Account) -> Result<Account, Error> {
    if account.is_human() {
        return Ok(account);
    }
    let name = account.name;
    Err(Error::precondition(format!(
        "{name} is a system account: it has neither a password nor second factors"
    )))
}

fn roles(names: &[String]) -> Result<Vec<Role>, Error> {
    Ok(names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}

fn tags(names: &[String]) -> Result<Vec<Tag>, Error> {
    if names.len() > MAX_TAGS {
        return Err(Error::invalid(format!("tags: more than {MAX_TAGS}")));
    }
    Ok(names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}
