//! The watch over a unit: it must stay what it was. And the questions that tell.

use std::time::Duration;

use iscsi_proto::scsi::{Command, vpd};
use iscsi_proto::session::{
    Completion, InitiatorEvent, Outcome, Request, RequestId, SessionEnd, SubmitError, Transfer,
};
use iscsi_proto::wire::lun::Lun;

use crate::connection::{Connection, now};
use crate::identity::{
    CAPACITY_10_BYTES, CAPACITY_16, CAPACITY_BYTES, INQUIRY_BYTES, Identity, MAX_TRIES, asks_again,
    attention, capacity_10, capacity_16, designators, page_command, result_of,
};
use crate::link::Link;
use crate::{Error, Resize};

/// The watch over a unit.
#[derive(Clone, Debug, Default)]
pub(crate) enum Guard {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// The unit was this, and was seen to be the same since the last cause for doubt.
    Same(Identity),
    /// The unit was this; whether it still is has to be asked.
    Doubted(Identity),
    /// The unit is not what it was, and never will be again for this session.
    Changed,
}

/// What a guard says about a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Same,
    Doubted,
    Changed,
}

impl Guard {
    pub(crate) fn trust(&self) -> Trust {
        match self {
            Self::Same(_) => Trust::Same,
            Self::Unknown | Self::Doubted(_) => Trust::Doubted,
            Self::Changed => Trust::Changed,
        }
    }

    /// What the unit is known to be.
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        match self {
            Self::Same(identity) => Ok(identity.clone()),
            Self::Unknown | Self::Doubted(_) | Self::Changed => Err(Error::Changed),
        }
    }

    /// There is cause for doubt.
    pub(crate) fn doubt(&mut self) {
        *self = match std::mem::take(self) {
            Self::Same(identity) => Self::Doubted(identity),
            other => other,
        };
    }

    /// The unit said what it is.
    pub(crate) fn compare(&mut self, found: Identity, resize: Resize) -> Result<(), Error> {
        *self = match std::mem::take(self) {
            Self::Unknown => Self::Same(found),
            Self::Same(known) | Self::Doubted(known)
                if known == found || resize == Resize::Follow && found.is_resized(&known) =>
            {
                Self::Same(found)
            }
            _ => Self::Changed,
        };
        self.identity().map(|_| ())
    }
}

impl Link {
    /// Asks a unit what it is, while other commands go on.
    pub(crate) async fn ask_identity(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
    ) -> Result<Result<Identity, Error>, SessionEnd> {
        let capacity = match self
            .ask(connection, lun, &CAPACITY_16, CAPACITY_BYTES)
            .await?
            .and_then(capacity_16)
        {
            Ok(Some(capacity)) => Ok(capacity),
            Ok(None) => self
                .ask(connection, lun, &Command::ReadCapacity10, CAPACITY_10_BYTES)
                .await?
                .and_then(capacity_10),
            Err(error) => Err(error),
        };
        let capacity = match capacity {
            Ok(capacity) => capacity,
            Err(error) => return Ok(Err(error)),
        };
        let page = page_command(vpd::DEVICE_IDENTIFICATION);
        let names = self
            .ask(connection, lun, &page, INQUIRY_BYTES.into())
            .await?
            .and_then(designators);
        Ok(names.map(|names| Identity::new(&capacity, names)))
    }

    /// Carries one own command out.
    pub(crate) async fn ask(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
        command: &Command,
        length: u32,
    ) -> Result<Result<Completion, Error>, SessionEnd> {
        let mut tries = 0;
        loop {
            let outcome = match self.ask_once(connection, lun, command, length).await? {
                Ok(outcome) => outcome,
                Err(error) => return Ok(Err(error)),
            };
            tries += 1;
            if let Some(sense) = attention(&outcome) {
                self.hear_attention(lun, sense);
            }
            if !asks_again(&outcome) || tries >= MAX_TRIES {
                return Ok(result_of(outcome));
            }
        }
    }

    async fn ask_once(
        &mut self,
        connection: &mut Connection,
        lun: Lun,
        command: &Command,
        length: u32,
    ) -> Result<Result<Outcome, Error>, SessionEnd> {
        let request = Request {
            lun,
            cdb: command.cdb(),
            transfer: Transfer::Read(length),
        };
        let question = match connection.session.submit(now(), request) {
            Ok(question) => question,
            Err(SubmitError::QueueFull) => return Ok(Err(Error::QueueFull)),
            // The session is on its way out: its end follows.
            Err(_) => return Err(self.wait_for_end(connection).await),
        };
        let answer = self.wait_for(connection, question);
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(outcome) => Ok(Ok(outcome?)),
            Err(_late) => {
                connection.session.abort(now(), question);
                Ok(Err(Error::TimedOut))
            }
        }
    }

    async fn wait_for(
        &mut self,
        connection: &mut Connection,
        question: RequestId,
    ) -> Result<Outcome, SessionEnd> {
        loop {
            match connection.event().await {
                // The end of the session follows what was not sent.
                InitiatorEvent::Completed {
                    outcome: Outcome::Unsent,
                    request,
                } if request == question => {}
                InitiatorEvent::Completed { request, outcome } if request == question => {
                    return Ok(outcome);
                }
                event => self.take_event(event)?,
            }
        }
    }
}

/// How long a unit may take to say what it is; the session's other units wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::vpd::Designator;

    use super::{Guard, Trust};
    use crate::Resize;
    use crate::identity::Identity;

    fn unit(blocks: u64) -> Identity {
        Identity {
            blocks,
            block_bytes: 512,
            designators: vec![Designator::naa([0x30; 8])],
        }
    }

    #[test]
    fn a_unit_that_changed_once_is_never_trusted_again() {
        let mut guard = Guard::default();
        assert_eq!(guard.trust(), Trust::Doubted);
        assert!(guard.compare(unit(8), Resize::Fence).is_ok());
        guard.doubt();
        assert_eq!(guard.trust(), Trust::Doubted);
        assert!(guard.compare(unit(8), Resize::Fence).is_ok());
        assert_eq!(guard.trust(), Trust::Same);
        assert!(guard.compare(unit(9), Resize::Fence).is_err());
        assert!(guard.compare(unit(8), Resize::Fence).is_err());
        guard.doubt();
        assert_eq!(guard.trust(), Trust::Changed);
    }

    #[test]
    fn a_resized_unit_is_the_same_if_it_has_a_name_and_can_be_addressed() {
        let follows = |known: Identity, found: Identity| {
            let mut guard = Guard::default();
            guard.compare(known, Resize::Follow).is_ok()
                && guard.compare(found, Resize::Follow).is_ok()
        };
        assert!(follows(unit(8), unit(9)));
        assert!(follows(unit(9), unit(8)));
        let nameless = |blocks| Identity {
            designators: Vec::new(),
            ..unit(blocks)
        };
        assert!(follows(nameless(8), nameless(8)));
        assert!(!follows(nameless(8), nameless(9)));
        let other = Identity {
            designators: vec![Designator::naa([0x31; 8])],
            ..unit(9)
        };
        assert!(!follows(unit(8), other));
        let coarse = Identity {
            block_bytes: 4096,
            ..unit(1)
        };
        assert!(!follows(unit(8), coarse));
        assert!(!follows(unit(8), unit(u64::MAX)));
    }
}
