//! Login policy, services, the audit log, operations.

use std::{sync::Arc, time::SystemTime};

use mc_proto::mcias::v1::{
    AuditEntry, DeleteRuleRequest, DeleteRuleResponse, DeleteServiceRequest, DeleteServiceResponse,
    ExplainRequest, ExplainResponse, GetServiceRequest, GetStatusRequest, LiftBanRequest,
    LiftBanResponse, ListAuditRequest, ListAuditResponse, ListBansRequest, ListBansResponse,
    ListRulesRequest, ListRulesResponse, ListServicesRequest, ListServicesResponse, PutRuleRequest,
    PutRuleResponse, PutServiceRequest, PutServiceResponse, RotateKeyRequest, RotateKeyResponse,
    Service, SnapshotRequest, SnapshotResponse, Status as StatusMessage, VerifyAuditRequest,
    VerifyAuditResponse, administration_server::Administration,
};
use mcdsl::{
    archive,
    audit::{self, Wanted},
    certificate::ends_soon,
    cli::chain,
    db::Store,
    server::{Caller, little_left},
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{Api, page};
use crate::{
    bans,
    by::By,
    core::{Change, Mcias},
    error::Error,
    keys,
    policy::{self, explain::Why},
    random::hex,
    service,
    time::unix,
};

#[tonic::async_trait]
impl Administration for Api {
    async fn list_rules(
        &self,
        request: Request<ListRulesRequest>,
    ) -> Result<Response<ListRulesResponse>, Status> {
        let list = |mcias: Arc<Mcias>, _, _| async move {
            let rules = mcias
                .store
                .read(|db: &Connection| policy::change::in_order(db))
                .await?;
            let rules = rules.into_iter().map(policy::message).collect();
            Ok(ListRulesResponse { rules })
        };
        self.answer(request, list).await
    }

    async fn put_rule(
        &self,
        request: Request<PutRuleRequest>,
    ) -> Result<Response<PutRuleResponse>, Status> {
        let put = |mcias: Arc<Mcias>, caller: Caller, asked: PutRuleRequest| async move {
            let rule = asked
                .rule
                .ok_or_else(|| Error::invalid("rule: it is missing"))?;
            let by = By::from(&caller);
            let setting = mcias.set_rule(&by, rule, false, asked.allow_everybody);
            let (stored, ended_logins) = setting.await?;
            Ok(PutRuleResponse {
                rule: Some(policy::message(stored)),
                ended_logins,
            })
        };
        self.answer(request, put).await
    }

    async fn delete_rule(
        &self,
        request: Request<DeleteRuleRequest>,
    ) -> Result<Response<DeleteRuleResponse>, Status> {
        let delete = |mcias: Arc<Mcias>, caller: Caller, asked: DeleteRuleRequest| async move {
            let by = By::from(&caller);
            let deleting = mcias.delete_rule(&by, asked.name, asked.allow_everybody);
            let ended_logins = deleting.await?;
            Ok(DeleteRuleResponse { ended_logins })
        };
        self.answer(request, delete).await
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        self.answer(request, |mcias, _, asked| explain(mcias, asked))
            .await
    }

    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let list = |mcias: Arc<Mcias>, _, _| async move {
            let read = |db: &Connection| Ok::<_, Error>(service::list(db)?);
            let services = mcias.store.read(read).await?;
            let message = |service| service::message(service, &mcias.issuer);
            let services = services.into_iter().map(message).collect();
            Ok(ListServicesResponse { services })
        };
        self.answer(request, list).await
    }

    async fn get_service(
        &self,
        request: Request<GetServiceRequest>,
    ) -> Result<Response<Service>, Status> {
        let get = |mcias: Arc<Mcias>, _, asked: GetServiceRequest| async move {
            let read = move |db: &Connection| service::named(db, &asked.name);
            Ok(service::message(
                mcias.store.read(read).await?,
                &mcias.issuer,
            ))
        };
        self.answer(request, get).await
    }

    async fn put_service(
        &self,
        request: Request<PutServiceRequest>,
    ) -> Result<Response<PutServiceResponse>, Status> {
        let put = |mcias: Arc<Mcias>, caller: Caller, asked: PutServiceRequest| async move {
            let message = asked
                .service
                .ok_or_else(|| Error::invalid("service: it is missing"))?;
            let by = By::from(&caller);
            let made = mcias.set_service(&by, message, false, asked.new_secret);
            let made = made.await?;
            Ok(PutServiceResponse {
                service: Some(service::message(made.service, &mcias.issuer)),
                client_secret: made.secret.unwrap_or_default(),
                ended_logins: made.ended,
            })
        };
        self.answer(request, put).await
    }

    async fn delete_service(
        &self,
        request: Request<DeleteServiceRequest>,
    ) -> Result<Response<DeleteServiceResponse>, Status> {
        let delete = |mcias: Arc<Mcias>, caller: Caller, asked: DeleteServiceRequest| async move {
            mcias.delete_service(&By::from(&caller), asked.name).await?;
            Ok(DeleteServiceResponse {})
        };
        self.answer(request, delete).await
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        self.answer(request, |mcias, _, asked| list_audit(mcias, asked))
            .await
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        self.answer(request, |mcias, _, asked| verify_audit(mcias, asked))
            .await
    }

    async fn list_bans(
        &self,
        request: Request<ListBansRequest>,
    ) -> Result<Response<ListBansResponse>, Status> {
        let list = |mcias: Arc<Mcias>, _, asked: ListBansRequest| async move {
            let now = mcias.now();
            let read = move |db: &Connection| {
                Ok::<_, Error>(bans::list(db, &asked, page(asked.limit), now)?)
            };
            mcias.store.read(read).await
        };
        self.answer(request, list).await
    }

    async fn lift_ban(
        &self,
        request: Request<LiftBanRequest>,
    ) -> Result<Response<LiftBanResponse>, Status> {
        let lift = |mcias: Arc<Mcias>, caller: Caller, asked: LiftBanRequest| async move {
            let network = mcias.lift_ban(&By::from(&caller), &asked.source).await?;
            Ok(LiftBanResponse {
                source: network.to_string(),
            })
        };
        self.answer(request, lift).await
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<StatusMessage>, Status> {
        self.answer(request, |mcias, _, _| status(mcias)).await
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let snapshot = |mcias: Arc<Mcias>, caller, _| async move {
            let (directory, now) = (archive::backups(mcias.store.path()), mcias.now());
            let read = move |db: &Connection| {
                let made = archive::snapshot(crate::SERVICE, db, &directory, now);
                made.map_err(|e| Error::precondition(chain(&e)))
            };
            let path = mcias.store.copy(read).await?.display().to_string();
            let resource = path.clone();
            let write = move |change: &mut Change<'_>| {
                change.resource = resource;
                Ok(())
            };
            mcias.write(&caller, write).await?;
            Ok(SnapshotResponse { path })
        };
        self.answer(request, snapshot).await
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let rotate = |mcias: Arc<Mcias>, caller, asked: RotateKeyRequest| async move {
            let this = Arc::clone(&mcias);
            let write = move |change: &mut Change<'_>| {
                if asked.drop_old {
                    change.tx.execute("DELETE FROM signing_key", [])?;
                    change.revoke_everything()?;
                }
                let kid = keys::create(change.tx, &this.seal, change.now)?;
                change.resource.clone_from(&kid);
                change.note(|detail| detail.flag("drop_old", asked.drop_old));
                change.read_again();
                Ok(kid)
            };
            let kid = mcias.write(&caller, write).await?;
            Ok(RotateKeyResponse { kid })
        };
        self.answer(request, rotate).await
    }
}

