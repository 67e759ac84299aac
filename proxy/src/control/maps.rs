//! The kernel's maps against the database, and what is in them.

use super::{Control, ControlError};
use crate::{
    firewall::{DUMPED, Difference, FirewallError},
    spec::{MapEntry, MapFill},
};

impl Control {
    /// Compares the kernel maps with the database; with `repair`, rewrites them. Returns the differences and how
    /// many entries were compared.
    ///
    /// # Errors
    /// If database or kernel cannot be read or written.
    pub fn verify(&self, repair: bool) -> Result<(Vec<Difference>, u64), ControlError> {
        let mut store = self.store()?;
        let state = store.load()?;
        if repair {
            for route in &state.routes {
                self.context.router.adopt(route.clone());
            }
        }
        let mut differences = self
            .context
            .router
            .table
            .verify(state.routes.iter(), repair)?;
        differences.extend(self.firewall.reconcile(&state.rules, repair)?);
        let checked = (state.routes.len() + state.rules.len()) as u64;
        Ok((differences, checked))
    }

    /// Entries of the kernel maps, or of one.
    ///
    /// # Errors
    /// If there is no such map or it cannot be read.
    pub fn dump(&self, map: &str) -> Result<Vec<MapEntry>, ControlError> {
        let mut entries = Vec::new();
        if map.is_empty() || map == crate::routes::MAP {
            entries.extend(self.context.router.table.dump()?);
        }
        if map != crate::routes::MAP {
            let dumped = self.firewall.dump((!map.is_empty()).then_some(map));
            let dumped = dumped.map_err(|error| match error {
                FirewallError::UnknownMap(name) => {
                    let known = [&[crate::routes::MAP], &DUMPED[..]].concat().join(", ");
                    let reason = format!("{name:?} cannot be dumped; there are {known}");
                    ControlError::invalid(("map".into(), reason))
                }
                error => error.into(),
            })?;
            entries.extend(dumped.into_iter().map(|(map, key, value)| MapEntry {
                map: map.to_owned(),
                key,
                value,
            }));
        }
        Ok(entries)
    }

    /// How full the kernel maps are.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn map_fills(&self) -> Result<Vec<MapFill>, ControlError> {
        let mut fills = vec![self.context.router.table.fill()?];
        fills.extend(
            self.context
                .engines
                .sockmap
                .iter()
                .filter_map(|e| e.map_fill()),
        );
        let firewall = self.firewall.map_fill()?;
        fills.extend(firewall.into_iter().map(|(map, used, capacity)| MapFill {
            map: map.to_owned(),
            used: used.into(),
            capacity: capacity.into(),
        }));
        Ok(fills)
    }
}
