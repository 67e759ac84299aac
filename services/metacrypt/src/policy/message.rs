//! Rules as clients send and read them.

use mc_proto::metacrypt::v1 as pb;
use mcdsl::policy::{Effect, Rule, Subjects};

/// From what a client sent.
pub(crate) fn parse(sent: pb::Rule) -> Rule {
    Rule {
        name: sent.name,
        description: sent.comment,
        priority: sent.priority,
        effect: if sent.deny {
            Effect::Deny
        } else {
            Effect::Allow
        },
        subjects: Subjects {
            anyone: sent.anyone,
            roles: sent.roles,
            account_types: sent.account_types,
            accounts: sent.accounts,
            tags: sent.tags,
        },
        actions: sent.actions,
        resources: sent.resources,
        resource_tags: Vec::new(),
    }
}

/// As clients read it.
pub(crate) fn message(rule: Rule) -> pb::Rule {
    pb::Rule {
        name: rule.name,
        priority: rule.priority,
        deny: rule.effect == Effect::Deny,
        anyone: rule.subjects.anyone,
        roles: rule.subjects.roles,
        account_types: rule.subjects.account_types,
        accounts: rule.subjects.accounts,
        tags: rule.subjects.tags,
        actions: rule.actions,
        resources: rule.resources,
        comment: rule.description,
    }
}
