//! A medium that can be removed, and who prevents it: START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL (SBC-3 §5.13,
//! §5.25).
//!
//! The medium never stops to turn: START without LOEJ changes nothing, and STOP makes what was written safe. That is
//! what Linux and ESXi, which stop disks when they shut down, get along with.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iscsi_proto::scsi::{Sense, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::Volume;

use super::LogicalUnit;
use crate::asker::Asker;
use crate::failure::Failure;
use crate::sessions::{ItNexus, Whom};

/// Whether the medium is there, and who wants it to stay.
#[derive(Debug, Default)]
pub(super) struct Medium {
    /// Ejected. Looked at by every command, changed under the lock.
    absent: AtomicBool,
    /// Sessions that prevent the removal; each is forgotten when it ends, so there are no more than sessions.
    preventers: Mutex<BTreeSet<ItNexus>>,
}

/// What START STOP UNIT asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartStop {
    pub(super) start: bool,
    pub(super) load_eject: bool,
    pub(super) power_condition: u8,
}

impl Medium {
    pub(super) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Acquire)
    }

    /// The nexus allows the removal, or is gone.
    pub(super) fn allow(&self, nexus: &ItNexus) {
        self.preventers().remove(nexus);
    }

    /// Everybody allows it.
    pub(super) fn allow_all(&self) {
        self.preventers().clear();
    }

    fn prevent(&self, nexus: &ItNexus) {
        self.preventers().insert(nexus.clone());
    }

    /// Loads or ejects, unless somebody prevents it; true if that changed anything.
    fn turn(&self, absent: bool) -> Result<bool, Sense> {
        let preventers = self.preventers();
        if !preventers.is_empty() {
            return Err(Sense::MEDIUM_REMOVAL_PREVENTED);
        }
        Ok(self.absent.swap(absent, Ordering::AcqRel) != absent)
    }

    fn is_prevented(&self) -> bool {
        !self.preventers().is_empty()
    }

    fn preventers(&self) -> MutexGuard<'_, BTreeSet<ItNexus>> {
        self.preventers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Volume> LogicalUnit<V> {
    pub(super) async fn start_stop(
        &self,
        asked: StartStop,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        // Power conditions come and go without the initiator's help; LOEJ and START mean nothing then.
        if asked.power_condition != 0 {
            return Ok(Response::good());
        }
        match (asked.load_eject, asked.start) {
            (true, _) if !self.unit.removable => return Err(SenseData::cdb_field(4, 1).into()),
            (true, true) => {
                if self.medium.turn(false)? {
                    // The others may have something of the old medium in their caches.
                    let others = Whom::Others(&asker.nexus);
                    asker.raise(self.unit.number, others, Sense::MEDIUM_MAY_HAVE_CHANGED);
                }
            }
            (true, false) => {
                if self.medium.is_prevented() {
                    return Err(Sense::MEDIUM_REMOVAL_PREVENTED.into());
                }
                self.stop().await?;
                self.medium.turn(true)?;
            }
            (false, true) => {}
            (false, false) => self.stop().await?,
        }
        Ok(Response::good())
    }

    /// The obsolete forms that a medium changer had are refused.
    pub(super) fn prevent_allow(&self, prevent: u8, asker: &Asker<V>) -> Result<Response, Failure> {
        match prevent {
            0 => self.medium.allow(&asker.nexus),
            1 if self.unit.removable => self.medium.prevent(&asker.nexus),
            1 => {}
            _ => return Err(SenseData::cdb_field(4, 1).into()),
        }
        Ok(Response::good())
    }

    async fn stop(&self) -> Result<(), Failure> {
        if self.unit.read_only || self.medium.is_absent() {
            return Ok(());
        }
        self.flush().await
    }
}
