//! A unit over two paths, with what happens on them in the hands of a test.

#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::Arc;

use iscsi_initiator::{Bytes, Class, IscsiUrl, Options, Remote, Span, Volume, VolumeError};
use iscsi_proto::scsi::port_groups::AccessState;

use crate::array::{Array, BLOCK, Event};
use crate::harness::{TARGET, Wire, soon};

/// Two ports, a wire to each, and the unit over both.
pub(crate) struct Scene {
    pub(crate) array: Arc<Array>,
    pub(crate) wires: [Wire; 2],
    pub(crate) remote: Remote,
}

impl Scene {
    pub(crate) async fn new(options: Options) -> Self {
        let array = Array::new(64, 2);
        Self::of(array, options).await
    }

    pub(crate) async fn of(array: Arc<Array>, options: Options) -> Self {
        let wires = [
            Wire::to(&array.serve(0).await).await,
            Wire::to(&array.serve(1).await).await,
        ];
        let urls = wires.each_ref().map(|wire| url(&wire.address));
        let remote = soon(Remote::connect(&urls, options)).await.expect("a unit");
        Self {
            array,
            wires,
            remote,
        }
    }

    /// A write that is under way.
    pub(crate) fn begin_write(
        &self,
        lba: u64,
        byte: u8,
    ) -> tokio::task::JoinHandle<Result<(), VolumeError>> {
        let remote = self.remote.clone();
        tokio::spawn(async move { remote.write(lba * BLOCK as u64, block(byte)).await })
    }

    pub(crate) async fn write(&self, lba: u64, byte: u8) {
        let written = soon(self.begin_write(lba, byte)).await;
        written.expect("no panic").expect("written");
    }

    pub(crate) async fn read(&self, lba: u64) -> Result<Bytes, VolumeError> {
        let span = Span::new(lba * BLOCK as u64, BLOCK as u64);
        soon(self.remote.read(span, Class::Demand)).await
    }

    pub(crate) async fn until(&self, reached: impl Fn(&Array, &Remote) -> bool) {
        let waiting = async {
            while !reached(&self.array, &self.remote) {
                tokio::task::yield_now().await;
            }
        };
        soon(waiting).await;
    }

    /// The writes and resets so far.
    pub(crate) fn changes(&self) -> Vec<Event> {
        let mut journal = self.array.journal();
        journal.retain(|event| {
            matches!(
                event,
                Event::Write(..) | Event::Reset(_) | Event::Reinstated(_)
            )
        });
        journal
    }

    /// Makes commands take the first path, unless there is a reason against it.
    pub(crate) async fn prefer_first(&self) {
        self.array.set_access(1, AccessState::ACTIVE_NON_OPTIMIZED);
        for _ in 0..2 {
            self.read(0).await.expect("read");
        }
        self.until(|_, remote| access(remote, 1) == AccessState::ACTIVE_NON_OPTIMIZED)
            .await;
    }
}

pub(crate) fn url(address: &str) -> IscsiUrl {
    format!("iscsi://{address}/{TARGET}/0")
        .parse()
        .expect("a URL")
}

pub(crate) fn block(byte: u8) -> Bytes {
    Bytes::from(vec![byte; BLOCK])
}

pub(crate) fn access(remote: &Remote, path: usize) -> AccessState {
    remote.paths()[path].access
}
