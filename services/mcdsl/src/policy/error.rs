//! What of a policy is refused.

use super::{
    name::{Name, NameError},
    rule::{MAX_PATTERNS, MAX_RULES},
};

/// Why a policy is not in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A text that is not JSON of a rule; serde names the field.
    #[error("{what} is not a rule in JSON")]
    Json {
        /// What its keeper calls it.
        what: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A text that is not TOML of a policy; serde names the field.
    #[error("{what} is not a policy in TOML")]
    Toml {
        /// Its file.
        what: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A text over the bound.
    #[error("{what} is longer than {max} bytes")]
    TooLong {
        /// What its keeper calls it.
        what: String,
        /// The bound.
        max: usize,
    },
    /// Over [`MAX_RULES`].
    #[error("{0} rules are more than {MAX_RULES}; patterns cover what many rules name")]
    TooManyRules(usize),
    /// A rule's name is none.
    #[error("{name:?} cannot name a rule")]
    RuleName {
        /// As written.
        name: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// Two rules of one name.
    #[error("two rules are called {0}; rename one")]
    Duplicate(Name),
    /// An entry of a list is not valid.
    #[error("rule {rule}: {field}: {value:?} is not valid")]
    Value {
        /// The rule.
        rule: Name,
        /// The list.
        field: &'static str,
        /// The entry.
        value: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// Not a type of accounts.
    #[error("rule {rule}: subjects.account_types: {value:?} is neither `human` nor `system`")]
    AccountType {
        /// The rule.
        rule: Name,
        /// The entry.
        value: String,
    },
    /// A list that must not be empty is.
    #[error("rule {rule}: {field} is empty; {hint}")]
    Empty {
        /// The rule.
        rule: Name,
        /// The list.
        field: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// `anyone` and a list.
    #[error("rule {0}: subjects: `anyone` is there beside whom it names; leave one out")]
    AnyoneAndSome(Name),
    /// Over [`MAX_PATTERNS`].
    #[error("rule {rule}: {field} has more than {MAX_PATTERNS} entries; split the rule")]
    TooMany {
        /// The rule.
        rule: Name,
        /// The list.
        field: &'static str,
    },
}
