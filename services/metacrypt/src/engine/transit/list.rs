//! Which keys there are, for whoever may read them.

use mc_proto::metacrypt::v1::{ListKeysRequest, ListKeysResponse, TransitKeyEntry};
use mcdsl::server::Caller;

use super::{KIND, PLACE, action, message::Head};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, Page, Positions, limit},
};

/// The key of this name, unless it was deleted just now.
fn entry(items: &Items<'_>, name: &str) -> Result<Option<TransitKeyEntry>, EngineError> {
    let head = items.get::<Head>(&super::path(name))?;
    Ok(head.map(|head| head.entry(name)))
}

/// [`mc_proto::metacrypt::v1::transit_server::Transit::list_keys`].
pub(super) async fn keys(
    api: &Api,
    caller: &Caller,
    asked: ListKeysRequest,
) -> Result<ListKeysResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, "keys", &[])?;
    let page = Page {
        place: PLACE,
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, "keys")?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        page.read(items, may, |name| entry(items, name))
    };
    let (keys, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListKeysResponse { keys, next })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{
        super::{algorithm::Algorithm, key::Key, path, rings::tests::vault},
        *,
    };
    use crate::engine::page::{MAX_LISTED, MAX_LOOKED_AT};

    #[tokio::test]
    async fn of_many_names_that_may_not_be_read_some_are_looked_at_and_none_opened() {
        let (_directory, open, db) = vault().await;
        let items = open.mounts()["vault"].items(&db);
        let key = Key::new(Algorithm::Aes256Gcm, UNIX_EPOCH).unwrap();
        db.execute_batch("BEGIN").unwrap();
        for number in 0..2 * MAX_LOOKED_AT + 10 {
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
        let page = |after: &str, may: &dyn Fn(&str) -> bool| {
            let page = Page {
                place: PLACE,
                after: after.to_owned(),
                limit: MAX_LISTED,
            };
            page.read(&items, may, |name| entry(&items, name))
        };
        let (mut after, mut pages) = (String::new(), Vec::new());
        loop {
            let (keys, next) = page(&after, &may).unwrap();
            pages.push(keys);
            if next.is_empty() {
                break;
            }
            after = next;
        }
        let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(lengths, [0, 0, 100, 100, 50]);
        let names = pages.iter().flatten().map(|key| key.name.clone());
        let wanted = (0..250).map(|number| format!("mine-{number:03}"));
        assert!(names.eq(wanted), "{pages:?}");
        assert_eq!(pages[2][0].newest_version, 1);
        let nothing = page("mine-", &|_| false).unwrap();
        assert_eq!(nothing, (Vec::new(), String::new()));
        assert!(page("", &|_| true).is_err(), "what may be read is opened");
    }
}
