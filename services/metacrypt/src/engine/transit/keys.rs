//! What is done to keys.

use std::sync::Arc;

use mc_proto::metacrypt::v1::{
    CreateKeyRequest, DeleteKeyRequest, DeleteKeyResponse, ExportKeyRequest, ExportKeyResponse,
    GetKeyRequest, RotateKeyRequest, TransitKey, TrimKeyRequest, UpdateKeyRequest,
};
use mcdsl::{audit::Detail, server::Caller};

use super::{
    KIND, action, enter,
    key::Key,
    message, path,
    rings::{Rings, apply, made, rotate_now},
    stored,
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{Act, EngineError},
    entered::Entered,
};

/// Changes a key, and answers as it then is; `change` says which versions it removed.
async fn change(
    at: &Arc<Entered>,
    detail: Detail,
    change: impl FnOnce(&mut Key) -> Result<Vec<u32>, EngineError> + Send + 'static,
) -> Result<TransitKey, EngineError> {
    let change = |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let mut key = stored(items, at.name())?;
        let removed = change(&mut key)?;
        items.put(&path(at.name()), &key)?;
        // Of those uses that were written down before it is not known how many were made.
        let ring = made(at.mount(), at.name(), &key, 0)?;
        let mut message = message::key(at.name(), &key);
        message.removed_versions = removed;
        Ok((message, ring))
    };
    let then = |(message, ring), at: &Entered| apply(at.mount(), at.name(), ring).map(|_| message);
    at.change(detail, change, then).await?
}

pub(super) async fn create(
    api: &Api,
    caller: &Caller,
    asked: CreateKeyRequest,
) -> Result<TransitKey, EngineError> {
    let at = enter(api, caller, action::CREATE, &asked.mount, &asked.name)?;
    let algorithm = message::algorithm(asked.algorithm)?;
    let rotate_after_s = message::age(asked.rotate_after_s)?;
    let now = api.0.seal.clock().now();
    let create = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let place = path(at.name());
        if items.get::<Key>(&place)?.is_some() {
            return Err(EngineError::Exists("key", at.name().to_owned()));
        }
        let mut key = Key::new(algorithm, now)?;
        (key.exportable, key.rotate_after_s) = (asked.exportable, rotate_after_s);
        items.put(&place, &key)?;
        let ring = made(at.mount(), at.name(), &key, 0)?;
        Ok((message::key(at.name(), &key), ring))
    };
    let then = |(message, ring), at: &Entered| apply(at.mount(), at.name(), ring).map(|_| message);
    let detail = Detail::new()
        .flag("exportable", asked.exportable)
        .text("algorithm", message::name_of(algorithm).as_str_name());
    at.change(detail, create, then).await?
}

pub(super) async fn get(
    api: &Api,
    caller: &Caller,
    asked: GetKeyRequest,
) -> Result<TransitKey, EngineError> {
    let at = enter(api, caller, action::READ, &asked.mount, &asked.name)?;
    let read =
        |items: &Items<'_>, at: &Entered| Ok(message::key(at.name(), &stored(items, at.name())?));
    let key = at.read(read).await?;
    at.done(Detail::new()).await?;
    Ok(key)
}

/// Lets a caller in who changes a key; and whether he may read it.
fn changes(
    api: &Api,
    caller: &Caller,
    action: Act,
    mount: &str,
    name: &str,
) -> Result<(Arc<Entered>, bool), EngineError> {
    let (visit, on) = (api.0.visit(caller, &KIND, mount)?, ["keys", name]);
    let at = visit.judge(action, &[&on])?;
    Ok((at, visit.may(action::READ, &on)))
}

/// A key that was changed, for who may read it; for others its name, and `changed`: what he changed himself.
fn told(key: TransitKey, reads: bool, changed: TransitKey) -> TransitKey {
    match reads {
        true => key,
        false => TransitKey {
            name: key.name,
            removed_versions: key.removed_versions,
            ..changed
        },
    }
}

