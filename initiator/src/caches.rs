//! The watch over volatile write caches: what was acknowledged and not flushed is gone when a unit loses power.
//!
//! A unit that was reset or switched on says so in a Unit Attention (29h, SPC-4 table 59). If it has a volatile write
//! cache (WCE, SBC-3 §6.4.5) and changes were acknowledged since the last flush, those may be lost: [`CacheLoss`] says
//! what follows. A reset of the unit, of its bus and the loss of a nexus leave the cache alone (29/02, 29/03, 29/07). A
//! target that was switched off without telling it, or that hides its cache, cannot be seen through.

use iscsi_proto::scsi::{Command, ModeForm, PageControl, Sense};
use iscsi_proto::session::SessionEnd;
use iscsi_proto::wire::lun::Lun;

use crate::CacheLoss;
use crate::connection::Connection;
use crate::identity::good;
use crate::link::Link;

/// What is known of a unit's write cache.
#[derive(Debug, Default)]
pub(crate) struct CacheWatch {
    state: State,
    /// The number of the last change that was acknowledged.
    last_change: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was acknowledged since the last flush.
    #[default]
    Flushed,
    /// Something was.
    Dirty,
    /// Something was, and the unit was reset or switched on since; whether its cache is volatile has to be asked.
    Suspect,
    /// What was acknowledged may be gone, and nobody was told yet.
    Lost,
}

impl CacheWatch {
    /// True if the next flush cannot be sent yet.
    pub(crate) fn is_suspect(&self) -> bool {
        self.state == State::Suspect
    }

    /// True once after a loss: whoever flushes has to know. What is acknowledged from now on is another story.
    pub(crate) fn tell(&mut self) -> bool {
        let lost = self.state == State::Lost;
        if lost {
            self.state = State::Dirty;
        }
        lost
    }

    /// A change was acknowledged, under a number that grows.
    pub(crate) fn changed(&mut self, number: u64) {
        self.last_change = number;
        if self.state == State::Flushed {
            self.state = State::Dirty;
        }
    }

    /// A flush was acknowledged that was sent when this was the last change. False if it may have come too late.
    pub(crate) fn flushed(&mut self, last_change: u64) -> bool {
        match self.state {
            State::Suspect | State::Lost => return false,
            State::Dirty if self.last_change <= last_change => self.state = State::Flushed,
            State::Dirty | State::Flushed => {}
        }
        true
    }

    /// The unit was reset or switched on.
    pub(crate) fn restarted(&mut self) {
        if self.state == State::Dirty {
            self.state = State::Suspect;
        }
    }

    /// It was not, after all.
    pub(crate) fn dismiss(&mut self) {
        if self.state == State::Suspect {
            self.state = State::Dirty;
        }
    }

    /// Whether the cache that was restarted is volatile is known now; true if what was acknowledged may be lost.
    pub(crate) fn judge(&mut self, volatile: bool, follows: CacheLoss) -> bool {
        let lost = volatile && self.state == State::Suspect;
        self.state = match (lost, follows) {
            (false, _) => State::Flushed,
            (true, CacheLoss::Report) => State::Dirty,
            (true, CacheLoss::FailFlush) => State::Lost,
        };
        lost
    }
}

impl Link {
    /// A unit acknowledged a change.
    pub(crate) fn note_change(&mut self, lun: Lun) {
        if !self.watches_caches {
            return;
        }
        self.changes += 1;
        self.caches.entry(lun).or_default().changed(self.changes);
    }

    /// A unit acknowledged a flush that was sent after so many changes; false if it has to be asked again.
    pub(crate) fn note_flush(&mut self, lun: Lun, changes: u64) -> bool {
        self.caches
            .get_mut(&lun)
            .is_none_or(|cache| cache.flushed(changes))
    }

