//! What the login policy comes to for somebody, in words: the one text that the API, the tool and the page have.

use std::sync::Arc;

use mcdsl::policy::{Considered, Effect, Part};
use rusqlite::Connection;

use super::{LoginPolicy, Verdict};
use crate::{
    SERVICE,
    account::{self, Account, MAX_TAGS, Status},
    core::Mcias,
    error::Error,
    service::{self, Service},
    standing::Standing,
};

/// What a login of an account to a service comes to, whether or not somebody logs in.
pub(crate) struct Explained {
    /// It could log in, once all of `first` is set right.
    pub(crate) allowed: bool,
    /// By a browser too, which logs in to this service first.
    pub(crate) by_browser: bool,
    /// The account has to show a second factor, or to enrol one.
    pub(crate) second_factor: bool,
    /// The rule that decides, of an account that is active.
    pub(crate) rule: Option<String>,
    /// The answer, in a sentence.
    pub(crate) reason: String,
    /// What has to be set right at this service before a login to another one.
    pub(crate) first: Vec<&'static str>,
    /// What else there is to know.
    pub(crate) notes: Vec<String>,
    /// Every rule, in the order in which they are asked.
    pub(crate) why: Vec<Why>,
}

/// One rule's part.
pub(crate) struct Why {
    pub(crate) rule: Considered,
    /// It asks for a second factor of whom it matches.
    second_factor: bool,
    /// No rule is asked of the account.
    unasked: bool,
}

impl Why {
    pub(crate) fn effect(&self) -> &'static str {
        effect(self.rule.effect, self.second_factor)
    }

    /// It is why the answer is what it is.
    pub(crate) fn decided(&self) -> bool {
        self.rule.part == Part::Decided && !self.unasked
    }

    pub(crate) fn part(&self) -> String {
        let asks = self.second_factor && !self.unasked;
        match (&self.rule.part, asks) {
            (Part::NoMatch { because }, _) => format!("does not match: {because}"),
            (_, _) if self.unasked => "matches, but is not asked".to_owned(),
            (Part::Decided, _) => "decides".to_owned(),
            (Part::Outranked, false) => "matches, but a rule before it decides".to_owned(),
            (Part::Outranked, true) => {
                "matches, but a rule before it decides; it asks for a second factor all the same"
                    .to_owned()
            }
        }
    }

    /// A sentence, without its mark.
    pub(crate) fn sentence(&self) -> String {
        let Considered { rule, priority, .. } = &self.rule;
        format!(
            "rule {rule} (priority {priority}, {}) {}",
            self.effect(),
            self.part()
        )
    }
}

/// What a rule does, in words.
pub(crate) fn effect(effect: Effect, second_factor: bool) -> &'static str {
    match (effect, second_factor) {
        (Effect::Deny, _) => "deny",
        (Effect::Allow, false) => "allow",
        (Effect::Allow, true) => "allow with a second factor",
    }
}

impl Explained {
    /// Of an account and a service, and of this service, `own`, where people set right what is in the way and browsers log in first.
    ///
    /// # Errors
    /// If a name of one of them is none to the engine.
    pub(crate) fn of(
        policy: &LoginPolicy,
        account: &Account,
        service: &Service,
        own: &Service,
    ) -> Result<Self, Error> {
        let verdict = policy.judge(account, service)?;
        let at_home = policy.judge(account, own)?;
        let elsewhere = service.name != own.name;
        let active = account.status == Status::Active;
        // What a login lacks that shows all that its account has.
        let standing = Standing::of(account, &verdict, true);
        let first = first(standing);
        let stuck = elsewhere && !first.is_empty() && !at_home.allowed;
        let allowed = active && verdict.allowed && !stuck;
        let why = verdict.explanation.why.iter().map(|rule| Why {
            second_factor: policy.second_factor.contains(rule.rule.as_str()),
            rule: rule.clone(),
            unasked: !active,
        });
        let rule = verdict.explanation.decision.rule();
        Ok(Self {
            allowed,
            by_browser: allowed && at_home.allowed,
            second_factor: verdict.asks(account) || account.has_second_factor(),
            rule: rule.filter(|_| active).map(ToString::to_string),
            reason: reason(account, &verdict, stuck.then_some((&*first, &at_home))),
            notes: if allowed {
                notes(policy, account, &verdict, elsewhere.then_some(&at_home))
            } else {
                Vec::new()
            },
            first: if allowed { first } else { Vec::new() },
            why: why.collect(),
        })
    }
}

