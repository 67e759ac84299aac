//! Mounts and the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mc_proto::{
    AccountType,
    metacrypt::v1::{
        ActionPlaces, AuditHashRequest, AuditHashResponse, CanIRequest, CanIResponse,
        CreateMountRequest, CreateRuleRequest, DeleteMountRequest, DeleteMountResponse,
        DeleteRuleRequest, DeleteRuleResponse, Engine, ExplainRequest, ExplainResponse,
        ListEnginesRequest, ListEnginesResponse, ListMountsRequest, ListMountsResponse,
        ListRulesRequest, ListRulesResponse, Mount, ReplaceRulesRequest, ReplaceRulesResponse,
        Rule, SnapshotRequest, SnapshotResponse, system_server::System,
    },
};
use mcdsl::{
    archive,
    audit::Detail,
    auth::token::type_name,
    cli::chain,
    policy::{self, Action, Effect, Name, Refused, Resource, ResourceName, Subject, SubjectError},
    server::Caller,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status, async_trait};

use super::{Api, audit::entries};
use crate::{
    barrier::{self, SYSTEM, SYSTEM_STAYS, Unsealed},
    engine::{self, Act, EngineError, KINDS},
    entered::identity,
    log, policy as rules,
    start::SERVICE,
};

/// Longest name of a mount.
const MAX_MOUNT: usize = 64;

fn mount(mount: &barrier::Mount) -> Mount {
    Mount {
        name: mount.name().to_owned(),
        engine: mount.engine().to_owned(),
        created: Some(mount.made().into()),
    }
}

/// A name that is one segment of a path and of an address.
fn mount_name(name: &str) -> Result<(), EngineError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > MAX_MOUNT || !name.chars().all(letters) {
        return Err(EngineError::field(
            "name",
            format!("1 to {MAX_MOUNT} small letters, digits and `-`"),
        ));
    }
    Ok(())
}

/// The engine of a mount, by its name.
fn kinds(open: &Unsealed) -> impl Fn(&str) -> Option<String> + use<> {
    let mounts = open.mounts().values();
    let kinds = mounts.map(|mount| (mount.name().to_owned(), mount.engine().to_owned()));
    let kinds: BTreeMap<_, _> = kinds.collect();
    move |mount| kinds.get(mount).cloned()
}

/// Whom a question is about.
fn subject(asked: &ExplainRequest) -> Result<Subject, EngineError> {
    let name = |field, text: &str| -> Result<Name, EngineError> {
        text.parse().map_err(|e| EngineError::field(field, e))
    };
    let names = |field, texts: &[String]| -> Result<BTreeSet<Name>, EngineError> {
        if texts.len() > policy::MAX_TAGS {
            return Err(Refused::from(SubjectError::TooMany(field)).into());
        }
        texts.iter().map(|text| name(field, text)).collect()
    };
    let types = [AccountType::Human, AccountType::System];
    let of_type = types
        .into_iter()
        .find(|t| type_name(*t) == asked.account_type || asked.account_type.is_empty());
    // As rules name accounts: with its id, or without, and then it is none of those that a rule names by theirs.
    let (account, id) = match asked.account.split_once('#') {
        Some((account, id)) => (account, id),
        None => (&*asked.account, &*asked.account),
    };
    Ok(Subject {
        account: name("account", id)?,
        name: name("account", account)?,
        account_type: of_type
            .ok_or_else(|| EngineError::field("account_type", "`human` or `system`"))?,
        roles: names("roles", &asked.roles)?,
        tags: names("tags", &asked.tags)?,
    })
}

/// What can be asked: an action that there is, on what it is done to. `kind` is the engine of a mount, if there is one of that name.
fn question(
    action: &str,
    resource: &str,
    kind: impl Fn(&str) -> Option<String>,
) -> Result<(Action, Resource), EngineError> {
    let typed = action.parse();
    let typed = typed.map_err(|e| EngineError::field("action", e))?;
    let on = resource.parse::<ResourceName>();
    let on = on.map_err(|e| EngineError::field("resource", e))?;
    rules::possible(action, resource, kind)?;
    Ok((typed, on.into()))
}

/// What was taken for an account that there is not.
fn judged(asked: &ExplainRequest) -> String {
    let kind = match &*asked.account_type {
        "system" => "a system account",
        _ => "a person",
    };
    let [roles, tags] = [("roles", &asked.roles), ("tags", &asked.tags)].map(|(what, names)| {
        match names.is_empty() {
            true => format!("no {what}"),
            false => format!("the {what} {}", names.join(", ")),
        }
    });
    format!("{kind} with {roles} and {tags}")
}

impl Api {
    /// What MCIAS says of the accounts of rules, beside what is in force.
    async fn bind(&self, next: &mut [policy::Rule]) -> Result<(), EngineError> {
        let now = rules::in_force(&*self.0.open()?)?;
        let mcias = self.0.mcias.get().map(Arc::as_ref);
        rules::bind(mcias, &now, next).await
    }
}

