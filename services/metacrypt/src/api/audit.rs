//! The audit log, for who may read it.

use std::time::SystemTime;

use mc_proto::metacrypt::v1::{
    AuditEntry, ListAuditRequest, ListAuditResponse, VerifyAuditRequest, VerifyAuditResponse,
    audit_log_server::AuditLog,
};
use mcdsl::{
    audit::{self, Detail, MAX_PAGE, Record, Wanted},
    policy::{Refused, ResourceName, Subject},
    server::Caller,
};
use prost_types::Timestamp;
use rusqlite::Connection;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::{
    barrier::{SYSTEM, SealError},
    engine::EngineError,
    entered::identity,
    policy::{self, READ_AUDIT},
    start::SERVICE,
};

/// Entries of an answer, if nothing is said.
const ENTRIES: usize = 100;

/// Bytes of what entries of an answer say.
const MAX_BYTES: usize = 1 << 20;

/// The rows that somebody asks for.
///
/// # Errors
/// The field that cannot be.
pub(crate) fn wanted(asked: ListAuditRequest) -> Result<Wanted, EngineError> {
    let time = |field, time: Option<Timestamp>| {
        let time = time.map(SystemTime::try_from).transpose();
        time.map_err(|_| EngineError::field(field, "it is no time"))
    };
    let limit = match asked.limit {
        0 => ENTRIES,
        some => usize::try_from(some).map_or(MAX_PAGE, |some| some.min(MAX_PAGE)),
    };
    Ok(Wanted {
        since: time("since", asked.since)?,
        until: time("until", asked.until)?,
        account: asked.account,
        action: asked.action,
        outcomes: audit::outcomes_of(&asked.outcome)
            .map_err(|wrong| EngineError::field("outcome", wrong))?,
        before: asked.before,
        limit,
    })
}

/// A row as it is answered.
pub(crate) fn entry(record: Record) -> AuditEntry {
    AuditEntry {
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
    }
}

/// Rows as they are answered: as many of the first ones as fit into a message, and one at least.
pub(crate) fn entries(records: Vec<Record>) -> Vec<AuditEntry> {
    let mut bytes = 0;
    let fit = records.iter().take_while(|record| {
        bytes += record.resource.len() + record.detail.len();
        bytes <= MAX_BYTES
    });
    let number = fit.count().max(1);
    records.into_iter().take(number).map(entry).collect()
}

/// Looks whether a log is as it was written; and whether it is only the caller's own word that it is not.
///
/// # Errors
/// If what is known of it is nothing, or the database cannot be read.
pub(crate) fn verify(
    db: &Connection,
    asked: &VerifyAuditRequest,
) -> Result<(VerifyAuditResponse, bool), EngineError> {
    let known = audit::known(asked.known_number, &asked.known_hash);
    let known = known.map_err(|wrong| EngineError::field("known_hash", wrong))?;
    let checked = audit::examine(db, known).map_err(|error| match error {
        audit::VerifyError::Sqlite(error) => EngineError::from(SealError::from(error)),
        other => EngineError::Precondition(other.to_string()),
    })?;
    let rows = checked.head.map_or(0, |head| head.seq);
    let answer = VerifyAuditResponse {
        intact: checked.problem.is_none(),
        problem: checked.problem.unwrap_or_default(),
        rows,
        head_number: rows,
        head_hash: checked
            .head
            .map_or_else(String::new, |head| mcdsl::human::hex(&head.hash)),
    };
    Ok((answer, checked.by_what_was_noted))
}

impl Api {
    /// Waits for what is read of the log, and no longer once the seal is being closed.
    async fn read_log<T, E: Into<EngineError>>(
        &self,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, EngineError> {
        let open = self.0.open()?;
        open.unless_closed(async { read.await.map_err(Into::into) })
            .await
    }

    /// Lets the caller read the log; by what he may, for its row.
    fn reader(&self, caller: &Caller) -> Result<Detail, EngineError> {
        let on = ResourceName::of([SYSTEM, "audit"]).map_err(Refused::from)?;
        caller.about.say(on.as_str());
        let who = Subject::try_from(identity(caller)?).map_err(Refused::from)?;
        let judged = policy::of(&*self.0.open()?)?.authorize(&who, &READ_AUDIT.typed(), &on.into());
        let allowed = judged.map_err(|denied| {
            caller.about.refused_by(&denied.reason.to_string());
            Refused::from(denied)
        })?;
        Ok(Detail::new().text("by", &allowed.reason().to_string()))
    }
}

#[async_trait]
impl AuditLog for Api {
    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let mut detail = self.reader(&caller)?;
        for (name, text) in [("account", &asked.account), ("action", &asked.action)] {
            if !text.is_empty() {
                detail = detail.text(name, text);
            }
        }
        let wanted = wanted(asked)?;
        let read = move |db: &Connection| -> Result<_, SealError> {
            Ok(audit::search(db, SERVICE.package, wanted)?)
        };
        let found = self.read_log(self.0.seal.store().search(read)).await?;
        self.done(&caller, detail).await?;
        Ok(Response::new(ListAuditResponse {
            entries: entries(found),
        }))
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        let (caller, asked) = (Caller::of(&request)?, request.into_inner());
        let detail = self.reader(&caller)?;
        let read = move |db: &Connection| verify(db, &asked);
        let read = self.0.seal.store().read_long(read);
        let (answer, by_the_caller) = self.read_log(read).await?;
        // What a caller says that he has noted is no flaw for everybody, nor does it clear one.
        match answer.intact {
            true => self.0.log_flaw.store(None),
            false if by_the_caller => {}
            false => {
                let problem = std::sync::Arc::new(answer.problem.clone());
                self.0.log_flaw.store(Some(problem));
                tracing::error!(
                    problem = answer.problem,
                    "the audit log is not as it was written"
                );
            }
        }
        self.done(&caller, detail.flag("intact", answer.intact))
            .await?;
        Ok(Response::new(answer))
    }
}
