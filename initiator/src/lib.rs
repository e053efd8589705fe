//! An iSCSI initiator (RFC 7143): reaches the logical units of any target, in pure Rust on tokio.
//!
//! - [`discover()`] asks an address what targets it has.
//! - A [`Session`] is a handle on one target. It may be cloned and shared, reconnects by itself, repeats what can be
//!   repeated without harm, and follows redirections.
//! - A [`Remote`] is one logical unit of a session: [`read_at`](Remote::read_at), [`write_at`](Remote::write_at),
//!   [`synchronize`](Remote::synchronize), [`deallocate`](Remote::deallocate), [`allocation_at`](Remote::allocation_at),
//!   [`write_zeroes`](Remote::write_zeroes), [`compare_and_write`](Remote::compare_and_write) and
//!   [`write_through`](Remote::write_through), which end with this crate's [`Error`]. Those who stack volumes find the same
//!   as the trait [`Volume`], whose errors say less.
//! - [`Remote::connect`] takes all the URLs that lead to a unit, through several portals or targets, and gives one volume:
//!   multipath with ALUA, where a lost path costs no error and no write is lost or doubled. [`find_portals`] asks a target
//!   for its portals, and [`Remote::paths`] tells how the paths are.
//! - Every other SCSI command goes through [`Session::execute`], and one that this crate does not know through
//!   [`Session::execute_raw`].
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest/target.in"));
//! use iscsi_initiator::{IscsiUrl, Lun, Options, Remote, Session, discover};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = serve_a_disk().await;
//! let options = Options::new("iqn.2025-01.org.example:me".parse()?);
//!
//! // What is there? `address` is `host`, `host:port` or `[v6]:port`.
//! for target in discover(&address, &options).await? {
//!     println!("{} at {:?}", target.name, target.addresses);
//! }
//!
//! // One unit of one target; a URL may carry a CHAP user, too: iscsi://user%secret@host/target/lun.
//! let url: IscsiUrl = format!("iscsi://{address}/iqn.2025-01.org.example:disk/0").parse()?;
//! let session = Session::connect(&url, options).await?;
//! let disk = Remote::attach(session.clone(), Lun::from_number(0)).await?;
//! assert_eq!(disk.size_in_bytes(), 8 << 20);
//!
//! // Offsets and lengths are in bytes, on block boundaries.
//! disk.write_at(4096, vec![b'x'; 512]).await?;
//! disk.synchronize().await?;
//! let bytes = disk.read_at(4096, 512).await?;
//! assert_eq!(bytes[..], [b'x'; 512]);
//! session.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Where a target has several portals, the unit can be had through all of them at once:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest/target.in"));
//! use iscsi_initiator::{IscsiUrl, Options, Remote, find_portals};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = serve_a_disk().await;
//! let options = Options::new("iqn.2025-01.org.example:me".parse()?);
//! let url: IscsiUrl = format!("iscsi://{address}/iqn.2025-01.org.example:disk/0").parse()?;
//! let portals = find_portals(&url, &options).await?;
//! let disk = Remote::connect(&portals, options).await?;
//! for path in disk.paths() {
//!     println!("{}: {:?}", path.address, path.state);
//! }
//! # assert_eq!(disk.paths().len(), 1);
//! disk.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! What several initiators share is changed by COMPARE AND WRITE, and what this crate has no name for is sent as bytes:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest/target.in"));
//! use iscsi_initiator::{Class, Comparison, IscsiUrl, Options, RawCommand, Remote, Status, Transfer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = serve_a_disk().await;
//! let mut options = Options::new("iqn.2025-01.org.example:me".parse()?);
//! options.queue_limit = 32;
//! let url: IscsiUrl = format!("iscsi://{address}/iqn.2025-01.org.example:disk/0").parse()?;
//! let disk = Remote::connect(&[url], options).await?;
//!
//! // Takes a lock that nobody holds, in one step that nobody can come between.
//! let (free, mine) = ([0; 512], [7; 512]);
//! assert_eq!(disk.compare_and_write(0, &free, &mine).await?, Comparison::Written);
//! let again = disk.compare_and_write(0, &free, &mine).await?;
//! assert_eq!(again, Comparison::Differs { at: Some(0) });
//!
//! // REPORT SUPPORTED OPERATION CODES (SPC-4 §6.34), at most 64 bytes of its answer.
//! let command = RawCommand::new(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0])?.changes_nothing();
//! let answer = disk.execute_raw(command, Transfer::Read(64), Class::Demand).await?;
//! assert_eq!((answer.status, answer.data.len()), (Status::GOOD, 64));
//! disk.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What can be relied on
//!
//! - Futures may be dropped at any time: a command that was not sent never will be, one that was sent ends by itself,
//!   without harm to the session. A write that was dropped may or may not have happened, as on any disk, wholly or in part;
//!   a later write of the same blocks is carried out behind it. Methods for which there is more to say do so.
//! - Memory is bounded: at most [`Options::queue_limit`] commands of a session are under way, more wait for a place, and
//!   reads and writes are cut to what the unit takes at once. A read that takes more than one command holds its bytes
//!   twice for a moment, when its pieces become one. Bytes that were read are a buffer of their own, into which
//!   they came from the socket: who keeps them keeps nothing else alive. A session under load keeps up to 8 MiB of such
//!   buffers for reads to come, and gives them back when nothing comes any more.
//! - When the connection is lost, [`Reconnect`] says how it is made again, and [`Outage`] how long commands wait for it.
//!   Reads and writes are repeated, writes never over a later one that was acknowledged; a command that would do harm twice
//!   ends with [`Error::Interrupted`].
//! - A unit that is not the same after a reconnect, by its designators or its size ([`Resize`] says which sizes are welcome),
//!   answers nothing but errors from then on: content never mixes.
//! - [`Credentials`] prove who the initiator is by CHAP, and can make the target prove itself, too.
//! - Nothing here panics on what a target sends.
//!
//! The types of signatures come from `iscsi-proto` and `vmthunder-volume` and are exported here, so that neither need be a
//! dependency of its own.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod caches;
mod commands;
mod connection;
mod dial;
mod discover;
mod error;
mod guard;
mod identity;
mod job;
mod link;
mod nexus;
mod options;
mod outage;
mod paths;
mod queue;
mod remote;
mod reset;
mod session;
mod status;

pub use bytes::Bytes;
pub use commands::{Comparison, RawCommand};
pub use discover::discover;
pub use error::Error;
pub use iscsi_proto::discovery::TargetRecord;
pub use iscsi_proto::login::{
    Account, Algorithm, DigestChoice, InvalidSecret, LoginStatus, Secret, UnusableChap,
};
pub use iscsi_proto::name::{IscsiName, NameError};
pub use iscsi_proto::params::Params;
pub use iscsi_proto::scsi::port_groups::AccessState;
pub use iscsi_proto::scsi::vpd::Designator;
pub use iscsi_proto::scsi::{self, Command, Sense, Status};
pub use iscsi_proto::session::{
    Completion, DiscoverError, ManagementAnswer, Residual, SessionEnd, Transfer,
};
pub use iscsi_proto::url::{IscsiUrl, UrlError};
pub use iscsi_proto::wire::lun::Lun;
pub use options::{CacheLoss, Credentials, Options, Outage, Reconnect, Resize};
pub use paths::{PathPolicy, PathState, PathStatus, find_portals};
pub use remote::Remote;
pub use session::Session;
pub use status::Settled;
pub use vmthunder_volume::{
    Allocation, BlockSize, Class, Error as VolumeError, Geometry, Span, Volume,
};

/// The example of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
