//! The login policy: which people may log in to which services, by the engine that all services share. System accounts do not log in:
//! an administrator gives each of their tokens by hand, for services that he names.

pub(crate) mod change;
pub(crate) mod ended;
mod everybody;
pub(crate) mod explain;
mod log;
pub(crate) mod named;

use std::collections::HashSet;

use mc_proto::{AccountType, mcias::v1::Rule as Message};
use mcdsl::{
    auth::token::type_name,
    policy::{
        Action, Effect, Explanation, Part, Policy, PolicyError, PolicySet, Resource, ResourceName,
        Rule, Subject, Subjects,
    },
};
use rusqlite::{Connection, Row, Transaction, params};

use crate::{
    account::{self, Account},
    error::Error,
    service::{self, Service},
};

/// What rules are asked about.
const ACTION: &str = "auth:login";

/// The policy in force.
pub(crate) struct LoginPolicy {
    set: PolicySet,
    action: Action,
    /// Rules that ask for a second factor of those whom they match.
    second_factor: HashSet<String>,
}

/// What the policy says of a login.
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// A rule that matches asks for it, whether it decides or not.
    pub(crate) second_factor: bool,
    pub(crate) explanation: Explanation,
}

/// The same without a word of why, for many logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// As [`Verdict::second_factor`].
    pub(crate) second_factor: bool,
}

/// A rule as it is stored.
pub(crate) struct Stored {
    pub(crate) rule: Rule,
    pub(crate) second_factor: bool,
}

