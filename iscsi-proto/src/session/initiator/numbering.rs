//! CmdSN, the command window and StatSN as the initiator counts them (RFC 7143 §4.2.2).

use crate::session::initiator::ProtocolError;
use crate::wire::Header;
use crate::wire::bhs::{self, FINAL, STATUS};
use crate::wire::serial::Serial;

/// The numbers of one session with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    cmd_sn: Serial,
    max_cmd_sn: Serial,
    exp_stat_sn: Serial,
}

impl Numbers {
    /// What holds after the login phase.
    pub(super) fn new(cmd_sn: Serial, max_cmd_sn: Serial, exp_stat_sn: Serial) -> Self {
        Self {
            cmd_sn,
            max_cmd_sn,
            exp_stat_sn,
        }
    }

    /// The number of the next command.
    pub(super) fn cmd_sn(&self) -> Serial {
        self.cmd_sn
    }

    /// The status that is expected next; it acknowledges all before.
    pub(super) fn exp_stat_sn(&self) -> Serial {
        self.exp_stat_sn
    }

    /// True if the target takes another command.
    pub(super) fn is_open(&self) -> bool {
        self.cmd_sn.le(self.max_cmd_sn)
    }

    /// How many more commands the target takes.
    pub(super) fn room(&self) -> u32 {
        match self.is_open() {
            true => self.cmd_sn.distance(self.max_cmd_sn).saturating_add(1),
            false => 0,
        }
    }

    /// The number for a command that is sent now.
    pub(super) fn take(&mut self) -> Serial {
        let taken = self.cmd_sn;
        self.cmd_sn = taken.next();
        taken
    }

    /// Moves the window. Both numbers are ignored when they contradict each other (RFC 7143 §4.2.2.1).
    pub(super) fn hear_window(&mut self, exp_cmd_sn: Serial, max_cmd_sn: Serial) {
        let consistent = exp_cmd_sn.le(max_cmd_sn.next());
        if consistent && max_cmd_sn.gt(self.max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    /// Counts a status. Without recovery every status must be the next one.
    pub(super) fn hear_status(&mut self, stat_sn: Serial) -> Result<(), ProtocolError> {
        if stat_sn != self.exp_stat_sn {
            return Err(ProtocolError::StatSn);
        }
        self.exp_stat_sn = stat_sn.next();
        Ok(())
    }
}

/// ExpCmdSN and MaxCmdSN of a header that has them: of any that a target may send.
pub(super) fn window_of(header: &Header) -> Option<(Serial, Serial)> {
    let (exp, max) = match header {
        Header::NopIn(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::ScsiResponse(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::TaskManagementResponse(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::LoginResponse(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::TextResponse(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::DataIn(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::LogoutResponse(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::ReadyToTransfer(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::AsyncMessage(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        Header::Reject(h) => (h.exp_cmd_sn, h.max_cmd_sn),
        _ => return None,
    };
    Some((Serial(exp.get()), Serial(max.get())))
}

/// StatSN of a header that carries a status. R2T and a ping only quote the next one (RFC 7143 §11.8.3, §11.19.2).
pub(super) fn status_of(header: &Header) -> Option<Serial> {
    let stat_sn = match header {
        Header::NopIn(h) if h.initiator_task_tag != bhs::RESERVED_TAG => h.stat_sn,
        Header::ScsiResponse(h) => h.stat_sn,
        Header::TaskManagementResponse(h) => h.stat_sn,
        Header::TextResponse(h) => h.stat_sn,
        Header::DataIn(h) if h.flags & (FINAL | STATUS) == FINAL | STATUS => h.stat_sn,
        Header::LogoutResponse(h) => h.stat_sn,
        Header::AsyncMessage(h) => h.stat_sn,
        Header::Reject(h) => h.stat_sn,
        _ => return None,
    };
    Some(Serial(stat_sn.get()))
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use crate::wire::serial::Serial;

    #[test]
    fn the_window_closes_and_opens_over_the_wrap() {
        let mut numbers = Numbers::new(Serial(0xffff_ffff), Serial(0xffff_ffff), Serial(7));
        assert!(numbers.is_open());
        assert_eq!(numbers.take(), Serial(0xffff_ffff));
        assert!(!numbers.is_open());
        assert_eq!(numbers.room(), 0);
        numbers.hear_window(Serial(0), Serial(0));
        assert!(numbers.is_open());
        assert_eq!(numbers.room(), 1);
        assert_eq!(numbers.take(), Serial(0));
        assert!(!numbers.is_open());
    }

    #[test]
    fn a_contradictory_window_is_ignored() {
        let mut numbers = Numbers::new(Serial(10), Serial(10), Serial(0));
        numbers.hear_window(Serial(40), Serial(20));
        numbers.take();
        assert!(!numbers.is_open());
        numbers.hear_window(Serial(12), Serial(11));
        assert!(numbers.is_open());
    }

    #[test]
    fn the_window_never_moves_back() {
        let mut numbers = Numbers::new(Serial(10), Serial(10), Serial(0));
        numbers.hear_window(Serial(10), Serial(30));
        numbers.hear_window(Serial(10), Serial(9));
        assert!(numbers.is_open());
        assert_eq!(numbers.room(), 21);
    }

    #[test]
    fn every_status_counts_once() {
        let mut numbers = Numbers::new(Serial(1), Serial(1), Serial(u32::MAX));
        assert!(numbers.hear_status(Serial(u32::MAX)).is_ok());
        assert!(numbers.hear_status(Serial(u32::MAX)).is_err());
        assert!(numbers.hear_status(Serial(1)).is_err());
        assert!(numbers.hear_status(Serial(0)).is_ok());
        assert_eq!(numbers.exp_stat_sn(), Serial(1));
    }
}
