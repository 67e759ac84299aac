//! Mounts and the policy.

use std::collections::BTreeSet;

use mc_proto::{
    AccountType,
    metacrypt::v1::{
        CreateMountRequest, CreateRuleRequest, DeleteMountRequest, DeleteMountResponse,
        DeleteRuleRequest, DeleteRuleResponse, Engine, ExplainRequest, ExplainResponse,
        ListEnginesRequest, ListEnginesResponse, ListMountsRequest, ListMountsResponse,
        ListRulesRequest, ListRulesResponse, Mount, Rule, system_server::System,
    },
};
use mcdsl::{
    auth::token::type_name,
    policy::{self, Effect, Name, Refused, Resource, ResourceName, Subject, SubjectError},
    server::Caller,
};
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::{
    barrier,
    engine::{self, EngineError, KINDS},
    entered::identity,
    policy as rules,
};

/// What rules name to show a mount.
const READ_MOUNT: &str = "mount:read";
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
    let account = name("account", &asked.account)?;
    Ok(Subject {
        account: account.clone(),
        name: account,
        account_type: of_type
            .ok_or_else(|| EngineError::field("account_type", "`human` or `system`"))?,
        roles: names("roles", &asked.roles)?,
        tags: names("tags", &asked.tags)?,
    })
}

#[async_trait]
impl System for Api {
    async fn list_engines(
        &self,
        _: Request<ListEnginesRequest>,
    ) -> Result<Response<ListEnginesResponse>, Status> {
        let owned = |action: &&str| (*action).to_owned();
        let engines = KINDS.iter().map(|kind| Engine {
            name: kind.name.to_owned(),
            description: kind.description.to_owned(),
            actions: kind.actions.iter().map(owned).collect(),
        });
        Ok(Response::new(ListEnginesResponse {
            engines: engines.collect(),
        }))
    }

    async fn list_mounts(
        &self,
        request: Request<ListMountsRequest>,
    ) -> Result<Response<ListMountsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let open = self.0.open().await?;
        let who = Subject::try_from(identity(&caller)?).map_err(Refused::from)?;
        let action = READ_MOUNT.parse().map_err(Refused::from)?;
        let policy = rules::of(&open)?;
        let mut mounts = Vec::new();
        for (name, found) in open.mounts() {
            let name: ResourceName = name.parse().map_err(Refused::from)?;
            if policy
                .authorize(&who, &action, &Resource::from(name))
                .is_ok()
            {
                mounts.push(mount(found));
            }
        }
        Ok(Response::new(ListMountsResponse { mounts }))
    }

    async fn create_mount(
        &self,
        request: Request<CreateMountRequest>,
    ) -> Result<Response<Mount>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        mount_name(&asked.name)?;
        caller.about.say(&asked.name);
        let kind = engine::kind(&asked.engine)?;
        let log = self.log(&caller);
        let made = self.0.mount(&asked.name, kind.name, log, mount).await?;
        caller.recorded();
        Ok(Response::new(made))
    }

    async fn delete_mount(
        &self,
        request: Request<DeleteMountRequest>,
    ) -> Result<Response<DeleteMountResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        mount_name(&name)?;
        caller.about.say(&name);
        self.0.unmount(&name, self.log(&caller)).await?;
        caller.recorded();
        Ok(Response::new(DeleteMountResponse {}))
    }

    async fn list_rules(
        &self,
        _: Request<ListRulesRequest>,
    ) -> Result<Response<ListRulesResponse>, Status> {
        let open = self.0.open().await?;
        let order: Vec<String> = rules::of(&open)?.order().map(ToString::to_string).collect();
        let read = move |db: &rusqlite::Connection| -> Result<_, EngineError> {
            rules::rules(&rules::system(&open)?.items(db))
        };
        let mut found = self.0.seal.store().read(read).await?;
        found.sort_by_key(|rule| order.iter().position(|name| *name == rule.name));
        let found = found.into_iter().map(rules::message);
        Ok(Response::new(ListRulesResponse {
            rules: found.collect(),
        }))
    }

    async fn create_rule(
        &self,
        request: Request<CreateRuleRequest>,
    ) -> Result<Response<Rule>, Status> {
        let caller = Caller::of(&request)?;
        let CreateRuleRequest { rule, replace } = request.into_inner();
        let rule = rules::parse(rule.unwrap_or_default());
        caller.about.say(&rule.name);
        let answer = rules::message(rule.clone());
        let put = move |items: &barrier::Items<'_>| rules::put(items, &rule, replace);
        self.0.change_policy(self.log(&caller), put).await?;
        caller.recorded();
        Ok(Response::new(answer))
    }

    async fn delete_rule(
        &self,
        request: Request<DeleteRuleRequest>,
    ) -> Result<Response<DeleteRuleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        caller.about.say(&name);
        let delete = move |items: &barrier::Items<'_>| rules::delete(items, &name);
        self.0.change_policy(self.log(&caller), delete).await?;
        caller.recorded();
        Ok(Response::new(DeleteRuleResponse {}))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let asked = request.into_inner();
        let subject = subject(&asked)?;
        let action = asked.action.parse();
        let action = action.map_err(|e| EngineError::field("action", e))?;
        let on = asked.resource.parse::<ResourceName>();
        let on = on.map_err(|e| EngineError::field("resource", e))?;
        let open = self.0.open().await?;
        let why = rules::of(&open)?.explain(&subject, &action, &on.into());
        Ok(Response::new(ExplainResponse {
            allowed: why.decision.effect == Effect::Allow,
            reason: why.decision.reason.to_string(),
            why: why.why.iter().map(ToString::to_string).collect(),
        }))
    }
}
