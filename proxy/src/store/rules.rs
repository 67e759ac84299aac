//! Firewall rules, country policy and rate limits.

use std::collections::BTreeSet;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::{
    Actor, Done, MAX_RULES, RULE_ID_END, Store, StoreError, Undo,
    describe::{self, NAMED_IN_AUDIT, rule_name as name, rules as summary},
    rows::{self, corrupt, parse},
};
use crate::spec::{CountryPolicy, FIRST_RULE_ID, RateLimit, RateLimits, Rule, RuleKind};

impl Store {
    /// Adds rules, all or none; with `replace`, those whose (kind, cidr) exists are updated and keep their id.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], also for a pair given twice; [`StoreError::Full`].
    pub fn add_rules(
        &mut self,
        by: &Actor,
        rules: &[Rule],
        replace: bool,
    ) -> Result<Done<Vec<Rule>>, StoreError> {
        self.mutate(by, "rules add", summary(rules), |tx| {
            let (value, restore) = add_rules(tx, rules, replace)?;
            Ok(Done {
                undo: Undo::Rules {
                    remove: value.iter().map(|r| (r.kind, r.cidr)).collect(),
                    restore,
                },
                value,
            })
        })
    }

    /// Removes rules, all or none; gives them as they were.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], which names the first that is missing.
    pub fn remove_rules(
        &mut self,
        by: &Actor,
        names: &[(RuleKind, IpNet)],
    ) -> Result<Done<Vec<Rule>>, StoreError> {
        let detail = self.described(names)?;
        self.mutate(by, "rules remove", detail, |tx| {
            let mut value = Vec::with_capacity(names.len());
            for (kind, cidr) in names {
                let rule = take_rule(tx, *kind, cidr)?
                    .ok_or_else(|| StoreError::NotFound(name(*kind, cidr)))?;
                value.push(rule);
            }
            Ok(Done {
                undo: Undo::Rules {
                    remove: Vec::new(),
                    restore: value.clone(),
                },
                value,
            })
        })
    }

    /// Rules as they are stored, for the audit; by their names alone if they are not.
    fn described(&self, names: &[(RuleKind, IpNet)]) -> Result<String, StoreError> {
        let mut named = Vec::new();
        for (kind, cidr) in names.iter().take(NAMED_IN_AUDIT) {
            let stored = find_rule(&self.db, *kind, cidr)?;
            named.push(stored.map_or_else(|| name(*kind, cidr), |rule| describe::rule(&rule)));
        }
        Ok(describe::list(names.len(), named.into_iter()))
    }

    /// Removes the bans with these ids, whose time the kernel's clock says is over; those that are not there are no error.
    /// Gives them as they were.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn end_bans(&mut self, ids: &[u32]) -> Result<Vec<Rule>, StoreError> {
        let mut over = Vec::new();
        {
            let by_id = format!("{RULE_COLUMNS} WHERE kind = 'ban' AND id = ?1");
            let mut query = self.db.prepare_cached(&by_id)?;
            for id in ids {
                over.extend(collect(query.query([id])?)?);
            }
        }
        if over.is_empty() {
            return Ok(over);
        }
        self.mutate(
            &Actor::daemon("expiry"),
            "bans expire",
            summary(&over),
            |tx| {
                let mut delete = tx.prepare_cached("DELETE FROM rules WHERE id = ?1")?;
                for rule in &over {
                    delete.execute([rule.id])?;
                }
                Ok(())
            },
        )?;
        Ok(over)
    }

    /// Replaces the country policy.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn set_countries(
        &mut self,
        by: &Actor,
        policy: &CountryPolicy,
    ) -> Result<Done<CountryPolicy>, StoreError> {
        self.mutate(by, "countries set", describe::countries(policy), |tx| {
            let before = countries(tx)?;
            set_countries(tx, policy)?;
            Ok(Done {
                value: policy.clone(),
                undo: Undo::Countries(before),
            })
        })
    }

    /// Replaces the rate limits.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn set_rates(
        &mut self,
        by: &Actor,
        limits: &RateLimits,
    ) -> Result<Done<RateLimits>, StoreError> {
        self.mutate(by, "rates set", describe::rates(limits), |tx| {
            let before = rates(tx)?;
            set_rates(tx, limits)?;
            Ok(Done {
                value: *limits,
                undo: Undo::Rates(before),
            })
        })
    }
}