fn first(standing: Standing) -> Vec<&'static str> {
    let lacks = [
        (
            standing.enrol,
            "enrol a second factor: one is demanded, and the account has none",
        ),
        (
            standing.expired,
            "change the password: it was given by somebody else",
        ),
    ];
    let lacks = lacks.into_iter().filter(|(lacks, _)| *lacks);
    lacks.map(|(_, what)| what).collect()
}

fn reason(
    account: &Account,
    verdict: &Verdict,
    stuck: Option<(&[&'static str], &Verdict)>,
) -> String {
    let decision = &verdict.explanation.decision;
    let says = match decision.rule() {
        Some(rule) if verdict.allowed => format!("rule {rule} lets it in"),
        Some(rule) => format!("rule {rule} keeps it out"),
        None => decision.reason.to_string(),
    };
    let end = match account.status {
        Status::Active => None,
        Status::Disabled => Some("until an administrator makes it active"),
        Status::Locked => Some("until an administrator gives it a new password"),
    };
    let status = account.status.as_str();
    match (end, stuck) {
        (Some(end), _) => {
            format!("the account is {status} and logs in nowhere {end}; no rule is asked")
        }
        (None, Some((first, at_home))) => {
            let what = first.first().unwrap_or(&"");
            let out = &at_home.explanation.decision.reason;
            format!(
                "the account is active and {says}, but it has to {what}; that is done at {SERVICE}, where it cannot log in: {out}"
            )
        }
        (None, None) => format!("the account is {status}; {says}"),
    }
}

/// `at_home`: what the policy says of this service, if the login is to another one.
fn notes(
    policy: &LoginPolicy,
    account: &Account,
    verdict: &Verdict,
    at_home: Option<&Verdict>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let has = account.has_second_factor();
    let asking = policy.asking(verdict);
    let whose = match (account.second_factor_required, asking) {
        (_, Some(rule)) => Some(format!("rule {rule} demands a second factor")),
        (true, None) => Some("the account is to have a second factor".to_owned()),
        (false, None) => None,
    };
    match (whose, has) {
        (Some(whose), true) => notes.push(format!("{whose}; it has one, and shows it")),
        (Some(whose), false) => notes.push(format!("{whose}; it has none enrolled")),
        (None, true) => notes.push(
            "no rule demands a second factor; the account has one, so each login has to show it"
                .to_owned(),
        ),
        (None, false) => {}
    }
    let Some(at_home) = at_home else {
        return notes;
    };
    if !at_home.allowed {
        let reason = &at_home.explanation.decision.reason;
        notes.push(format!(
            "not by a browser: that logs in to {SERVICE} first, where the account cannot ({reason}); a rule has to let it in there too"
        ));
    } else if at_home.asks(account) && !verdict.asks(account) && !has {
        notes.push(format!(
            "by a browser a second factor has to be enrolled first: {SERVICE}, where that logs in, demands one"
        ));
    }
    notes
}

impl LoginPolicy {
    /// The first rule that asks for a second factor of whom it matches.
    fn asking<'v>(&self, verdict: &'v Verdict) -> Option<&'v str> {
        let mut matching = self.matching(&verdict.explanation);
        matching.find(|rule| self.second_factor.contains(*rule))
    }
}

impl Mcias {
    /// What a login of a person to a service comes to; the service has these tags instead of its own if any are given.
    ///
    /// # Errors
    /// If there is no such account or service, or it is a system account.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        account: String,
        service: String,
        tags: Vec<String>,
    ) -> Result<Explained, Error> {
        if tags.len() > MAX_TAGS {
            return Err(Error::invalid(format!("tags: more than {MAX_TAGS}")));
        }
        let policy = self.policy();
        let read = move |db: &Connection| {
            let account = account::named(db, &account)?;
            if !account.is_human() {
                let name = account.name;
                return Err(Error::precondition(format!(
                    "{name} is a system account: it does not log in, and no rule is asked; its tokens say which services they are for"
                )));
            }
            let mut service = service::named(db, &service)?;
            if !tags.is_empty() {
                service.tags = tags;
            }
            let mut own = service::named(db, SERVICE)?;
            if service.name == own.name {
                own.tags.clone_from(&service.tags);
            }
            Explained::of(&policy, &account, &service, &own)
        };
        self.store.read(read).await
    }
}
