//! What a target counts; plain numbers for whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a target since it was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) waited: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) logins_refused: AtomicU64,
    pub(crate) logins_denied: AtomicU64,
    pub(crate) logins_redirected: AtomicU64,
    pub(crate) logins_delayed: AtomicU64,
    pub(crate) authentication_failures: AtomicU64,
    pub(crate) reservation_conflicts: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) purged: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetStats {
    /// Bytes of read data handed to sessions.
    pub read_bytes: u64,
    /// Bytes of write data taken from sessions.
    pub written_bytes: u64,
    /// SCSI commands answered.
    pub commands: u64,
    /// Of these, with another status than GOOD.
    pub failures: u64,
    /// Of these, not answered in place but after waiting for the volume.
    pub waited: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed before their login, because there were too many.
    pub connections_refused: u64,
    /// Logins admitted.
    pub logins: u64,
    /// Logins refused by the target.
    pub logins_refused: u64,
    /// Of these, for the initiator's name or network.
    pub logins_denied: u64,
    /// Logins sent to another portal.
    pub logins_redirected: u64,
    /// Logins held up, or refused, because others like them had failed.
    pub logins_delayed: u64,
    /// Logins that did not prove what they had to.
    pub authentication_failures: u64,
    /// Commands refused for another initiator's reservation.
    pub reservation_conflicts: u64,
    /// Logical units reset by initiators.
    pub resets: u64,
    /// Tasks taken away by another initiator's reset, clearing or preemption.
    pub purged: u64,
    /// Bytes of read and write data held now.
    pub bytes_in_flight: u64,
    /// Sessions now.
    pub sessions: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, sessions: usize, bytes_in_flight: u64) -> TargetStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TargetStats {
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
            commands: get(&self.commands),
            failures: get(&self.failures),
            waited: get(&self.waited),
            connections: get(&self.connections),
            connections_refused: get(&self.connections_refused),
            logins: get(&self.logins),
            logins_refused: get(&self.logins_refused),
            logins_denied: get(&self.logins_denied),
            logins_redirected: get(&self.logins_redirected),
            logins_delayed: get(&self.logins_delayed),
            authentication_failures: get(&self.authentication_failures),
            reservation_conflicts: get(&self.reservation_conflicts),
            resets: get(&self.resets),
            purged: get(&self.purged),
            bytes_in_flight,
            sessions: u64::try_from(sessions).unwrap_or(u64::MAX),
        }
    }
}