const RULE_COLUMNS: &str =
    "SELECT id, kind, cidr, action, expires_unix_ms, comment, created_unix_ms FROM rules";

fn rule(r: &Row<'_>) -> Result<Rule, StoreError> {
    Ok(Rule {
        id: r.get(0)?,
        kind: rows::kind(&r.get::<_, String>(1)?)?,
        cidr: parse("a rule's address", &r.get::<_, String>(2)?)?,
        action: rows::action(&r.get::<_, String>(3)?)?,
        expires: r.get::<_, Option<i64>>(4)?.map(rows::time),
        comment: r.get(5)?,
        created: rows::time(r.get(6)?),
    })
}

fn collect(mut found: rusqlite::Rows<'_>) -> Result<Vec<Rule>, StoreError> {
    let mut out = Vec::new();
    while let Some(r) = found.next()? {
        out.push(rule(r)?);
    }
    Ok(out)
}

pub(super) fn rules(tx: &Transaction<'_>) -> Result<Vec<Rule>, StoreError> {
    let mut query = tx.prepare_cached(&format!("{RULE_COLUMNS} ORDER BY id"))?;
    collect(query.query([])?)
}

/// Gives the rules as stored, and those that they replaced.
pub(super) fn add_rules(
    tx: &Transaction<'_>,
    rules: &[Rule],
    replace: bool,
) -> Result<(Vec<Rule>, Vec<Rule>), StoreError> {
    let mut free = FreeIds::read(tx)?;
    let mut added = Vec::with_capacity(rules.len());
    let mut replaced = Vec::new();
    let mut given = BTreeSet::new();
    for new in rules {
        let cidr = new.cidr.trunc();
        let existing = find_rule(tx, new.kind, &cidr)?;
        if !given.insert((new.kind, cidr)) {
            return Err(StoreError::GivenTwice(name(new.kind, &cidr)));
        }
        if existing.is_some() && !replace {
            return Err(StoreError::AlreadyExists(name(new.kind, &cidr)));
        }
        let id = match existing {
            Some(old) => {
                let id = old.id;
                replaced.push(old);
                id
            }
            None => free.take()?,
        };
        // What is returned equals what a later load gives: whole milliseconds.
        let whole_ms = |t| rows::time(rows::unix_ms(t));
        let stored = Rule {
            id,
            cidr,
            expires: new.expires.map(whole_ms),
            created: whole_ms(new.created),
            ..new.clone()
        };
        put_rule(tx, &stored)?;
        added.push(stored);
    }
    free.keep(tx)?;
    Ok((added, replaced))
}

fn find_rule(db: &Connection, kind: RuleKind, cidr: &IpNet) -> Result<Option<Rule>, StoreError> {
    let mut find = db.prepare_cached(&format!("{RULE_COLUMNS} WHERE kind = ?1 AND cidr = ?2"))?;
    find.query_row((rows::kind_text(kind), cidr.to_string()), |r| Ok(rule(r)))
        .optional()?
        .transpose()
}

fn put_rule(tx: &Transaction<'_>, rule: &Rule) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO rules (id, kind, cidr, action, expires_unix_ms, comment, created_unix_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET action = excluded.action, comment = excluded.comment,
             expires_unix_ms = excluded.expires_unix_ms, created_unix_ms = excluded.created_unix_ms",
    )?
    .execute((
        rule.id,
        rows::kind_text(rule.kind),
        rule.cidr.to_string(),
        rows::action_text(rule.action),
        rule.expires.map(rows::unix_ms),
        &rule.comment,
        rows::unix_ms(rule.created),
    ))?;
    Ok(())
}

fn take_rule(
    tx: &Transaction<'_>,
    kind: RuleKind,
    cidr: &IpNet,
) -> Result<Option<Rule>, StoreError> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM rules WHERE kind = ?1 AND cidr = ?2
         RETURNING id, kind, cidr, action, expires_unix_ms, comment, created_unix_ms",
    )?;
    let mut taken = collect(delete.query((rows::kind_text(kind), cidr.trunc().to_string()))?)?;
    Ok(taken.pop())
}

