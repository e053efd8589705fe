//! The node's one store of extents.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{ImageKey, StoreStats};

/// Where the store lives and how much of the disk it may take.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file (or block device) that holds it.
    pub path: PathBuf,
    /// Bytes to take, table included.
    pub bytes: u64,
}

/// Why a store could not be opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The options leave no room for a single extent.
    #[error("too small to hold an extent")]
    TooSmall,
    /// The file is something else, and is left as it is.
    #[error("the file is not empty and not a cache store")]
    NotAStore,
    /// The file was written by another version.
    #[error("the store has format version {found}, which this program does not know")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Another program has it open.
    #[error("the store is in use by another program")]
    InUse,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Extents of all images of a node, in slots of one preallocated file.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the store, or makes it where there is none. What it held before is warm.
    pub async fn open(options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let _ = options;
        Ok(Arc::new(Self {}))
    }

    /// Drops every extent of an image, for good when this returns. [`Cache`](crate::Cache)s of that image that exist
    /// read past the store from then on. Returns the number of extents dropped.
    pub async fn forget(self: &Arc<Self>, key: ImageKey) -> Result<u64, StoreError> {
        let _ = key;
        Ok(0)
    }

    /// Writes out what waits, and marks the store clean: the next open trusts what it finds.
    /// Nothing is filled from then on.
    pub async fn close(self: &Arc<Self>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Counters.
    pub fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}
