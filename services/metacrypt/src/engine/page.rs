//! Lists by name: names are looked at first, each is judged, and what may be read is opened alone.

use super::EngineError;
use crate::barrier::Items;

/// Most entries of an answer.
pub(crate) const MAX_LISTED: usize = 100;
/// Most names that are looked at for one.
pub(crate) const MAX_LOOKED_AT: usize = 1000;

/// How many entries somebody gets who asked for so many; 0: the most.
pub(crate) fn limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(limit @ 1..MAX_LISTED) => limit,
        _ => MAX_LISTED,
    }
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where they are; it ends with a `/`.
    pub(crate) place: &'static str,
    /// The name behind which it begins.
    pub(crate) after: String,
    /// Most entries.
    pub(crate) limit: usize,
}

impl Page {
    /// What `one` opens of those that may be read, if it is there still, and the name behind which the next part begins; empty: these were the last.
    ///
    /// # Errors
    /// Those of `one`, and the database's.
    pub(crate) fn read<T>(
        &self,
        items: &Items<'_>,
        may: &dyn Fn(&str) -> bool,
        mut one: impl FnMut(&str) -> Result<Option<T>, EngineError>,
    ) -> Result<(Vec<T>, String), EngineError> {
        let after = format!("{}{}", self.place, self.after);
        let paths = items.names(self.place, &after, MAX_LOOKED_AT)?;
        let names = paths
            .iter()
            .filter_map(|path| path.strip_prefix(self.place));
        let (mut found, mut last) = (Vec::new(), "");
        for name in names.filter(|name| may(name)) {
            if found.len() == self.limit {
                return Ok((found, last.to_owned()));
            }
            found.extend(one(name)?);
            last = name;
        }
        let more = paths.len() == MAX_LOOKED_AT;
        let last = paths.last().and_then(|path| path.strip_prefix(self.place));
        let next = last.filter(|_| more).unwrap_or_default();
        Ok((found, next.to_owned()))
    }
}