#[async_trait]
impl System for Api {
    async fn list_engines(
        &self,
        _: Request<ListEnginesRequest>,
    ) -> Result<Response<ListEnginesResponse>, Status> {
        let owned = |action: &Act| action.0.to_owned();
        let engines = KINDS.iter().map(|kind| Engine {
            name: kind.name.to_owned(),
            description: kind.description.to_owned(),
            actions: kind.actions.iter().map(owned).collect(),
        });
        let places = engine::places().map(|(action, on)| ActionPlaces {
            action: action.to_owned(),
            resources: on.iter().map(|on| engine::spelled(on)).collect(),
        });
        Ok(Response::new(ListEnginesResponse {
            engines: engines.collect(),
            places: places.collect(),
        }))
    }

    async fn list_mounts(
        &self,
        request: Request<ListMountsRequest>,
    ) -> Result<Response<ListMountsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let open = self.0.open()?;
        let who = Subject::try_from(identity(&caller)?).map_err(Refused::from)?;
        let (policy, action) = (rules::of(&open)?, rules::READ_MOUNT.typed());
        let named = open.mounts().values().filter_map(|found| {
            let name: ResourceName = found.name().parse().ok()?;
            Some((Resource::from(name), found))
        });
        let mut by = BTreeSet::new();
        let mut may = |name: &Resource| {
            let reason = policy.allowed_by(&who, &action, name);
            reason.is_some_and(|reason| {
                by.insert(reason.to_string());
                true
            })
        };
        let mounts = named.filter(|(name, _)| may(name));
        let mounts: Vec<_> = mounts.map(|(_, found)| mount(found)).collect();
        let by: Vec<_> = by.into_iter().collect();
        caller.about.allowed_by(&by.join(", "));
        if mounts.is_empty() {
            caller.gave_nothing();
        }
        Ok(Response::new(ListMountsResponse { mounts }))
    }

    async fn create_mount(
        &self,
        request: Request<CreateMountRequest>,
    ) -> Result<Response<Mount>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        caller.about.say(&asked.name);
        mount_name(&asked.name)?;
        let kind = engine::kind(&asked.engine)?;
        let log = self.log(&caller, Detail::new().text("engine", kind.name));
        let made = self.0.mount(&asked.name, kind.name, log).await?;
        caller.recorded();
        Ok(Response::new(mount(&made)))
    }

    async fn delete_mount(
        &self,
        request: Request<DeleteMountRequest>,
    ) -> Result<Response<DeleteMountResponse>, Status> {
        let caller = Caller::of(&request)?;
        let DeleteMountRequest { name, confirm } = request.into_inner();
        caller.about.say(&name);
        mount_name(&name)?;
        if name == SYSTEM {
            return Err(EngineError::Precondition(SYSTEM_STAYS.to_owned()).into());
        }
        let meant = match &*confirm {
            "" => false,
            again if again == name => true,
            _ => {
                return Err(EngineError::field(
                    "confirm",
                    format!("repeat the mount's name, {name:?}"),
                )
                .into());
            }
        };
        let log = self.log(&caller, Detail::new().flag("confirmed", meant));
        self.0.unmount(&name, meant, log).await?;
        caller.recorded();
        Ok(Response::new(DeleteMountResponse {}))
    }

    async fn list_rules(
        &self,
        _: Request<ListRulesRequest>,
    ) -> Result<Response<ListRulesResponse>, Status> {
        let in_force = rules::in_force(&*self.0.open()?)?;
        let order: Vec<&str> = in_force.set.order().map(Name::as_str).collect();
        let mut all = in_force.rules.clone();
        all.sort_by_key(|rule| order.iter().position(|name| *name == rule.name));
        Ok(Response::new(ListRulesResponse {
            rules: all.into_iter().map(rules::message).collect(),
            unusable: in_force.unusable.clone().unwrap_or_default(),
            version: in_force.version,
        }))
    }

    async fn create_rule(
        &self,
        request: Request<CreateRuleRequest>,
    ) -> Result<Response<Rule>, Status> {
        let caller = Caller::of(&request)?;
        let CreateRuleRequest { rule, replace } = request.into_inner();
        let mut rule = rules::parse(rule.unwrap_or_default());
        caller.about.say(&rule.name);
        rules::check(&rule, kinds(&*self.0.open()?))?;
        self.bind(std::slice::from_mut(&mut rule)).await?;
        let (answer, detail) = (rules::message(rule.clone()), rules::detail(&rule));
        let put = move |all: &mut Vec<_>| rules::put(all, rule, replace);
        self.0.change_policy(&caller, false, detail, put).await?;
        Ok(Response::new(answer))
    }

    async fn delete_rule(
        &self,
        request: Request<DeleteRuleRequest>,
    ) -> Result<Response<DeleteRuleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        caller.about.say(&name);
        let delete = move |all: &mut Vec<_>| rules::delete(all, &name);
        let detail = Detail::new();
        self.0.change_policy(&caller, false, detail, delete).await?;
        Ok(Response::new(DeleteRuleResponse {}))
    }

    async fn replace_rules(
        &self,
        request: Request<ReplaceRulesRequest>,
    ) -> Result<Response<ReplaceRulesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ReplaceRulesRequest { rules, version } = request.into_inner();
        let mut next: Vec<_> = rules.into_iter().map(rules::parse).collect();
        let kind = kinds(&*self.0.open()?);
        next.iter().try_for_each(|rule| rules::check(rule, &kind))?;
        self.bind(&mut next).await?;
        let detail = Detail::new().list("rules", next.iter().map(|rule| &*rule.name));
        let open = self.0.open()?;
        let replace = move |all: &mut Vec<_>| {
            if let Some(seen) = version
                && seen != rules::in_force(&open)?.version
            {
                return Err(EngineError::Changed);
            }
            *all = next;
            Ok(())
        };
        self.0.change_policy(&caller, true, detail, replace).await?;
        Ok(Response::new(ReplaceRulesResponse {}))
    }

    async fn audit_hash(
        &self,
        request: Request<AuditHashRequest>,
    ) -> Result<Response<AuditHashResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        if asked.input.is_empty() {
            return Err(EngineError::field("input", "the secret that is looked for").into());
        }
        // Until the key is used: sealing waits for the rows that are being looked at.
        let open = self.0.open()?;
        let (prints, held) = (open.prints(), open.clone());
        let detail = prints
            .noted(Detail::new(), &asked)
            .map_err(EngineError::from)?;
        let look = move |db: &Connection| -> Result<_, EngineError> {
            let goes_on = || open.goes_on();
            Ok(log::with(db, &prints, &asked.input, asked.before, goes_on)?)
        };
        // Nor for the turn of this one.
        let look = self.0.seal.store().read_long(look);
        let (found, left) = held.unless_closed(look).await?;
        drop(held);
        let number = found.len();
        let entries = entries(found);
        let left = match entries.last() {
            Some(last) if entries.len() < number => last.number,
            _ => left.unwrap_or_default(),
        };
        self.done(&caller, detail).await?;
        Ok(Response::new(AuditHashResponse {
            entries,
            before: left,
        }))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let caller = Caller::of(&request)?;
        let store = self.0.seal.store();
        let (directory, now) = (archive::backups(store.path()), self.0.seal.clock().now());
        // All that it copies is encrypted: sealing does not wait for it.
        let copy = move |db: &Connection| {
            let made = archive::snapshot(SERVICE.name, db, &directory, now);
            made.map_err(|error| EngineError::Precondition(chain(&error)))
        };
        let path = store.copy(copy).await?.display().to_string();
        caller.about.say(&path);
        self.done(&caller, Detail::new()).await?;
        Ok(Response::new(SnapshotResponse { path }))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let (caller, mut asked) = (Caller::of(&request)?, request.into_inner());
        caller.about.say(&asked.resource);
        subject(&asked)?;
        let mut note = String::new();
        if let Some(mcias) = self.0.mcias.get()
            && let Some(none) = rules::find(mcias, &mut asked.account).await?
        {
            note = format!("{none}; it was judged as {}", judged(&asked));
        }
        let subject = subject(&asked)?;
        let kinds = kinds(&*self.0.open()?);
        let (action, on) = question(&asked.action, &asked.resource, kinds)?;
        let why = rules::of(&*self.0.open()?)?.explain(&subject, &action, &on);
        let detail = Detail::new()
            .text("account", &asked.account)
            .text("action", &asked.action)
            .text("reason", &why.decision.reason.to_string());
        self.done(&caller, detail).await?;
        Ok(Response::new(ExplainResponse {
            allowed: why.decision.effect == Effect::Allow,
            reason: why.decision.reason.to_string(),
            why: why.why.iter().map(ToString::to_string).collect(),
            note,
        }))
    }

    async fn can_i(&self, request: Request<CanIRequest>) -> Result<Response<CanIResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        caller.about.say(&asked.resource);
        let who = Subject::try_from(identity(&caller)?).map_err(Refused::from);
        let who = who.map_err(EngineError::from)?;
        let open = self.0.open()?;
        let policy = rules::of(&open)?;
        // Of other mounts who asks is not told what they are, or that they are.
        let reads = |mount: &ResourceName| {
            let mount = Resource::from(mount.clone());
            let by = policy.allowed_by(&who, &rules::READ_MOUNT.typed(), &mount);
            by.is_some()
        };
        let kinds = kinds(&open);
        let kind = |mount: &str| kinds(mount).filter(|_| mount.parse().is_ok_and(|m| reads(&m)));
        let (action, on) = question(&asked.action, &asked.resource, kind)?;
        let judged = policy.authorize(&who, &action, &on);
        let reason = match &judged {
            Ok(allowed) => allowed.reason(),
            Err(denied) => &denied.reason,
        };
        caller.about.allowed_by(&format!("{action}: {reason}"));
        // Its row counts as a failure's does: who may do nothing could write as many as he likes.
        caller.gave_nothing();
        Ok(Response::new(CanIResponse {
            allowed: judged.is_ok(),
        }))
    }
}
