//! Another key in the place of an account's (RFC 8555 §7.3.5).

use aws_lc_rs::constant_time;
use mcdsl::audit::Detail;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        super::KIND,
        answer::Answer,
        jwk::Jwk,
        jws::{By, Jws, object},
        problem::Problem,
        request::Asked,
        store::AcmeAccount,
    },
    told,
};
use crate::{barrier::Items, engine::EngineError, entered::Entered};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rekey {
    account: String,
    old_key: Value,
}

/// keyChange: the account's key signs what the new one has signed.
pub(in super::super) async fn rekey(asked: Asked) -> Result<Answer, Problem> {
    let (id, account) = asked.account()?;
    let value: Value = asked.says()?;
    let inner = Jws::from_value(&value)?;
    let By::Key(key) = &inner.by else {
        return Err(Problem::malformed("payload: jwk: the new key is needed"));
    };
    inner.verify(key)?;
    if inner.url != asked.url || inner.nonce.is_some() {
        return Err(Problem::malformed(
            "payload: url: that of keyChange; and no nonce",
        ));
    }
    let says: Rekey =
        object(&inner.payload).map_err(|e| Problem::malformed(format!("payload: payload: {e}")))?;
    let own = format!("{}/acct/{id}", asked.here.base);
    let old = Jwk::from_value(&says.old_key).map_err(|e| Problem::malformed(e.to_string()))?;
    let same = constant_time::verify_slices_are_equal(
        old.to_string().as_bytes(),
        account.key.to_string().as_bytes(),
    );
    if says.account != own || same.is_err() {
        return Err(Problem::malformed(
            "payload: account and oldKey have to be those of the account",
        ));
    }
    asked.here.changes(id)?;
    let caller = asked.caller("acme.key-change");
    let at = asked.here.api.0.owned(
        &caller,
        &KIND,
        asked.here.mount(),
        &["acme", "accounts", id],
    )?;
    let detail = Detail::new().text("thumbprint", &key.thumbprint());
    let (account_id, key, old) = (id.to_owned(), (**key).clone(), old);
    let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let none = || EngineError::NotFound("account", account_id.clone());
        if let Some((other, _)) = AcmeAccount::of(items, &key)? {
            return Err(EngineError::Exists("account of this key", other));
        }
        let account = AcmeAccount::find(items, &account_id)?.ok_or_else(none)?;
        if account.key != old {
            return Err(EngineError::Precondition(
                "the key was changed meanwhile".to_owned(),
            ));
        }
        account.clone().rekey(items, &account_id, key)?;
        Ok(account)
    };
    let changed = at
        .record(detail, change)
        .await
        .map_err(|error| match error {
            EngineError::Exists(_, other) => {
                let other = format!("{}/acct/{other}", asked.here.base);
                let why = format!("jwk: there is an account of the new key ({other})");
                Problem::malformed(why).with_status(409).at(other)
            }
            other => other.into(),
        });
    let account = asked.told(&caller, changed).await?;
    Ok(told(&asked.here, id, &account, 200))
}
