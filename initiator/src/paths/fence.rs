//! Ending what the target may still carry out for a path that was lost.

use std::pin::pin;
use std::time::Duration;

use iscsi_proto::scsi::port_groups::AccessState;

use tokio::sync::RwLockWriteGuard;

use super::path::Path;
use super::set::PathSet;
use crate::Error;
use crate::discover::say_goodbye;

impl PathSet {
    /// True if the target may still carry out a change that was sent on a path that was lost.
    pub(crate) fn is_in_doubt(&self) -> bool {
        // Each is looked at: one that is no longer in doubt is to forget it.
        self.paths.iter().filter(|path| path.is_in_doubt()).count() > 0
    }

    /// Waits until no command is under way, then ends what is in doubt. The error says why that is not possible now.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let (_nothing_under_way, hurried) = self.close_gate().await;
        if hurried {
            self.until_connected(self.patience).await;
        }
        if !self.is_in_doubt() {
            return Ok(());
        }
        for lost in self.paths.iter().filter(|path| path.is_in_doubt()) {
            self.reinstate(lost).await;
        }
        if !self.is_in_doubt() {
            return Ok(());
        }
        let mut living: Vec<&Path> = self
            .paths
            .iter()
            .filter(|path| path.is_connected())
            .collect();
        living.sort_by_key(|path| path.access().state != AccessState::ACTIVE_OPTIMIZED);
        let mut failure = Error::Interrupted;
        for path in living {
            match self.reset_through(path).await {
                Ok(()) => {
                    tracing::warn!(
                        address = path.address,
                        "unit reset: what was in doubt on a lost path is ended"
                    );
                    self.paths.iter().for_each(Path::settle);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(address = path.address, %error, "the unit cannot be reset here");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// Waits until no command is under way. Connections that keep it waiting too long are given up, whatever they still
    /// say: a unit that answers nothing on a second path must not keep everybody for as long as its commands may take.
    /// True if it came to that.
    async fn close_gate(&self) -> (RwLockWriteGuard<'_, ()>, bool) {
        let mut hurried = false;
        let mut gate = pin!(self.gate.write());
        loop {
            tokio::select! {
                biased;
                closed = &mut gate => return (closed, hurried),
                () = tokio::time::sleep(self.patience) => {
                    hurried = true;
                    self.paths.iter().for_each(|path| path.give_up_if_busy(self.patience));
                }
            }
        }
    }

    /// Logs in under the name of a lost session through a living path of the same portal group, and out again: that ends
    /// the lost session and its tasks (RFC 7143 §6.3.5), and nobody else's.
    async fn reinstate(&self, lost: &Path) {
        let Some(session) = lost.session().filter(|session| !session.is_connected()) else {
            return;
        };
        let living = self.paths.iter().filter(|path| path.is_connected());
        for other in living.filter_map(Path::session) {
            let tag = session.portal_group_tag();
            if tag.is_none() || other.portal_group_tag() != tag {
                continue;
            }
            let Some(mut dialer) = session.dialer().through(other.dialer()) else {
                continue;
            };
            match dialer.dial().await {
                Ok(mut connection) => {
                    let same = connection.session.portal_group_tag() == tag;
                    say_goodbye(&mut connection).await;
                    if same {
                        tracing::warn!(
                            address = lost.address,
                            through = dialer.reached(),
                            "lost session ended, and what was in doubt on it"
                        );
                        return lost.settle();
                    }
                }
                Err(error) => {
                    tracing::debug!(address = lost.address, %error, "the lost session cannot be ended");
                }
            }
        }
    }

    async fn reset_through(&self, path: &Path) -> Result<(), Error> {
        let session = path.session().ok_or(Error::Closed)?;
        tokio::time::timeout(LONGEST_RESET, session.reset_unit(path.lun))
            .await
            .map_err(|_late| Error::TimedOut)?
    }
}

/// How long a reset may take before another path is tried.
const LONGEST_RESET: Duration = Duration::from_secs(15);
