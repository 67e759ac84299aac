//! The maps under a layout's pins, held by descriptor while another daemon may remove the pins: one of a later layout does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::MapData;

use super::{KernelError, link};

/// Open maps and where each was pinned.
#[derive(Debug)]
pub(crate) struct Pinned {
    directory: PathBuf,
    maps: Vec<(PathBuf, MapData)>,
}

impl Pinned {
    /// Of every map in `pins`.
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        let mut maps = Vec::new();
        for path in link::entries(pins)? {
            // Links and the program are pinned anew when they are attached.
            if link::link_name(&path).is_some() || path.ends_with(link::PROGRAM) {
                continue;
            }
            let map = MapData::from_pin(&path).map_err(|source| KernelError::PinnedMap {
                path: path.clone(),
                source: Box::new(source),
            })?;
            maps.push((path, map));
        }
        Ok(Self {
            directory: pins.to_owned(),
            maps,
        })
    }

    /// Pins again what is no longer there.
    pub(crate) fn restore(&self) -> Result<(), KernelError> {
        fs::create_dir_all(&self.directory).map_err(|source| KernelError::PinDirectory {
            path: self.directory.clone(),
            source,
        })?;
        for (path, map) in self.maps.iter().filter(|(path, _)| !path.exists()) {
            map.pin(path).map_err(|source| KernelError::Pin {
                path: path.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }
}