impl LoginPolicy {
    /// Of rules.
    ///
    /// # Errors
    /// If one is none: which, and why.
    pub(crate) fn new(rules: Vec<Stored>) -> Result<Self, Error> {
        let asking = rules.iter().filter(|stored| stored.second_factor);
        let second_factor = asking.map(|stored| stored.rule.name.clone()).collect();
        let policy = Policy {
            admin_bypass: false,
            rules: rules.into_iter().map(|stored| stored.rule).collect(),
        };
        let set = PolicySet::compile(&policy)
            .map_err(|e| Error::invalid(mcdsl::cli::chain(&in_our_words(e))))?;
        let action = ACTION.parse();
        Ok(Self {
            set,
            action: action.map_err(|_| Error::Internal("the action is none"))?,
            second_factor,
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// If a rule is none.
    pub(crate) fn load(db: &Connection) -> Result<Self, Error> {
        Self::new(rules(db)?)
    }

    /// The rules' names, in the order in which they are asked.
    pub(crate) fn order(&self) -> impl Iterator<Item = &str> {
        self.set.order().map(|name| name.as_str())
    }

    /// Whether the account may log in to the service.
    ///
    /// # Errors
    /// If a name of one of them is none to the engine.
    pub(crate) fn judge(&self, account: &Account, service: &Service) -> Result<Verdict, Error> {
        let (subject, resource) = (subject(account)?, resource(service)?);
        let explanation = self.set.explain(&subject, &self.action, &resource);
        let second_factor = self
            .matching(&explanation)
            .any(|rule| self.second_factor.contains(rule));
        Ok(Verdict {
            allowed: explanation.decision.effect == Effect::Allow,
            second_factor,
            explanation,
        })
    }

    /// What [`Self::judge`] would say.
    pub(crate) fn answer(&self, who: &Subject, service: &Resource) -> Answer {
        let mut matching = self.set.matching(who, &self.action, service).peekable();
        let decides = matching.peek().map(|(_, effect)| *effect);
        let mut lets_in = matching.filter(|(_, effect)| *effect == Effect::Allow);
        Answer {
            allowed: decides == Some(Effect::Allow),
            second_factor: lets_in.any(|(rule, _)| self.second_factor.contains(rule.as_str())),
        }
    }

    /// The rules that let in whom they match, and that match, whether they decide or not.
    fn matching<'e>(&self, explanation: &'e Explanation) -> impl Iterator<Item = &'e str> {
        let matching = explanation.why.iter().filter(|rule| {
            rule.effect == Effect::Allow && !matches!(rule.part, Part::NoMatch { .. })
        });
        matching.map(|rule| rule.rule.as_str())
    }
}

/// What the engine calls its fields is not what ours are called.
fn in_our_words(mut error: PolicyError) -> PolicyError {
    if let PolicyError::Value { field, .. }
    | PolicyError::Empty { field, .. }
    | PolicyError::TooMany { field, .. } = &mut error
    {
        *field = match *field {
            "resources" => "services",
            "resource_tags" => "service_tags",
            other => other.strip_prefix("subjects.").unwrap_or(other),
        };
    }
    error
}

fn subject(account: &Account) -> Result<Subject, Error> {
    let failed = |e: &dyn std::error::Error| Error::denied(mcdsl::cli::chain(e));
    let name = |text: &String| text.parse().map_err(|e| failed(&e));
    Ok(Subject {
        account: name(&account.id)?,
        name: name(&account.name)?,
        account_type: account.account_type,
        roles: account.roles.iter().map(name).collect::<Result<_, _>>()?,
        tags: account.tags.iter().map(name).collect::<Result<_, _>>()?,
    })
}

fn resource(service: &Service) -> Result<Resource, Error> {
    let unjudged = |e: &dyn std::error::Error| Error::denied(mcdsl::cli::chain(e));
    let name: ResourceName = service.name.parse().map_err(|e| unjudged(&e))?;
    Resource::tagged(name, &service.tags).map_err(|e| unjudged(&e))
}

/// The rule of that name.
///
/// # Errors
/// If it is not what was stored.
pub(crate) fn find(db: &Connection, name: &str) -> Result<Option<Stored>, Error> {
    let sql = "SELECT name, rule, second_factor FROM rule WHERE name = ?1";
    let mut rule = db.prepare_cached(sql)?;
    let mut rows = rule.query([name])?;
    rows.next()?.map(stored).transpose()
}

fn stored(row: &Row<'_>) -> Result<Stored, Error> {
    let name: String = row.get(0)?;
    let text = row.get_ref(1)?;
    let rule = Rule::from_json(&name, text.as_str().map_err(rusqlite::Error::from)?);
    Ok(Stored {
        rule: rule.map_err(|e| Error::precondition(mcdsl::cli::chain(&e)))?,
        second_factor: row.get(2)?,
    })
}

/// All rules, by name.
///
/// # Errors
/// If one is not what was stored.
pub(crate) fn rules(db: &Connection) -> Result<Vec<Stored>, Error> {
    let mut all = db.prepare("SELECT name, rule, second_factor FROM rule ORDER BY name")?;
    let mut rows = all.query([])?;
    let mut rules = Vec::new();
    while let Some(row) = rows.next()? {
        rules.push(stored(row)?);
    }
    Ok(rules)
}

/// Adds a rule or replaces it.
///
/// # Errors
/// If it is none, or would lock all administrators out.
pub(crate) fn put(tx: &Transaction<'_>, stored: &Stored) -> Result<(), Error> {
    insert(tx, stored)?;
    check_admin_left(tx)
}

/// The same, whomever it locks out.
///
/// # Errors
/// If it is none.
pub(crate) fn insert(tx: &Transaction<'_>, stored: &Stored) -> Result<(), Error> {
    let text =
        serde_json::to_string(&stored.rule).map_err(|_| Error::Internal("a rule is no JSON"))?;
    tx.execute(
        "INSERT OR REPLACE INTO rule VALUES (?1, ?2, ?3)",
        params![stored.rule.name, text, stored.second_factor],
    )?;
    Ok(())
}

/// Takes a rule away.
///
/// # Errors
/// If there is none, or all administrators would be locked out.
pub(crate) fn delete(tx: &Transaction<'_>, name: &str) -> Result<(), Error> {
    if tx.execute("DELETE FROM rule WHERE name = ?1", [name])? == 0 {
        return Err(Error::not_found("rule", name));
    }
    check_admin_left(tx)
}

/// After any change of who may log in here: somebody must be left who is an administrator, active, a person with something to log in with,
/// and whom the policy lets log in to this service.
///
/// # Errors
/// If nobody is; the change must then not be committed.
pub(crate) fn check_admin_left(tx: &Transaction<'_>) -> Result<(), Error> {
    let policy = LoginPolicy::load(tx)?;
    let own = service::named(tx, crate::SERVICE)?;
    for admin in account::admins(tx)? {
        if policy.judge(&admin, &own)?.allowed {
            return Ok(());
        }
    }
    Err(Error::precondition(format!(
        "no administrator could log in to {} any more: an active account of a person with the role admin, whom the login policy lets in; \
         make another one first",
        crate::SERVICE
    )))
}

/// From what a client sent.
///
/// # Errors
/// If the engine refuses it.
pub(crate) fn parse(message: Message) -> Result<Stored, Error> {
    let Message {
        name,
        priority,
        deny,
        roles,
        account_types,
        accounts,
        tags,
        services,
        service_tags,
        second_factor,
        comment,
    } = message;
    if deny && second_factor {
        return Err(Error::invalid(
            "second_factor: a rule that denies asks for nothing; leave one of the two out",
        ));
    }
    if account_types
        .iter()
        .any(|name| name != type_name(AccountType::Human))
    {
        return Err(Error::invalid(
            "account_types: only `human` logs in; an administrator issues the tokens of system accounts, and no rule is asked",
        ));
    }
    let anyone = [&roles, &account_types, &accounts, &tags]
        .iter()
        .all(|list| list.is_empty());
    let rule = Rule {
        name,
        description: comment,
        priority,
        effect: if deny { Effect::Deny } else { Effect::Allow },
        subjects: Subjects {
            anyone,
            roles,
            account_types,
            accounts,
            tags,
        },
        actions: vec![ACTION.to_owned()],
        resources: if services.is_empty() {
            vec!["**".to_owned()]
        } else {
            services
        },
        resource_tags: service_tags,
    };
    let stored = Stored {
        rule,
        second_factor,
    };
    // Alone, so that what is wrong is its own.
    LoginPolicy::new(vec![Stored {
        rule: stored.rule.clone(),
        second_factor,
    }])?;
    Ok(stored)
}

/// As clients read it.
pub(crate) fn message(stored: Stored) -> Message {
    let Stored {
        rule,
        second_factor,
    } = stored;
    let everything = ["**".to_owned()];
    Message {
        name: rule.name,
        priority: rule.priority,
        deny: rule.effect == Effect::Deny,
        roles: rule.subjects.roles,
        account_types: rule.subjects.account_types,
        accounts: rule.subjects.accounts,
        tags: rule.subjects.tags,
        services: if rule.resources == everything {
            Vec::new()
        } else {
            rule.resources
        },
        service_tags: rule.resource_tags,
        second_factor,
        comment: rule.description,
    }
}

/// The rules that a new installation has: users and administrators log in everywhere, guests where a rule lets them.
pub(crate) fn first() -> Vec<Stored> {
    let rule = Rule {
        name: "users".to_owned(),
        description: "Users and administrators log in to every service".to_owned(),
        priority: 0,
        effect: Effect::Allow,
        subjects: Subjects {
            roles: vec!["admin".to_owned(), "user".to_owned()],
            account_types: vec![type_name(AccountType::Human).to_owned()],
            ..Subjects::default()
        },
        actions: vec![ACTION.to_owned()],
        resources: vec!["**".to_owned()],
        resource_tags: Vec::new(),
    };
    vec![Stored {
        rule,
        second_factor: false,
    }]
}
