//! Decisions, in words and in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{Action, Name, ResourceName};

/// What a rule, or a policy, decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It must not be.
    Deny,
    /// It may be.
    Allow,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The rule of this name.
    Rule(Name),
    /// The role `admin`, where the policy says that it may do everything.
    AdminBypass,
    /// Nothing: no rule matched, and what no rule allows is denied.
    Default,
}

/// The answer of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Yes or no.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// The rule that decided, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&Name> {
        match &self.reason {
            Reason::Rule(name) => Some(name),
            Reason::AdminBypass | Reason::Default => None,
        }
    }
}

/// A decision and what every rule had to do with it, highest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The answer.
    #[serde(flatten)]
    pub decision: Decision,
    /// Who asks: its name.
    pub subject: Name,
    /// What for.
    pub action: Action,
    /// On what.
    pub resource: ResourceName,
    /// Every rule of the set, in the order in which they count.
    pub why: Vec<Considered>,
}

/// One rule's part in a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Its name.
    pub rule: Name,
    /// Its priority.
    pub priority: i32,
    /// Its effect.
    pub effect: Effect,
    /// Its part.
    #[serde(flatten)]
    pub part: Part,
}

/// What a rule had to do with a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// It made it.
    Decided,
    /// It matches as well, but something before it decided.
    Outranked,
    /// It does not match.
    NoMatch {
        /// The first thing that does not.
        because: Mismatch,
    },
}

/// Why a rule does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "field", rename_all = "snake_case")]
pub enum Mismatch {
    /// The subject has none of the roles.
    Role {
        /// The rule's.
        wanted: Vec<Name>,
        /// The subject's.
        has: Vec<Name>,
    },
    /// It is about the other type of accounts.
    AccountType {
        /// The subject's.
        is: &'static str,
    },
    /// It is about others.
    Account {
        /// The rule's: names, or names and ids.
        wanted: Vec<String>,
        /// The subject's, with its id if it has the name of one of them.
        is: String,
    },
    /// The subject has not all tags.
    SubjectTags {
        /// Those it has not.
        lacks: Vec<Name>,
    },
    /// It is about other actions.
    Action {
        /// The rule's patterns.
        wanted: Vec<String>,
        /// What was asked.
        is: Action,
    },
    /// It is about other resources.
    Resource {
        /// The rule's patterns.
        wanted: Vec<String>,
        /// What was asked.
        is: ResourceName,
    },
    /// The resource has not all tags.
    ResourceTags {
        /// Those it has not.
        lacks: Vec<Name>,
    },
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "rule {name}"),
            Self::AdminBypass => f.write_str("admin bypass"),
            Self::Default => f.write_str("no rule matches, and what none allows is denied"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.decision.effect {
            Effect::Allow => "may",
            Effect::Deny => "may not",
        };
        let Self {
            subject,
            action,
            resource,
            ..
        } = self;
        write!(
            f,
            "{subject} {verb} {action} on {resource}: {}",
            self.decision.reason
        )?;
        self.why.iter().try_for_each(|rule| write!(f, "\n  {rule}"))
    }
}

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            priority,
            effect,
            ..
        } = self;
        write!(f, "rule {rule} (priority {priority}, {effect}) ")?;
        match &self.part {
            Part::Decided => f.write_str("decides"),
            Part::Outranked => f.write_str("matches, but what is before it decides"),
            Part::NoMatch { because } => write!(f, "does not match: {because}"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { wanted, has } if has.is_empty() => {
                write!(
                    f,
                    "it wants {}, the account has no role",
                    one_of("the role", wanted)
                )
            }
            Self::Role { wanted, has } => {
                write!(
                    f,
                    "it wants {}, the account has {}",
                    one_of("the role", wanted),
                    join(has)
                )
            }
            Self::AccountType { is } => write!(f, "it is not about {is} accounts"),
            Self::Account { wanted, is } => {
                write!(f, "it is about {}, not {is}", one_of("the account", wanted))
            }
            Self::SubjectTags { lacks } => write!(f, "the account has not the tag {}", join(lacks)),
            Self::Action { wanted, is } => {
                write!(f, "{is} is not {}", one_of("the action", wanted))
            }
            Self::Resource { wanted, is } => write!(f, "{is} is not under {}", one_of("", wanted)),
            Self::ResourceTags { lacks } => {
                write!(f, "the resource has not the tag {}", join(lacks))
            }
        }
    }
}

fn join(names: &[impl ToString]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// "the role a", "one of a, b".
fn one_of(what: &str, names: &[impl ToString]) -> String {
    match names {
        [one] => format!("{what} {}", one.to_string())
            .trim_start()
            .to_owned(),
        several => format!("one of {}", join(several)),
    }
}
