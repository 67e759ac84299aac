//! Rules as they are written (TOML in files, JSON in databases) and as they are compiled.

use std::{collections::BTreeSet, fmt, str::FromStr};

use mc_proto::AccountType;
use serde::{Deserialize, Serialize};

use super::{
    Effect, Mismatch, PolicyError, Resource, Subject,
    glob::Glob,
    name::{Action, Kind, Name, NameError},
};
use crate::auth::token::type_name;

/// Most rules of a set: a decision reads them all at worst, and nobody keeps more in mind.
pub const MAX_RULES: usize = 1024;
/// Most entries of one list of a rule.
pub const MAX_PATTERNS: usize = 64;
/// Longest text of one rule that is parsed, in bytes.
pub const MAX_RULE_TEXT: usize = 64 * 1024;
/// Longest text of a whole policy that is parsed, in bytes.
pub const MAX_POLICY_TEXT: usize = 4 * 1024 * 1024;

/// A policy as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The role `admin` may do everything, whatever the rules say; each decision tells when that was why.
    #[serde(default)]
    pub admin_bypass: bool,
    /// In any order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique in its set.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The highest that matches decides; of equals, a deny.
    #[serde(default)]
    pub priority: i32,
    /// What it decides.
    pub effect: Effect,
    /// Whom it is about.
    pub subjects: Subjects,
    /// Patterns of actions, one of which must match: `pki:issue`, `pki:*`, `**`.
    pub actions: Vec<String>,
    /// Patterns of resources, one of which must match: `pki/infra/*.example.org`, `**`.
    pub resources: Vec<String>,
    /// Tags, all of which the resource must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_tags: Vec<String>,
}

/// Whom a rule is about. Every list that is given must be met: one of `roles`, `account_types` and `accounts`, all of `tags` (one
/// of several is two rules, all of several could not be said otherwise).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
    /// Everybody. Must be said: a list that was forgotten is not everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyone: bool,
    /// One of these roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// `human`, `system`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account_types: Vec<String>,
    /// One of these accounts, by name (`deploy`), or by name and id (`deploy#0b6c…`), which is never that of another account of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// All of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Rule {
    /// From a database's JSON; `what` is what the database calls it, for the error.
    ///
    /// # Errors
    /// [`PolicyError::Json`] or [`PolicyError::TooLong`].
    pub fn from_json(what: &str, text: &str) -> Result<Self, PolicyError> {
        bound(what, text, MAX_RULE_TEXT)?;
        serde_json::from_str(text).map_err(|source| PolicyError::Json {
            what: what.to_owned(),
            source,
        })
    }
}

impl Policy {
    /// From a file's TOML; `what` is the file, for the error.
    ///
    /// # Errors
    /// [`PolicyError::Toml`] or [`PolicyError::TooLong`].
    pub fn from_toml(what: &str, text: &str) -> Result<Self, PolicyError> {
        bound(what, text, MAX_POLICY_TEXT)?;
        toml::from_str(text).map_err(|source| PolicyError::Toml {
            what: what.to_owned(),
            source: Box::new(source),
        })
    }
}

fn bound(what: &str, text: &str, max: usize) -> Result<(), PolicyError> {
    if text.len() <= max {
        return Ok(());
    }
    Err(PolicyError::TooLong {
        what: what.to_owned(),
        max,
    })
}

/// Between an account's name and its id; it is in no name.
const ID: char = '#';

/// An account by its name and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    name: Name,
    id: Name,
}

impl Known {
    fn is(&self, subject: &Subject) -> bool {
        self.name == subject.name && self.id == subject.account
    }
}

impl FromStr for Known {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, id) = text.split_once(ID).ok_or(NameError::Empty)?;
        Ok(Self {
            name: name.parse()?,
            id: id.parse()?,
        })
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ID}{}", self.name, self.id)
    }
}

/// A rule that was checked.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) name: Name,
    pub(super) priority: i32,
    pub(super) effect: Effect,
    roles: BTreeSet<Name>,
    account_types: Vec<AccountType>,
    accounts: BTreeSet<Name>,
    /// Those of which the rule says the id as well.
    known: BTreeSet<Known>,
    tags: BTreeSet<Name>,
    actions: Vec<Glob>,
    resources: Vec<Glob>,
    resource_tags: BTreeSet<Name>,
}

