//! Which nexus a session is, and what may be left of those that it was before.
//!
//! A login under the name of a session (ISID) ends the tasks of the connection before, but only inside a target portal
//! group: that is what makes a nexus (RFC 7143 §4.4.2, §6.3.5). A change that was sent in another nexus may still be
//! carried out, after a newer one; so its unit is reset before anything else is sent to it.

use iscsi_proto::session::{InitiatorEvent, ManagementAnswer, RequestId, SessionEnd, SubmitError};
use iscsi_proto::wire::lun::Lun;

use crate::Error;
use crate::connection::{Connection, now};
use crate::link::Link;

/// Which nexus a session is; what both ends are called stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nexus {
    /// Through a portal group.
    Group(u16),
    /// Through an address of a target that does not tell its portal group.
    Address(String),
}

/// Where changes of a unit were sent that may still be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strays {
    #[default]
    Nowhere,
    In(Nexus),
    /// In several nexuses.
    Anywhere,
}

impl Strays {
    pub(crate) fn add(&mut self, nexus: Nexus) {
        *self = match std::mem::take(self) {
            Self::Nowhere => Self::In(nexus),
            Self::In(other) if other == nexus => Self::In(nexus),
            Self::In(_) | Self::Anywhere => Self::Anywhere,
        };
    }
}

impl Link {
    /// Notes where the session is. What was left of it there is dead.
    pub(crate) fn enter_nexus(&mut self, connection: &Connection) {
        let nexus = match connection.session.portal_group_tag() {
            Some(tag) => Nexus::Group(tag),
            None => Nexus::Address(self.dialer.reached().to_owned()),
        };
        let dead = Strays::In(nexus.clone());
        self.strays.retain(|_, strays| *strays != dead);
        let moved = self.nexus.as_ref().is_some_and(|before| *before != nexus);
        self.status
            .entered(connection.session.portal_group_tag(), moved);
        self.nexus = Some(nexus);
    }

    /// A change was sent that this nexus may still carry out.
    pub(crate) fn note_stray(&mut self, lun: Lun) {
        if let Some(nexus) = &self.nexus {
            self.strays.entry(lun).or_default().add(nexus.clone());
        }
    }

    /// Ends what other nexuses may still do to a unit, or gives up the changes that would have to be repeated.
    pub(crate) async fn fence_strays(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
    ) -> Result<(), SessionEnd> {
        if self.strays.remove(&lun).is_none() {
            return Ok(());
        }
        let answer = match connection.session.reset_unit(now(), lun) {
            Ok(reset) => self.wait_for_reset(connection, lun, reset).await?,
            Err(SubmitError::Closed | SubmitError::NotLoggedIn) => {
                self.strays.insert(lun, Strays::Anywhere);
                return Err(self.wait_for_end(connection).await);
            }
            Err(SubmitError::QueueFull | SubmitError::TooLong) => None,
        };
        if answer == Some(ManagementAnswer::Complete) {
            tracing::debug!(address = self.dialer.reached(), %lun, "the unit was reset: writes of the connection before are over");
            self.doubt(lun);
        } else {
            tracing::warn!(address = self.dialer.reached(), %lun, ?answer, "the unit refuses a reset: writes of the connection before are given up");
            self.give_up_changes(lun);
        }
        Ok(())
    }

    async fn wait_for_reset(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
        reset: RequestId,
    ) -> Result<Option<ManagementAnswer>, SessionEnd> {
        loop {
            match connection.event().await {
                InitiatorEvent::Managed { request, answer } if request == reset => {
                    return Ok(answer);
                }
                event => {
                    if let Err(end) = self.take_event(event) {
                        self.strays.insert(lun, Strays::Anywhere);
                        return Err(end);
                    }
                }
            }
        }
    }

    /// The session is on its way out: its end follows.
    pub(crate) async fn wait_for_end(&mut self, connection: &mut Connection) -> SessionEnd {
        loop {
            let event = connection.event().await;
            if let Err(end) = self.take_event(event) {
                return end;
            }
        }
    }

    /// Changes of a unit that may have been carried out are not repeated.
    fn give_up_changes(&mut self, lun: Lun) {
        let of_unit = |number: &u64| {
            self.jobs
                .get(number)
                .is_some_and(|job| job.request.lun == lun && job.is_uncertain())
        };
        let numbers: Vec<u64> = self.queue.iter().copied().filter(of_unit).collect();
        for number in numbers {
            self.answer(number, Err(Error::Interrupted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Nexus, Strays};

    #[test]
    fn strays_of_several_nexuses_are_anywhere() {
        let mut strays = Strays::default();
        strays.add(Nexus::Group(1));
        strays.add(Nexus::Group(1));
        assert_eq!(strays, Strays::In(Nexus::Group(1)));
        strays.add(Nexus::Group(2));
        assert_eq!(strays, Strays::Anywhere);
        strays.add(Nexus::Group(2));
        assert_eq!(strays, Strays::Anywhere);
    }
}
