//! Login policy, services, the audit log, operations.

use std::{sync::Arc, time::SystemTime};

use mc_proto::mcias::v1::{
    AuditEntry, DeleteRuleRequest, DeleteRuleResponse, DeleteServiceRequest, DeleteServiceResponse,
    ExplainRequest, ExplainResponse, GetStatusRequest, ListAuditRequest, ListAuditResponse,
    ListRulesRequest, ListRulesResponse, ListServicesRequest, ListServicesResponse, PutRuleRequest,
    PutServiceRequest, PutServiceResponse, RotateKeyRequest, RotateKeyResponse, Rule,
    SnapshotRequest, SnapshotResponse, Status as StatusMessage, VerifyAuditRequest,
    VerifyAuditResponse, administration_server::Administration,
};
use mcdsl::{
    archive,
    audit::{self, Filter, Head},
    cli::chain,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{Api, page};
use crate::{
    account::{self, MAX_TAGS},
    core::{Change, Mcias},
    error::Error,
    keys, policy,
    random::hex,
    service,
    session::{end_session, sessions_of},
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
                .read(|db: &Connection| policy::rules(db))
                .await?;
            let rules = rules.into_iter().map(policy::message).collect();
            Ok(ListRulesResponse { rules })
        };
        self.answer(request, list).await
    }

    async fn put_rule(&self, request: Request<PutRuleRequest>) -> Result<Response<Rule>, Status> {
        let put = |mcias: Arc<Mcias>, caller, asked: PutRuleRequest| async move {
            let rule = asked
                .rule
                .ok_or_else(|| Error::invalid("rule: it is missing"))?;
            let stored = policy::parse(rule)?;
            let write = move |change: &mut Change<'_>| {
                change.resource.clone_from(&stored.rule.name);
                policy::put(change.tx, &stored)?;
                change.read_again();
                Ok(policy::message(stored))
            };
            mcias.write(&caller, write).await
        };
        self.answer(request, put).await
    }

    async fn delete_rule(
        &self,
        request: Request<DeleteRuleRequest>,
    ) -> Result<Response<DeleteRuleResponse>, Status> {
        let delete = |mcias: Arc<Mcias>, caller, asked: DeleteRuleRequest| async move {
            let write = move |change: &mut Change<'_>| {
                change.resource = asked.name.chars().take(256).collect();
                policy::delete(change.tx, &asked.name)?;
                change.read_again();
                Ok(())
            };
            mcias.write(&caller, write).await?;
            Ok(DeleteRuleResponse {})
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
            let services = services.into_iter().map(service::message).collect();
            Ok(ListServicesResponse { services })
        };
        self.answer(request, list).await
    }

    async fn put_service(
        &self,
        request: Request<PutServiceRequest>,
    ) -> Result<Response<PutServiceResponse>, Status> {
        let put = |mcias: Arc<Mcias>, caller, asked: PutServiceRequest| async move {
            let message = asked
                .service
                .ok_or_else(|| Error::invalid("service: it is missing"))?;
            let service = service::parse(message)?;
            let write = move |change: &mut Change<'_>| {
                change.resource.clone_from(&service.name);
                let (service, secret) = service::put(change.tx, service, asked.new_secret)?;
                // Rules may go by this service's own tags.
                policy::check_admin_left(change.tx)?;
                change.note(|detail| {
                    let uris = service.redirect_uris.iter().map(String::as_str);
                    detail
                        .list("redirect_uris", uris)
                        .flag("new_secret", secret.is_some())
                });
                Ok((service, secret))
            };
            let (service, secret) = mcias.write(&caller, write).await?;
            Ok(PutServiceResponse {
                service: Some(service::message(service)),
                client_secret: secret.unwrap_or_default(),
            })
        };
        self.answer(request, put).await
    }

    async fn delete_service(
        &self,
        request: Request<DeleteServiceRequest>,
    ) -> Result<Response<DeleteServiceResponse>, Status> {
        let delete = |mcias: Arc<Mcias>, caller, asked: DeleteServiceRequest| async move {
            let write = move |change: &mut Change<'_>| {
                change.resource = asked.name.chars().take(64).collect();
                service::delete(change.tx, &change.resource)?;
                end_sessions_of(change, &asked.name)
            };
            mcias.write(&caller, write).await?;
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
            let directory = archive::backups(mcias.store.path());
            let read = move |db: &Connection| {
                let made =
                    archive::snapshot(crate::SERVICE, db, &[], &directory, SystemTime::now());
                made.map_err(|e| Error::precondition(chain(&e)))
            };
            let path = mcias.store.read(read).await?.display().to_string();
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

/// Ends the logins to a service that is gone.
fn end_sessions_of(change: &mut Change<'_>, service: &str) -> Result<(), Error> {
    for session in sessions_of(change.tx, service)? {
        end_session(change, &session)?;
    }
    Ok(())
}

async fn explain(mcias: Arc<Mcias>, asked: ExplainRequest) -> Result<ExplainResponse, Error> {
    if asked.tags.len() > MAX_TAGS {
        return Err(Error::invalid(format!("tags: more than {MAX_TAGS}")));
    }
    let policy = mcias.policy();
    let read = move |db: &Connection| {
        let account = account::named(db, &asked.account)?;
        let mut service = service::named(db, &asked.service)?;
        if !asked.tags.is_empty() {
            service.tags = asked.tags;
        }
        let verdict = policy.judge(&account, &service)?;
        let decision = &verdict.explanation.decision;
        let mut why = vec![match account.status {
            account::Status::Active => format!("the account is active; {}", decision.reason),
            other => format!("the account is {}, and logs in nowhere", other.as_str()),
        }];
        let rules = verdict.explanation.why.iter();
        why.extend(rules.map(ToString::to_string));
        Ok::<_, Error>(ExplainResponse {
            allowed: verdict.allowed && account.status == account::Status::Active,
            second_factor: verdict.asks(&account),
            rule: decision.rule().map(ToString::to_string).unwrap_or_default(),
            why,
        })
    };
    mcias.store.read(read).await
}

async fn list_audit(
    mcias: Arc<Mcias>,
    asked: ListAuditRequest,
) -> Result<ListAuditResponse, Error> {
    let time = |field: &str, time: Option<prost_types::Timestamp>| {
        let time = time.map(SystemTime::try_from).transpose();
        time.map_err(|_| Error::invalid(format!("{field}: it is no time")))
    };
    let (since, until) = (time("since", asked.since)?, time("until", asked.until)?);
    let read = move |db: &Connection| {
        // By name, or by the id of one that is gone.
        let id = match asked.account.as_str() {
            "" => None,
            name => Some(
                account::by_name(db, name)?.map_or_else(|| name.to_owned(), |account| account.id),
            ),
        };
        let filter = Filter {
            account: id,
            action: Some(asked.action).filter(|action| !action.is_empty()),
            outcome: None,
            since,
            until,
            before_seq: Some(asked.before).filter(|before| *before > 0),
            limit: Some(page(asked.limit)),
        };
        let records = audit::query(db, &filter)?;
        Ok::<_, Error>(records)
    };
    let records = mcias.store.read(read).await?;
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
    let known = match (asked.known_number, asked.known_hash.as_str()) {
        (0, "") => None,
        (seq, hash) => Some(Head {
            seq,
            hash: unhex(hash).ok_or_else(|| {
                Error::invalid("known_hash: 64 hexadecimal digits, with known_number")
            })?,
        }),
    };
    let read = move |db: &Connection| {
        let verified = audit::verify(db, known);
        Ok::<_, Error>((verified, audit::head(db)?))
    };
    let (verified, head) = mcias.store.read(read).await?;
    let problem = match verified {
        Ok(_) => String::new(),
        Err(audit::VerifyError::Tampered(tampering)) => tampering.to_string(),
        Err(other) => return Err(other.into()),
    };
    Ok(VerifyAuditResponse {
        intact: problem.is_empty(),
        problem,
        rows: head.as_ref().map_or(0, |head| head.seq),
        head_number: head.as_ref().map_or(0, |head| head.seq),
        head_hash: head.map_or(String::new(), |head| hex(&head.hash)),
    })
}

async fn status(mcias: Arc<Mcias>) -> Result<StatusMessage, Error> {
    let read = |db: &Connection| {
        let count = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let now = unix(SystemTime::now());
        let accounts = count("SELECT count(*) FROM account")?;
        let sql = "SELECT count(*) FROM session WHERE expires_s > ?1";
        let sessions: i64 = db.query_row(sql, [now], |row| row.get(0))?;
        Ok::<_, Error>((accounts, sessions))
    };
    let (accounts, sessions) = mcias.store.read(read).await?;
    let tls = mcias.server.get().map(|server| server.tls());
    let keys = mcias.keys();
    Ok(StatusMessage {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: Some(mcias.started.into()),
        certificate_expires: tls.as_ref().map(|tls| tls.not_after.into()),
        certificate_error: tls.and_then(|tls| tls.error).unwrap_or_default(),
        accounts: u64::try_from(accounts).unwrap_or(0),
        sessions: u64::try_from(sessions).unwrap_or(0),
        services_watching: mcias.revocations.watchers() as u64,
        signing_key: keys.kid.clone(),
        signing_key_created: Some(keys.created.into()),
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