/// The first part of a rule that does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Roles,
    AccountTypes,
    Accounts,
    Tags,
    Actions,
    Resources,
    ResourceTags,
}

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Result<Self, PolicyError> {
        let name: Name = rule.name.parse().map_err(|source| PolicyError::RuleName {
            name: rule.name.clone(),
            source,
        })?;
        let of = Lists { rule: &name };
        let subjects = &rule.subjects;
        let accounts = subjects.accounts.iter().cloned();
        let (by_id, by_name): (Vec<_>, Vec<_>) = accounts.partition(|text| text.contains(ID));
        of.bound("subjects.accounts", &subjects.accounts)?;
        let lists = [
            &subjects.roles,
            &subjects.account_types,
            &subjects.accounts,
            &subjects.tags,
        ];
        let named = lists.iter().any(|list| !list.is_empty());
        if named && subjects.anyone {
            return Err(PolicyError::AnyoneAndSome(name));
        }
        if !named && !subjects.anyone {
            return Err(of.empty("subjects", "write `anyone = true` if everybody is meant"));
        }
        Ok(Self {
            priority: rule.priority,
            effect: rule.effect,
            roles: of.names("subjects.roles", &subjects.roles)?,
            account_types: of.account_types(&subjects.account_types)?,
            accounts: of.names("subjects.accounts", &by_name)?,
            known: of.each("subjects.accounts", &by_id, str::parse)?,
            tags: of.names("subjects.tags", &subjects.tags)?,
            actions: of.globs("actions", Kind::Action, &rule.actions)?,
            resources: of.globs("resources", Kind::Resource, &rule.resources)?,
            resource_tags: of.names("resource_tags", &rule.resource_tags)?,
            name,
        })
    }

    fn is_about(&self, subject: &Subject) -> bool {
        let anyone = self.accounts.is_empty() && self.known.is_empty();
        anyone
            || self.accounts.contains(&subject.name)
            || self.known.iter().any(|known| known.is(subject))
    }

    /// The first part that does not match: nothing is allocated, for a decision asks this of every rule.
    pub(super) fn asked(&self, subject: &Subject, action: &Action) -> Option<Part> {
        let one_of = |wanted: &BTreeSet<Name>, has: &BTreeSet<Name>| {
            wanted.is_empty() || !wanted.is_disjoint(has)
        };
        if !one_of(&self.roles, &subject.roles) {
            Some(Part::Roles)
        } else if !self.account_types.is_empty()
            && !self.account_types.contains(&subject.account_type)
        {
            Some(Part::AccountTypes)
        } else if !self.is_about(subject) {
            Some(Part::Accounts)
        } else if !self.tags.is_subset(&subject.tags) {
            Some(Part::Tags)
        } else if !self.actions.iter().any(|g| g.matches(action.as_str())) {
            Some(Part::Actions)
        } else {
            None
        }
    }

    /// See [`super::PolicySet::idle_actions`].
    pub(super) fn idle_actions<'s>(&'s self, known: &'s [&str]) -> impl Iterator<Item = &'s str> {
        let idle = |glob: &&Glob| !known.iter().any(|action| glob.matches(action));
        self.actions.iter().filter(idle).map(Glob::as_str)
    }

    /// See [`super::PolicySet::idle_resources`].
    pub(super) fn idle_resources<'s>(&'s self, known: &[(&str, Vec<Glob>)]) -> Vec<&'s str> {
        let mut places: Vec<&Glob> = Vec::new();
        for (action, globs) in known {
            if self.actions.iter().any(|glob| glob.matches(action)) {
                places.extend(globs);
            }
        }
        let idle = |glob: &&Glob| !places.iter().any(|place| glob.meets(place));
        self.resources
            .iter()
            .filter(idle)
            .map(Glob::as_str)
            .collect()
    }

    /// Whether it may be about something that is at a place.
    pub(super) fn meets(&self, place: &Glob) -> bool {
        self.resources.iter().any(|glob| glob.meets(place))
    }

    /// Whether it is about all that is at a place.
    pub(super) fn covers(&self, place: &Glob) -> bool {
        self.resource_tags.is_empty() && self.resources.iter().any(|glob| glob.covers(place))
    }

    /// As [`Self::asked`], of the resource.
    pub(super) fn on(&self, resource: &Resource) -> Option<Part> {
        if !self
            .resources
            .iter()
            .any(|g| g.matches(resource.name.as_str()))
        {
            Some(Part::Resources)
        } else if !self.resource_tags.is_subset(&resource.tags) {
            Some(Part::ResourceTags)
        } else {
            None
        }
    }

    /// The part in full, for people.
    pub(super) fn why(
        &self,
        part: Part,
        subject: &Subject,
        action: &Action,
        resource: &Resource,
    ) -> Mismatch {
        let lacks = |wanted: &BTreeSet<Name>, has| wanted.difference(has).cloned().collect();
        let texts = |globs: &[Glob]| globs.iter().map(Glob::to_string).collect();
        match part {
            Part::Roles => Mismatch::Role {
                wanted: self.roles.iter().cloned().collect(),
                has: subject.roles.iter().cloned().collect(),
            },
            Part::AccountTypes => Mismatch::AccountType {
                is: type_name(subject.account_type),
            },
            Part::Accounts => {
                let by_name = self.accounts.iter().map(ToString::to_string);
                let by_id = self.known.iter().map(ToString::to_string);
                let namesake = self.known.iter().any(|known| known.name == subject.name);
                Mismatch::Account {
                    wanted: by_name.chain(by_id).collect(),
                    is: match namesake {
                        true => format!("{}{ID}{}", subject.name, subject.account),
                        false => subject.name.to_string(),
                    },
                }
            }
            Part::Tags => Mismatch::SubjectTags {
                lacks: lacks(&self.tags, &subject.tags),
            },
            Part::Actions => Mismatch::Action {
                wanted: texts(&self.actions),
                is: action.clone(),
            },
            Part::Resources => Mismatch::Resource {
                wanted: texts(&self.resources),
                is: resource.name.clone(),
            },
            Part::ResourceTags => Mismatch::ResourceTags {
                lacks: lacks(&self.resource_tags, &resource.tags),
            },
        }
    }
}