async fn explain(mcias: Arc<Mcias>, asked: ExplainRequest) -> Result<ExplainResponse, Error> {
    let explaining = mcias.explain(asked.account, asked.service, asked.tags);
    let explained = explaining.await?;
    Ok(ExplainResponse {
        allowed: explained.allowed,
        second_factor: explained.second_factor,
        rule: explained.rule.unwrap_or_default(),
        why: explained.why.iter().map(Why::sentence).collect(),
        reason: explained.reason,
        first: explained.first.into_iter().map(str::to_owned).collect(),
        notes: explained.notes,
        by_browser: explained.by_browser,
    })
}

async fn list_audit(
    mcias: Arc<Mcias>,
    asked: ListAuditRequest,
) -> Result<ListAuditResponse, Error> {
    let time = |field: &str, time: Option<prost_types::Timestamp>| {
        let time = time.map(SystemTime::try_from).transpose();
        time.map_err(|_| Error::invalid(format!("{field}: it is no time")))
    };
    let wanted = Wanted {
        since: time("since", asked.since)?,
        until: time("until", asked.until)?,
        account: asked.account,
        action: asked.action,
        outcomes: audit::outcomes_of(&asked.outcome)
            .map_err(|wrong| Error::invalid(format!("outcome: {wrong}")))?,
        before: asked.before,
        limit: page(asked.limit),
    };
    let records = mcias.audit(wanted).await?;
    let entries = records.into_iter().map(|record| AuditEntry {
        number: record.seq,
        time: Some(record.at().into()),
        account_id: record.account.unwrap_or_default(),
        account: record.name.unwrap_or_default(),
        source: record.source.unwrap_or_default(),
        action: record.action,
        resource: record.resource,
        outcome: record.outcome,
        detail: record.detail,
        hash: record.hash,
    });
    Ok(ListAuditResponse {
        entries: entries.collect(),
    })
}

