//! The one policy engine: who may do what on what, and why.
//!
//! Rules are compiled once and refused if anything in them is not understood; a decision is then a pure function of the set, the
//! subject, the action and the resource. The rule of the highest priority that matches decides, a deny before an allow of the
//! same priority; without one the answer is no. So a deny holds against whatever is added at its priority or below, and the
//! order in which rules are stored counts for nothing.
//!
//! Three parts of a program meet here, and only one of them has a grammar: the rule. Subjects and resources are checked names
//! ([`Name`], [`ResourceName`]) that are compared, never parsed again. What acts takes an [`Authorized`], which only
//! [`PolicySet::authorize`] makes, and acts on the resource that is in it.
//!
//! Rejected: Cedar and OPA's Rego, whole languages for what one list of rules says; conditions and times in rules (a decision
//! would need a clock, and could no longer be explained by the names alone); "first rule wins" (moving a rule would change what
//! is allowed); escaping of user data into patterns (one forgotten call, and it is grammar).

mod error;
mod explanation;
mod glob;
mod name;
#[cfg(test)]
mod properties;
mod rule;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::rule::Compiled;
pub use self::{
    error::PolicyError,
    explanation::{Considered, Decision, Effect, Explanation, Mismatch, Part, Reason},
    name::{Action, MAX_NAME, MAX_RESOURCE, MAX_SEGMENTS, Name, NameError, ResourceName},
    rule::{MAX_PATTERNS, MAX_POLICY_TEXT, MAX_RULE_TEXT, MAX_RULES, Policy, Rule, Subjects},
    subject::{MAX_TAGS, Resource, Subject, SubjectError},
};
use crate::auth::{ADMIN, Identity};

/// A policy in force.
#[derive(Clone, Debug)]
pub struct PolicySet {
    admin_bypass: bool,
    /// Invariant: in the order in which they count; names are unique.
    rules: Vec<Compiled>,
}

/// That somebody may do something: proof of a decision, which nothing but [`PolicySet::authorize`] makes and nothing copies.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorized {
    subject: Subject,
    action: Action,
    resource: Resource,
    reason: Reason,
}

/// That somebody may not. What it displays does not say which rule denied: that is for who may read the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} may not {action} on {resource}")]
pub struct Denied {
    /// Who: its name.
    pub subject: Name,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: ResourceName,
    /// Why, for the audit log.
    pub reason: Reason,
}

impl Authorized {
    /// Who may.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// On what: whoever acts takes the name from here.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Why, for the audit log.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

/// Why somebody may not, where names come as texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// By the policy.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Who asks cannot be judged.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// What is asked for, or on what, has no name.
    #[error("that is nothing that somebody could be allowed to do; a name in it is none: {0}")]
    Name(#[from] NameError),
}

/// The parts of a question, of a resource without tags.
fn question(
    who: &Identity,
    action: &str,
    on: &[&str],
) -> Result<(Subject, Action, Resource), Refused> {
    let name = ResourceName::of(on.iter().copied())?;
    Ok((who.try_into()?, action.parse()?, name.into()))
}

impl PolicySet {
    /// [`Self::authorize`] for who calls, on the resource of these segments: what clients chose is one of them.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn judge(&self, who: &Identity, action: &str, on: &[&str]) -> Result<Authorized, Refused> {
        let (who, action, on) = question(who, action, on)?;
        Ok(self.authorize(&who, &action, &on)?)
    }

    /// [`Self::explain`], likewise.
    ///
    /// # Errors
    /// [`Refused`], never by the policy.
    pub fn explain_to(
        &self,
        who: &Identity,
        action: &str,
        on: &[&str],
    ) -> Result<Explanation, Refused> {
        let (who, action, on) = question(who, action, on)?;
        Ok(self.explain(&who, &action, &on))
    }

