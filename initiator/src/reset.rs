//! LOGICAL UNIT RESET for those who ask for one.

use iscsi_proto::session::{ManagementAnswer, RequestId, SubmitError};

use crate::Error;
use crate::connection::{Connection, now};
use crate::job::ResetReply;
use crate::link::Link;

impl Link {
    /// Sends the resets that wait.
    pub(crate) fn submit_resets(&mut self, connection: &mut Connection) {
        while let Some((lun, reply)) = self.resets.pop_front() {
            match connection.session.reset_unit(now(), lun) {
                Ok(request) => {
                    self.resetting.insert(request, (lun, reply));
                }
                // Later: after answers, or after the next login.
                Err(SubmitError::QueueFull | SubmitError::Closed | SubmitError::NotLoggedIn) => {
                    self.resets.push_front((lun, reply));
                    return;
                }
                Err(SubmitError::TooLong) => refuse(reply, Error::TooLong),
            }
        }
    }

    /// A reset was answered.
    pub(crate) fn finish_reset(&mut self, request: RequestId, answer: Option<ManagementAnswer>) {
        let Some((lun, reply)) = self.resetting.remove(&request) else {
            return;
        };
        let result = match answer {
            Some(ManagementAnswer::Complete) => Ok(()),
            answer => Err(Error::ResetRefused(answer)),
        };
        if result.is_ok() {
            self.strays.remove(&lun);
            self.doubt(lun);
        }
        // Whoever asked may have gone.
        let _ = reply.send(result);
    }

    /// The connection is gone: nobody knows whether what was sent of them was carried out.
    pub(crate) fn lose_resets(&mut self) {
        for (_, (_, reply)) in self.resetting.drain() {
            refuse(reply, Error::Interrupted);
        }
    }

    /// Nobody waits for the target any more.
    pub(crate) fn give_up_resets(&mut self, reason: &Error) {
        for (_, reply) in self.resets.drain(..) {
            refuse(reply, reason.clone());
        }
    }
}

fn refuse(reply: ResetReply, error: Error) {
    // Whoever asked may have gone.
    let _ = reply.send(Err(error));
}
