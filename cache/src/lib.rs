//! An SSD in front of a slower volume, and the private writes of an instance over a read-only one.
//!
//! [`Store`] holds extents of all images of a node on its SSD, [`Cache`] is one image seen through it, and
//! [`overlay::Overlay`] keeps what a guest writes. What decides is pure and has its own file: [`flight`] who fetches
//! and who waits, `plan` what is a hit, `evict` who goes; they ask no clock and no runtime.
//!
//! A disk that is full, slow or broken costs the cache its use, never a reader its answer; what comes from the SSD
//! after an unclean stop is hashed before it is served. Reading through [`Cache`] needs a tokio runtime (fetches are
//! tasks of their own); nothing here panics on what is found on a disk.
#![forbid(unsafe_code)]
#![deny(clippy::big_endian_bytes, clippy::host_endian_bytes)]

#[cfg(test)]
mod alarm_tests;
mod body;
mod cache;
#[cfg(test)]
mod crash;
mod disk;
mod evict;
mod fault;
#[cfg(test)]
mod figures;
mod fill;
pub mod flight;
mod format;
mod health;
mod images;
mod key;
mod map;
pub mod overlay;
mod plan;
mod recover;
mod shelf;
mod stats;
mod store;
mod tend;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod trouble_tests;

pub use cache::Cache;
pub use health::{Cause, StoreState};
pub use key::ImageKey;
pub use stats::{CacheStats, StoreStats};
pub use store::{SCRUB_BYTES_PER_SECOND, Store, StoreError, StoreOptions};
