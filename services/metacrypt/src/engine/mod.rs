//! Engines: what a mount can be. A new one is a folder here and a line in [`KINDS`]; nothing else knows which there are.

mod error;
pub(crate) mod transit;
mod work;

use tonic::service::Routes;

pub(crate) use self::{error::EngineError, work::beside};
use crate::api::Api;

/// A kind of engine.
pub(crate) struct Kind {
    /// As mounts of it say.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) description: &'static str,
    /// What may be done in it: what rules name.
    pub(crate) actions: &'static [&'static str],
    /// Adds its methods.
    pub(crate) routes: fn(Routes, &Api) -> Routes,
}

/// All of them.
pub(crate) const KINDS: &[&Kind] = &[&transit::KIND];

/// That of this name.
///
/// # Errors
/// There is none.
pub(crate) fn kind(name: &str) -> Result<&'static Kind, EngineError> {
    let found = KINDS.iter().find(|kind| kind.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        EngineError::Invalid(format!(
            "engine: {name:?} is none; there are: {}",
            names.join(", ")
        ))
    })
}