    /// Compiles what a file has; `what` is the file, for the error.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing of the policy is then in force.
    pub fn from_toml(what: &str, text: &str) -> Result<Self, PolicyError> {
        Self::compile(&Policy::from_toml(what, text)?)
    }

    /// Compiles a policy.
    ///
    /// # Errors
    /// [`PolicyError`], which names rule and field; nothing of the policy is then in force.
    pub fn compile(policy: &Policy) -> Result<Self, PolicyError> {
        if policy.rules.len() > MAX_RULES {
            return Err(PolicyError::TooManyRules(policy.rules.len()));
        }
        let compiled = policy.rules.iter().map(Compiled::new);
        let mut rules: Vec<_> = compiled.collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = rules.iter().find(|rule| !seen.insert(&rule.name)) {
            return Err(PolicyError::Duplicate(twice.name.clone()));
        }
        rules.sort_by(|a, b| {
            let rank = |rule: &Compiled| (std::cmp::Reverse(rule.priority), rule.effect);
            rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name))
        });
        Ok(Self {
            admin_bypass: policy.admin_bypass,
            rules,
        })
    }

    /// The rules' names, in the order in which they count.
    pub fn order(&self) -> impl Iterator<Item = &Name> {
        self.rules.iter().map(|rule| &rule.name)
    }

    /// Patterns of actions in its rules that cover none of `known`, which is all that can be asked for: a slip of the pen, by which a rule
    /// says less than whoever wrote it thinks.
    pub fn idle_actions<'s>(
        &'s self,
        known: &'s [&str],
    ) -> impl Iterator<Item = (&'s Name, &'s str)> {
        self.rules.iter().flat_map(|rule| {
            let idle = rule.idle_actions(known);
            idle.map(|pattern| (&rule.name, pattern))
        })
    }

    /// Patterns of resources in its rules on which none of the rule's actions is ever asked for: likewise. `known` is all that can be asked
    /// for, and patterns of where.
    ///
    /// # Errors
    /// One of those is no pattern.
    pub fn idle_resources<'s>(
        &'s self,
        known: &[(&str, &[&str])],
    ) -> Result<Vec<(&'s Name, &'s str)>, NameError> {
        let globs = |texts: &[&str]| -> Result<Vec<_>, _> {
            let parse = |text: &&str| glob::Glob::parse(name::Kind::Resource, text);
            texts.iter().map(parse).collect()
        };
        let known = known.iter().map(|(action, on)| Ok((*action, globs(on)?)));
        let known: Vec<_> = known.collect::<Result<_, NameError>>()?;
        let of = |rule: &'s Compiled| {
            let idle = rule.idle_resources(&known).into_iter();
            idle.map(move |pattern| (&rule.name, pattern))
        };
        Ok(self.rules.iter().flat_map(of).collect())
    }

    /// Whether no rule binds the subject.
    fn bypassed(&self, subject: &Subject) -> bool {
        self.admin_bypass && subject.roles.iter().any(|role| role.as_str() == ADMIN)
    }

    /// The answer and what decided: the one evaluation.
    fn decide<'r>(
        &self,
        mut asked: impl Iterator<Item = &'r Compiled>,
        subject: &Subject,
        resource: &Resource,
    ) -> Decision {
        if self.bypassed(subject) {
            return Decision {
                effect: Effect::Allow,
                reason: Reason::AdminBypass,
            };
        }
        match asked.find(|rule| rule.on(resource).is_none()) {
            Some(rule) => Decision {
                effect: rule.effect,
                reason: Reason::Rule(rule.name.clone()),
            },
            None => Decision {
                effect: Effect::Deny,
                reason: Reason::Default,
            },
        }
    }

    /// The rules about this subject and action, in the order in which they count.
    fn asked<'s>(
        &'s self,
        subject: &'s Subject,
        action: &'s Action,
    ) -> impl Iterator<Item = &'s Compiled> {
        self.rules
            .iter()
            .filter(move |rule| rule.asked(subject, action).is_none())
    }

    /// Whether it may be.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authorize(
        &self,
        subject: &Subject,
        action: &Action,
        resource: &Resource,
    ) -> Result<Authorized, Denied> {
        let decision = self.decide(self.asked(subject, action), subject, resource);
        match decision.effect {
            Effect::Allow => Ok(Authorized {
                subject: subject.clone(),
                action: action.clone(),
                resource: resource.clone(),
                reason: decision.reason,
            }),
            Effect::Deny => Err(Denied {
                subject: subject.name.clone(),
                action: action.clone(),
                resource: resource.name.clone(),
                reason: decision.reason,
            }),
        }
    }

    /// The rules that match, in the order in which they count, and what each decides: the first one does, unless `admin_bypass` did. For who
    /// asks about many and needs no words: nothing is allocated.
    pub fn matching<'s>(
        &'s self,
        subject: &'s Subject,
        action: &'s Action,
        resource: &'s Resource,
    ) -> impl Iterator<Item = (&'s Name, Effect)> {
        let asked = self.asked(subject, action);
        let matching = asked.filter(|rule| rule.on(resource).is_none());
        matching.map(|rule| (&rule.name, rule.effect))
    }

    /// What [`Self::authorize`] would say, and what every rule has to do with it.
    #[must_use]
    pub fn explain(&self, subject: &Subject, action: &Action, resource: &Resource) -> Explanation {
        let decision = self.decide(self.asked(subject, action), subject, resource);
        let why = self.rules.iter().map(|rule| {
            let missing = rule.asked(subject, action).or_else(|| rule.on(resource));
            let part = match missing {
                Some(part) => Part::NoMatch {
                    because: rule.why(part, subject, action, resource),
                },
                None if decision.rule() == Some(&rule.name) => Part::Decided,
                None => Part::Outranked,
            };
            Considered {
                rule: rule.name.clone(),
                priority: rule.priority,
                effect: rule.effect,
                part,
            }
        });
        Explanation {
            subject: subject.name.clone(),
            action: action.clone(),
            resource: resource.name.clone(),
            why: why.collect(),
            decision,
        }
    }

    /// Why the subject may do this, as [`Self::authorize`] says it, for who asks it of many things; `None`: it may not.
    #[must_use]
    pub fn allowed_by(
        &self,
        subject: &Subject,
        action: &Action,
        resource: &Resource,
    ) -> Option<Reason> {
        let decision = self.decide(self.asked(subject, action), subject, resource);
        (decision.effect == Effect::Allow).then_some(decision.reason)
    }

    /// Whether the subject may do this on anything that there may be at `place` or below it; `false` is sure. For lists that are made in
    /// parts: how they go on would tell of what is there, and whoever may read nothing of it is to learn nothing.
    #[must_use]
    pub fn may_below(&self, subject: &Subject, action: &Action, place: &ResourceName) -> bool {
        let place = glob::Glob::below(place);
        let decides = |rule: &&Compiled| match rule.effect {
            Effect::Allow => rule.meets(&place),
            Effect::Deny => rule.covers(&place),
        };
        let first = || self.asked(subject, action).find(decides);
        self.bypassed(subject) || first().is_some_and(|rule| rule.effect == Effect::Allow)
    }

    /// Of many things, those on which the subject may do this. A list of things shows those that its reader may read: give it
    /// the action of reading one, not another of listing.
    pub fn filter<'s, R: AsRef<Resource>>(
        &'s self,
        subject: &'s Subject,
        action: &'s Action,
        things: impl IntoIterator<Item = R> + 's,
    ) -> impl Iterator<Item = R> + 's {
        // Once for the list, for rules about other subjects and actions are most of a set.
        let asked: Vec<_> = self.asked(subject, action).collect();
        things.into_iter().filter(move |thing| {
            let decision = self.decide(asked.iter().copied(), subject, thing.as_ref());
            decision.effect == Effect::Allow
        })
    }
}
