//! A database that no service has is opened and read as a whole, to know that it can be.

use rusqlite::Connection;

use super::{ItemError, SealError, Secret, Unsealed, open, rows};

/// What was found behind a seal.
pub struct Drilled {
    /// As a service would have it.
    pub unsealed: Unsealed,
    /// Of each mount, by its name, how many values it has; all were opened.
    pub values: Vec<(String, u64)>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What is behind it cannot be read.
    #[error("the mount {mount:?} cannot be read: {error}")]
    Item {
        /// The mount.
        mount: String,
        /// Why.
        error: ItemError,
    },
}

/// Opens the seal of `db` by `secret` and reads all that is behind it. Nothing waits between attempts: whoever has the file could leave that out.
///
/// # Errors
/// [`DrillError`].
pub fn drill(db: &Connection, secret: Secret) -> Result<Drilled, DrillError> {
    let unsealed = unseal(db, secret)?;
    let values = unsealed.mounts().iter().map(|(name, mount)| {
        let opened = mount.items(db).open_all();
        let values = opened.map_err(|error| DrillError::Item {
            mount: name.clone(),
            error,
        })?;
        Ok((name.clone(), values))
    });
    Ok(Drilled {
        values: values.collect::<Result<_, DrillError>>()?,
        unsealed,
    })
}

fn unseal(db: &Connection, secret: Secret) -> Result<Unsealed, SealError> {
    let kind = secret.kind();
    let secret = secret.read()?;
    let generation = rows::generation(db)?;
    let master = open::slot(rows::slots(db)?, kind)?.open(&secret, generation)?;
    Ok(Unsealed {
        mounts: rows::mounts(db, &master)?,
        master,
        generation,
    })
}
