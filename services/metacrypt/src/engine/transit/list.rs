//! Which keys there are, for whoever may read them.

use std::sync::OnceLock;

use data_encoding::BASE64URL_NOPAD;
use mc_proto::metacrypt::v1::{ListKeysRequest, ListKeysResponse, TransitKeyEntry};
use mcdsl::{auth::Identity, server::Caller};

use super::{
    KIND, PLACE, action,
    algorithm::{Algorithm, Ready},
    message::Head,
};
use crate::{
    api::Api,
    barrier::{Items, KeyError},
    engine::EngineError,
    entered::identity,
};

/// Most keys of an answer.
const PAGE: usize = 100;
/// Most names that are looked at for one.
const SCAN: usize = 1000;
/// To multiples of so many bytes a position is filled up: how long a name is, is told no more closely.
const FILL: usize = 64;

/// Seals positions. What comes last in an answer may be a name that the reader may not read.
static POSITIONS: OnceLock<Ready> = OnceLock::new();

fn positions() -> Result<&'static Ready, KeyError> {
    if let Some(ready) = POSITIONS.get() {
        return Ok(ready);
    }
    let made = Algorithm::Xchacha20Poly1305.ready(&Algorithm::Xchacha20Poly1305.generate()?)?;
    Ok(POSITIONS.get_or_init(|| made))
}

/// Whose position it is, and in which mount.
fn owner(who: &Identity, mount: &str) -> String {
    format!("{mount}/{}", who.account)
}

/// The position behind this name.
fn sealed(name: &str, owner: &str) -> Result<String, KeyError> {
    let mut text = name.as_bytes().to_vec();
    text.resize(name.len().next_multiple_of(FILL), 0);
    let sealed = positions()?.encrypt(&text, owner.as_bytes())?;
    Ok(BASE64URL_NOPAD.encode(&sealed))
}

/// The name behind which it is; none: from the beginning.
fn opened(after: &str, owner: &str) -> Result<String, EngineError> {
    if after.is_empty() {
        return Ok(String::new());
    }
    let none = || {
        let why = "not what `next` of an answer said to this account since the service started; leave it out to begin anew";
        EngineError::field("after", why)
    };
    let sealed = BASE64URL_NOPAD.decode(after.as_bytes()).ok();
    let sealed = sealed.ok_or_else(none)?;
    let name = positions()?.decrypt(&sealed, owner.as_bytes());
    let name = String::from_utf8(name.ok_or_else(none)?.to_vec()).map_err(|_| none())?;
    Ok(name.trim_end_matches('\0').to_owned())
}

/// The keys of a page, and the name behind which the next one begins.
type Page = (Vec<TransitKeyEntry>, Option<String>);

fn page(
    items: &Items<'_>,
    may: &dyn Fn(&str) -> bool,
    after: &str,
    limit: usize,
) -> Result<Page, EngineError> {
    let paths = items.names(PLACE, &format!("{PLACE}{after}"), SCAN)?;
    let mut keys: Vec<TransitKeyEntry> = Vec::new();
    let names = paths.iter().filter_map(|path| path.strip_prefix(PLACE));
    for name in names.filter(|name| may(name)) {
        if keys.len() == limit {
            let next = keys.last().map(|key| key.name.clone());
            return Ok((keys, next));
        }
        // It may have been deleted just now.
        if let Some(head) = items.get::<Head>(&super::path(name))? {
            keys.push(head.entry(name));
        }
    }
    let more = paths.len() == SCAN;
    let last = paths.last().and_then(|path| path.strip_prefix(PLACE));
    Ok((keys, last.filter(|_| more).map(str::to_owned)))
}

/// [`mc_proto::metacrypt::v1::transit_server::Transit::list_keys`].
pub(super) async fn keys(
    api: &Api,
    caller: &Caller,
    asked: ListKeysRequest,
) -> Result<ListKeysResponse, EngineError> {
    let limit = match usize::try_from(asked.limit) {
        Ok(limit @ 1..PAGE) => limit,
        _ => PAGE,
    };
    let who = identity(caller)?;
    let owner = owner(who, &asked.mount);
    let after = opened(&asked.after, &owner)?;
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, "keys")?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| page(items, may, &after, limit);
    let (keys, next) = list.read(read).await?;
    let next = next.map(|name| sealed(&name, &owner)).transpose()?;
    Ok(ListKeysResponse {
        keys,
        next: next.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{
        super::{key::Key, path, rings::tests::vault},
        *,
    };

    #[tokio::test]
    async fn of_many_names_that_may_not_be_read_some_are_looked_at_and_none_opened() {
        let (_directory, open, db) = vault().await;
        let items = open.mounts()["vault"].items(&db);
        let key = Key::new(Algorithm::Aes256Gcm, UNIX_EPOCH).unwrap();
        db.execute_batch("BEGIN").unwrap();
        for number in 0..2 * SCAN + 10 {
            let name = format!("hidden-{number:05}");
            // What cannot be read at all: a list that opened it would fail.
            items.put(&path(&name), &"no key").unwrap();
        }
        for number in 0..250 {
            items
                .put(&path(&format!("mine-{number:03}")), &key)
                .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        let may = |name: &str| name.starts_with("mine-");
        let (mut after, mut pages) = (String::new(), Vec::new());
        loop {
            let (keys, next) = page(&items, &may, &after, PAGE).unwrap();
            pages.push(keys);
            let Some(next) = next else { break };
            after = next;
        }
        let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(lengths, [0, 0, 100, 100, 50]);
        let names = pages.iter().flatten().map(|key| key.name.clone());
        let wanted = (0..250).map(|number| format!("mine-{number:03}"));
        assert!(names.eq(wanted), "{pages:?}");
        assert_eq!(pages[2][0].newest_version, 1);
        let nothing = page(&items, &|_| false, "mine-", PAGE).unwrap();
        assert_eq!(nothing, (Vec::new(), None));
        assert!(
            page(&items, &|_| true, "", PAGE).is_err(),
            "what may be read is opened"
        );
    }

    #[test]
    fn a_position_is_its_readers_and_tells_nobody_a_name() {
        for name in ["a", &"n".repeat(FILL), &"n".repeat(256)] {
            let position = sealed(name, "vault/ada").unwrap();
            assert_eq!(opened(&position, "vault/ada").unwrap(), *name);
            for owner in ["vault/eve", "other/ada", ""] {
                let refused = opened(&position, owner).unwrap_err();
                assert!(refused.to_string().starts_with("after:"), "{refused}");
            }
        }
        let lengths: Vec<_> = ["a", "abcdef"]
            .map(|name| sealed(name, "").unwrap().len())
            .into();
        assert_eq!(lengths[0], lengths[1]);
        assert_eq!(opened("", "vault/ada").unwrap(), "");
        for wrong in ["a", "*", "AAAA"] {
            assert!(opened(wrong, "vault/ada").is_err(), "{wrong}");
        }
    }
}