pub(super) fn restore_rules(
    tx: &Transaction<'_>,
    remove: &[(RuleKind, IpNet)],
    restore: &[Rule],
) -> Result<(), StoreError> {
    for (kind, cidr) in remove {
        take_rule(tx, *kind, cidr)?;
    }
    restore.iter().try_for_each(|rule| put_rule(tx, rule))
}

/// Hands out ids that no rule has, in a circle: one that was freed comes back as late as can be, so that whoever noted it
/// (a log, a dashboard, a script) does not take the next rule for the one before.
struct FreeIds {
    used: BTreeSet<u32>,
    /// Looked at next.
    next: u32,
}

impl FreeIds {
    fn read(tx: &Transaction<'_>) -> Result<Self, StoreError> {
        let mut query = tx.prepare_cached("SELECT id FROM rules")?;
        Ok(Self {
            used: query
                .query_map([], |r| r.get(0))?
                .collect::<Result<_, _>>()?,
            next: tx.query_row("SELECT next FROM rule_ids", [], |r| r.get(0))?,
        })
    }

    fn take(&mut self) -> Result<u32, StoreError> {
        if self.used.len() >= MAX_RULES {
            return Err(StoreError::Full("firewall rule", MAX_RULES));
        }
        loop {
            let id = match self.next {
                FIRST_RULE_ID..RULE_ID_END => self.next,
                _ => FIRST_RULE_ID,
            };
            self.next = id + 1;
            if self.used.insert(id) {
                return Ok(id);
            }
        }
    }

    fn keep(&self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        tx.execute("UPDATE rule_ids SET next = ?1", [self.next])?;
        Ok(())
    }
}

pub(super) fn countries(tx: &Transaction<'_>) -> Result<CountryPolicy, StoreError> {
    let others: Option<String> = tx
        .query_row("SELECT action FROM country_others", [], |r| r.get(0))
        .optional()?;
    let mut policy = CountryPolicy {
        others: others.as_deref().map(rows::action).transpose()?,
        ..CountryPolicy::default()
    };
    let mut query = tx.prepare_cached("SELECT code, action FROM countries")?;
    let mut found = query.query([])?;
    while let Some(r) = found.next()? {
        let (code, action): (String, String) = (r.get(0)?, r.get(1)?);
        policy
            .listed
            .insert(rows::country(&code)?, rows::action(&action)?);
    }
    Ok(policy)
}

pub(super) fn set_countries(
    tx: &Transaction<'_>,
    policy: &CountryPolicy,
) -> Result<(), StoreError> {
    tx.execute_batch("DELETE FROM country_others; DELETE FROM countries")?;
    if let Some(action) = policy.others {
        tx.execute(
            "INSERT INTO country_others (one, action) VALUES (1, ?1)",
            [rows::action_text(action)],
        )?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO countries (code, action) VALUES (?1, ?2)")?;
    for (code, action) in &policy.listed {
        insert.execute((rows::country_text(*code), rows::action_text(*action)))?;
    }
    Ok(())
}

pub(super) fn rates(tx: &Transaction<'_>) -> Result<RateLimits, StoreError> {
    let mut limits = RateLimits::default();
    let mut query = tx.prepare_cached("SELECT what, per_second, burst, action FROM rates")?;
    let mut found = query.query([])?;
    while let Some(r) = found.next()? {
        let limit = RateLimit {
            per_second: r.get(1)?,
            burst: r.get(2)?,
            action: rows::action(&r.get::<_, String>(3)?)?,
        };
        match r.get::<_, String>(0)?.as_str() {
            "connections" => limits.connections = Some(limit),
            "packets" => limits.packets = Some(limit),
            other => return Err(corrupt("a rate limit's name", other)),
        }
    }
    Ok(limits)
}

pub(super) fn set_rates(tx: &Transaction<'_>, limits: &RateLimits) -> Result<(), StoreError> {
    tx.execute("DELETE FROM rates", [])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO rates (what, per_second, burst, action) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let both = [
        ("connections", limits.connections),
        ("packets", limits.packets),
    ];
    for (what, limit) in both {
        if let Some(RateLimit {
            per_second,
            burst,
            action,
        }) = limit
        {
            insert.execute((what, per_second, burst, rows::action_text(action)))?;
        }
    }
    Ok(())
}