pub(super) async fn update(
    api: &Api,
    caller: &Caller,
    asked: UpdateKeyRequest,
) -> Result<TransitKey, EngineError> {
    let (at, reads) = changes(api, caller, action::UPDATE, &asked.mount, &asked.name)?;
    let nothing = (None, None, None);
    if (
        asked.min_decryption_version,
        asked.deletable,
        asked.rotate_after_s,
    ) == nothing
    {
        return Err(EngineError::Invalid(
            "nothing is to be changed: send min_decryption_version, deletable or rotate_after_s"
                .to_owned(),
        ));
    }
    let rotate_after_s = asked.rotate_after_s.map(message::age).transpose()?;
    let mut detail = Detail::new();
    for (what, value) in [
        (
            "min_decryption_version",
            asked.min_decryption_version.map(u64::from),
        ),
        ("rotate_after_s", rotate_after_s),
        ("deletable", asked.deletable.map(u64::from)),
    ] {
        if let Some(value) = value {
            detail = detail.number(what, i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
    let changed = TransitKey {
        min_decryption_version: asked.min_decryption_version.unwrap_or_default(),
        deletable: asked.deletable.unwrap_or_default(),
        rotate_after_s: rotate_after_s.unwrap_or_default(),
        ..TransitKey::default()
    };
    let update = move |key: &mut Key| -> Result<Vec<u32>, EngineError> {
        if let Some(min) = asked.min_decryption_version {
            key.set_min_decryption(min)?;
        }
        key.rotate_after_s = rotate_after_s.unwrap_or(key.rotate_after_s);
        key.deletable = asked.deletable.unwrap_or(key.deletable);
        Ok(Vec::new())
    };
    Ok(told(change(&at, detail, update).await?, reads, changed))
}

pub(super) async fn rotate(
    api: &Api,
    caller: &Caller,
    asked: RotateKeyRequest,
) -> Result<TransitKey, EngineError> {
    let (at, reads) = changes(api, caller, action::ROTATE, &asked.mount, &asked.name)?;
    let rotated = rotate_now(&at, api.0.seal.clock().now()).await?;
    let changed = TransitKey {
        versions: rotated.versions.last().cloned().into_iter().collect(),
        ..TransitKey::default()
    };
    Ok(told(rotated, reads, changed))
}

pub(super) async fn trim(
    api: &Api,
    caller: &Caller,
    asked: TrimKeyRequest,
) -> Result<TransitKey, EngineError> {
    let (at, reads) = changes(api, caller, action::TRIM, &asked.mount, &asked.name)?;
    let detail = Detail::new().number("below", asked.below.into());
    let trimmed = change(&at, detail, move |key| key.trim(asked.below));
    Ok(told(trimmed.await?, reads, TransitKey::default()))
}

pub(super) async fn delete(
    api: &Api,
    caller: &Caller,
    asked: DeleteKeyRequest,
) -> Result<DeleteKeyResponse, EngineError> {
    let at = enter(api, caller, action::DELETE, &asked.mount, &asked.name)?;
    let delete = |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
        if !stored(items, at.name())?.deletable {
            return Err(EngineError::Precondition(
                "the key is not deletable; say that it is (UpdateKey) first".to_owned(),
            ));
        }
        items.delete(&path(at.name()))?;
        Ok(())
    };
    let then = |(), at: &Entered| -> Result<(), EngineError> {
        Rings::of(at.mount())?.change(at.name(), None);
        Ok(())
    };
    at.change(Detail::new(), delete, then).await??;
    Ok(DeleteKeyResponse {})
}

pub(super) async fn export(
    api: &Api,
    caller: &Caller,
    asked: ExportKeyRequest,
) -> Result<ExportKeyResponse, EngineError> {
    let at = enter(api, caller, action::EXPORT, &asked.mount, &asked.name)?;
    let read = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let key = stored(items, at.name())?;
        if !key.exportable {
            return Err(EngineError::Precondition(
                "the key was not created exportable".to_owned(),
            ));
        }
        let found = match asked.version {
            0 => key.versions.last(),
            number => key.versions.iter().find(|version| version.number == number),
        };
        let none = || EngineError::NotFound("version", asked.version.to_string());
        let version = found.ok_or_else(none)?;
        Ok((version.number, version.secret()?))
    };
    let (version, key) = at.read(read).await?;
    let detail = Detail::new().number("version", version.into());
    let key = key.to_vec();
    let answer = ExportKeyResponse { version, key };
    at.done(at.noted(detail, &answer)?).await?;
    Ok(answer)
}
