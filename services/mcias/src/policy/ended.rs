//! Logins that a change leaves without the policy's leave. They end with it, as revoked ones do: until their tokens expire services would take
//! them.

use std::collections::HashMap;

use mcdsl::policy::{Resource, Subject};
use rusqlite::params;

use super::{LoginPolicy, resource, subject};
use crate::{
    account::{self, Account},
    core::Change,
    error::Error,
    service::{self, Service},
    session,
};

/// Logins that one change ends, each by a revocation of its own: a second of the database's time.
const MAX_ENDED: usize = 10_000;

/// What is otherwise since the change, as it was before.
pub(crate) enum Was<'w> {
    Policy(&'w LoginPolicy),
    Account(&'w Account),
    Service(&'w Service),
}

/// Ends the logins that the policy, as it is now, does not let go on: of whom it keeps out, and of whom it asks for a second factor that it did not
/// ask for before, if the login has shown none. How many, which the log says too. A login that has a factor to enrol since its beginning goes on
/// to that.
///
/// # Errors
/// If they are more than one change may end.
pub(crate) fn end_denied(
    change: &mut Change<'_>,
    policy: &LoginPolicy,
    was: &Was<'_>,
) -> Result<u64, Error> {
    let denied = denied(change, policy, was)?;
    if denied.len() > MAX_ENDED {
        return Err(Error::precondition(format!(
            "more than {MAX_ENDED} logins would end by it; end all of them first, which is one revocation (`mciasctl revoke --everything`)"
        )));
    }
    if denied.is_empty() {
        return Ok(0);
    }
    let before = session::count(change.tx, change.now)?;
    for (account, id) in denied {
        session::end(change, &account, &id)?;
    }
    let ended = before.saturating_sub(session::count(change.tx, change.now)?);
    change.note(|detail| detail.number("ended_logins", ended.cast_signed()));
    Ok(ended)
}

/// Account and id of each, [`MAX_ENDED`] and one at most.
fn denied(
    change: &Change<'_>,
    policy: &LoginPolicy,
    was: &Was<'_>,
) -> Result<Vec<(String, String)>, Error> {
    let services = service::list(change.tx)?;
    let services: HashMap<String, Resource> = services
        .into_iter()
        .map(|service| Ok((service.name.clone(), resource(&service)?)))
        .collect::<Result<_, Error>>()?;
    let (of, to) = match was {
        Was::Policy(_) => (None, None),
        Was::Account(account) => (Some(&account.id), None),
        Was::Service(service) => (None, Some(&service.name)),
    };
    let old_subject = match was {
        Was::Account(account) => Some(subject(account)?),
        _ => None,
    };
    let old_resource = match was {
        Was::Service(service) => Some(resource(service)?),
        _ => None,
    };
    let sql = "SELECT id, account, service, EXISTS (SELECT 1 FROM json_each(methods) WHERE value = 'mfa') FROM session
        WHERE (?1 IS NULL OR account = ?1) AND (?2 IS NULL OR service = ?2) ORDER BY account";
    let mut all = change.tx.prepare_cached(sql)?;
    let mut rows = all.query(params![of, to])?;
    let mut who: Option<Subject> = None;
    let mut denied = Vec::new();
    while let Some(row) = rows.next()?
        && denied.len() <= MAX_ENDED
    {
        let (account, service): (String, String) = (row.get(1)?, row.get(2)?);
        if who
            .as_ref()
            .is_none_or(|who| who.account.as_str() != account)
        {
            let account = account::by_id(change.tx, &account)?;
            who = account.as_ref().map(subject).transpose()?;
        }
        let (Some(subject), Some(to)) = (&who, services.get(&service)) else {
            continue;
        };
        let now = policy.answer(subject, to);
        let was = match was {
            Was::Policy(before) => before.answer(subject, to),
            _ => policy.answer(
                old_subject.as_ref().unwrap_or(subject),
                old_resource.as_ref().unwrap_or(to),
            ),
        };
        let unshown = now.second_factor && !was.second_factor && !row.get::<_, bool>(3)?;
        if !now.allowed || unshown {
            denied.push((account, row.get(0)?));
        }
    }
    Ok(denied)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mc_proto::mcias::v1::Rule;
    use rusqlite::Transaction;
    use tempfile::TempDir;
    use tonic::Code;

    use super::*;
    use crate::{
        by::By,
        core::{Mcias, testing::mcias},
        policy::{first, insert},
        time::unix,
    };

    /// A service, an administrator, and so many people who are logged in to the wiki.
    async fn with_logins(people: i64) -> (TempDir, Arc<Mcias>) {
        let (directory, mcias) = mcias().await;
        let now = unix(mcias.now());
        let fill = move |tx: &Transaction<'_>| {
            for rule in first() {
                insert(tx, &rule)?;
            }
            tx.execute_batch(
                "INSERT INTO service SELECT value, '[]', '[]', '[]', 0, NULL, '' FROM json_each('[\"mcias\", \"wiki\"]');
                INSERT INTO account (id, name, type, status, second_factor_required, created_s, password)
                    VALUES ('admin-id', 'admin', 'human', 'active', 0, 0, 'a hash');
                INSERT INTO account_role VALUES ('admin-id', 'admin');",
            )?;
            let each =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
            for sql in [
                "INSERT INTO account (id, name, type, status, second_factor_required, created_s)
                    SELECT 'id-' || i, 'person-' || i, 'human', 'active', 0, 0 FROM n",
                "INSERT INTO account_role SELECT 'id-' || i, 'user' FROM n",
            ] {
                tx.execute(&format!("{each} {sql}"), [people])?;
            }
            let sql = "INSERT INTO session SELECT 'login-' || i, 'id-' || i, 'wiki', 'token-' || i, ?2, ?2, ?2 + 3600, ?2 + 9999, '', '', '[\"pwd\"]'
                FROM n";
            tx.execute(&format!("{each} {sql}"), [people, now])?;
            Ok::<_, Error>(())
        };
        mcias.store.write(fill).await.unwrap();
        (directory, mcias)
    }

    async fn keep_out(mcias: &Arc<Mcias>, role: &str) -> Result<u64, Error> {
        let by = By::path("/test", [192, 0, 2, 1].into(), None);
        let rule = Rule {
            name: "out".to_owned(),
            priority: 1,
            deny: true,
            roles: vec![role.to_owned()],
            services: vec!["wiki".to_owned()],
            ..Rule::default()
        };
        let set = mcias.set_rule(&by, rule, false, false).await;
        set.map(|(_, ended)| ended)
    }

    #[tokio::test]
    async fn a_change_ends_a_bounded_number_of_logins() {
        let most = i64::try_from(MAX_ENDED).unwrap();
        let (_directory, mcias) = with_logins(most + 1).await;
        assert_eq!(
            keep_out(&mcias, "guest").await.unwrap(),
            0,
            "all are asked of"
        );
        let refused = keep_out(&mcias, "user").await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let count = || {
            let mcias = Arc::clone(&mcias);
            async move {
                let count = |db: &rusqlite::Connection| {
                    let now = std::time::SystemTime::UNIX_EPOCH;
                    Ok::<_, Error>(session::count(db, now)?)
                };
                mcias.store.read(count).await.unwrap()
            }
        };
        assert_eq!(count().await, MAX_ENDED as u64 + 1, "nothing is done");
        assert!(mcias.revocations.state().revocations.is_empty());
        let one_less = |tx: &Transaction<'_>| {
            Ok::<_, Error>(tx.execute("DELETE FROM session WHERE id = 'login-1'", [])?)
        };
        mcias.store.write(one_less).await.unwrap();
        assert_eq!(keep_out(&mcias, "user").await.unwrap(), MAX_ENDED as u64);
        assert_eq!(count().await, 0);
        assert_eq!(mcias.revocations.state().revocations.len(), MAX_ENDED);
    }
}