/// Reads the lists of one rule.
struct Lists<'r> {
    rule: &'r Name,
}

impl Lists<'_> {
    fn each<T, C: FromIterator<T>>(
        &self,
        field: &'static str,
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Result<C, PolicyError> {
        self.bound(field, texts)?;
        let parsed = texts.iter().map(|text| {
            parse(text).map_err(|source| PolicyError::Value {
                rule: self.rule.clone(),
                field,
                value: text.clone(),
                source,
            })
        });
        parsed.collect()
    }

    fn names(&self, field: &'static str, texts: &[String]) -> Result<BTreeSet<Name>, PolicyError> {
        self.each(field, texts, str::parse)
    }

    fn globs(
        &self,
        field: &'static str,
        kind: Kind,
        texts: &[String],
    ) -> Result<Vec<Glob>, PolicyError> {
        if texts.is_empty() {
            return Err(self.empty(field, "write \"**\" if all are meant"));
        }
        self.each(field, texts, |text| Glob::parse(kind, text))
    }

    fn account_types(&self, texts: &[String]) -> Result<Vec<AccountType>, PolicyError> {
        self.bound("subjects.account_types", texts)?;
        let types = [AccountType::Human, AccountType::System];
        let parsed = texts.iter().map(|text| {
            let found = types.into_iter().find(|t| type_name(*t) == text);
            found.ok_or_else(|| PolicyError::AccountType {
                rule: self.rule.clone(),
                value: text.clone(),
            })
        });
        parsed.collect()
    }

    fn bound(&self, field: &'static str, texts: &[String]) -> Result<(), PolicyError> {
        if texts.len() <= MAX_PATTERNS {
            return Ok(());
        }
        Err(PolicyError::TooMany {
            rule: self.rule.clone(),
            field,
        })
    }

    fn empty(&self, field: &'static str, hint: &'static str) -> PolicyError {
        PolicyError::Empty {
            rule: self.rule.clone(),
            field,
            hint,
        }
    }
}