async fn verify_audit(
    mcias: Arc<Mcias>,
    asked: VerifyAuditRequest,
) -> Result<VerifyAuditResponse, Error> {
    let checked = mcias.verify_audit(asked.known_number, &asked.known_hash);
    let checked = checked.await?;
    let rows = checked.head.as_ref().map_or(0, |head| head.seq);
    Ok(VerifyAuditResponse {
        intact: checked.problem.is_none(),
        problem: checked.problem.unwrap_or_default(),
        rows,
        head_number: rows,
        head_hash: checked.head.map_or(String::new(), |head| hex(&head.hash)),
    })
}

async fn status(mcias: Arc<Mcias>) -> Result<StatusMessage, Error> {
    let now = unix(mcias.now());
    let read = move |db: &Connection| {
        let count = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let accounts = count("SELECT count(*) FROM account")?;
        let sql = "SELECT count(*) FROM session WHERE expires_s > ?1";
        let sessions: i64 = db.query_row(sql, [now], |row| row.get(0))?;
        Ok::<_, Error>((accounts, sessions))
    };
    let (accounts, sessions) = mcias.store.read(read).await?;
    let tls = mcias.server.get().map(|server| server.tls());
    let mut warnings: Vec<_> = full(&mcias.store).into_iter().collect();
    let ends = (tls.as_ref()).and_then(|tls| ends_soon(tls.not_after, mcias.now()));
    warnings.extend(ends.map(|text| format!("server.tls_cert: {text}")));
    let keys = mcias.keys();
    Ok(StatusMessage {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: Some(mcias.started.into()),
        certificate_expires: tls.as_ref().map(|tls| tls.not_after.into()),
        certificate_error: tls.and_then(|tls| tls.error).unwrap_or_default(),
        accounts: u64::try_from(accounts).unwrap_or(0),
        sessions: u64::try_from(sessions).unwrap_or(0),
        services_watching: mcias.revocations.watchers() as u64,
        bans_watching: mcias.bans.watchers() as u64,
        signing_key: keys.kid.clone(),
        signing_key_created: Some(keys.created.into()),
        warnings,
    })
}

/// That nothing can be written, or soon cannot.
fn full(store: &Store) -> Option<String> {
    store.unwritable().or_else(|| little_left(store.path()))
}