    /// A unit reports a Unit Attention.
    pub(crate) fn hear_attention(&mut self, lun: Lun, sense: Sense) {
        self.status.attention(sense);
        self.doubt(lun);
        match (sense.asc, sense.ascq) {
            (RESET, BUS_RESET | UNIT_RESET | NEXUS_LOSS) => {}
            (RESET, _) => {
                self.status.restarted();
                if let Some(cache) = self.caches.get_mut(&lun) {
                    cache.restarted();
                }
            }
            // One unit speaks for all of the target.
            UNITS_CHANGED => {
                for guard in self.guards.values_mut() {
                    guard.doubt();
                }
            }
            _ => {}
        }
    }

    /// Finds out whether what a unit acknowledged may be gone.
    pub(crate) async fn examine_cache(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
    ) -> Result<(), SessionEnd> {
        let answer = self
            .ask(connection, lun, &CACHING_PAGE, CACHING_BYTES.into())
            .await?;
        // A unit without the page has no cache that could be lost, as far as anybody can know.
        let volatile = answer.and_then(good).is_ok_and(|mode| writes_back(&mode));
        let Some(cache) = self.caches.get_mut(&lun) else {
            return Ok(());
        };
        if cache.judge(volatile, self.options.cache_loss) {
            self.status.cache_lost();
            tracing::warn!(address = self.dialer.reached(), %lun, "the unit was reset or switched on before a flush: what its volatile cache held may be lost");
        }
        Ok(())
    }
}

/// True if SYNCHRONIZE CACHE, of either length, is the command.
pub(crate) fn is_flush(cdb: &[u8; 16]) -> bool {
    matches!(cdb[0], 0x35 | 0x91)
}

/// The WCE bit of the caching page behind a mode parameter header of six-byte commands and its block descriptors.
pub(crate) fn writes_back(mode: &[u8]) -> bool {
    let descriptors = mode.get(3).copied().map_or(0, usize::from);
    let page = mode.get(4 + descriptors..).unwrap_or_default();
    page.first().is_some_and(|code| code & 0x3f == CACHING)
        && page.get(2).is_some_and(|bits| bits & WCE != 0)
}

/// MODE SENSE(6) of the caching page.
pub(crate) const CACHING_PAGE: Command = Command::ModeSense {
    form: ModeForm::Six,
    control: PageControl::Current,
    page: CACHING,
    subpage: 0,
    no_block_descriptor: true,
    allocation: CACHING_BYTES,
};
const CACHING: u8 = 0x08;
pub(crate) const CACHING_BYTES: u16 = 64;
const WCE: u8 = 0x04;

/// Additional sense of Unit Attentions (SPC-4 annex F).
const RESET: u8 = 0x29;
const BUS_RESET: u8 = 0x02;
const UNIT_RESET: u8 = 0x03;
const NEXUS_LOSS: u8 = 0x07;
const UNITS_CHANGED: (u8, u8) = (0x3f, 0x0e);

#[cfg(test)]
mod tests {
    use super::{CacheWatch, State, writes_back};

    #[test]
    fn a_flush_covers_what_was_acknowledged_before_it_was_sent() {
        let mut cache = CacheWatch::default();
        cache.changed(1);
        cache.changed(2);
        assert!(cache.flushed(1));
        assert_eq!(cache.state, State::Dirty);
        assert!(cache.flushed(2));
        assert_eq!(cache.state, State::Flushed);
        cache.restarted();
        assert_eq!(cache.state, State::Flushed, "nothing to lose");
        cache.changed(3);
        cache.restarted();
        assert!(!cache.flushed(3), "it came too late");
    }

    #[test]
    fn the_write_cache_bit_is_behind_the_block_descriptors() {
        let page = [0x88, 0x12, 0x04, 0];
        assert!(writes_back(&[&[7, 0, 0, 0][..], &page[..]].concat()));
        assert!(writes_back(
            &[&[15, 0, 0, 8][..], &[0; 8], &page[..]].concat()
        ));
        assert!(!writes_back(&[7, 0, 0, 0, 0x88, 0x12, 0x00, 0]));
        assert!(!writes_back(&[7, 0, 0, 0, 0x0a, 0x12, 0x04, 0]));
        assert!(!writes_back(&[7, 0, 0, 255, 0x88, 0x12, 0x04]));
        assert!(!writes_back(&[]));
    }
}
