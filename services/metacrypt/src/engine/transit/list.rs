//! Which keys there are, for whoever may read them.

use mc_proto::metacrypt::v1::{ListKeysRequest, ListKeysResponse, TransitKeyEntry};
use mcdsl::server::Caller;

use super::{KIND, PLACE, action, message::Head};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, Positions},
};

/// Most keys of an answer.
const PAGE: usize = 100;
/// Most names that are looked at for one.
const SCAN: usize = 1000;

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
    let positions = Positions::of(caller, &asked.mount, "keys", &[])?;
    let after = positions.open(&asked.after)?;
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, "keys")?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| page(items, may, &after, limit);
    let (keys, next) = list.read(read).await?;
    let next = positions.seal(&next.unwrap_or_default())?;
    Ok(ListKeysResponse { keys, next })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{
        super::{algorithm::Algorithm, key::Key, path, rings::tests::vault},
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
}
