//! Why a command failed, and the one place that turns a volume's error into SCSI.

use iscsi_proto::scsi::{Sense, SenseData, Status};
use iscsi_proto::session::Response;
use vmthunder_volume::Error;

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// CHECK CONDITION with this sense.
    Check(SenseData),
    /// The same, told in descriptor format.
    Described(SenseData),
    /// Too much is under way; the initiator shall ask again.
    Busy,
    /// Somebody else has reserved the unit.
    Conflict,
}

/// What was asked of the volume that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Reading,
    Writing,
}

impl Failure {
    /// What an initiator is told of a volume's error.
    pub(crate) fn of(error: &Error, access: Access) -> Self {
        let sense = match (error, access) {
            (Error::Busy, _) => return Self::Busy,
            (Error::OutOfRange, _) => Sense::LBA_OUT_OF_RANGE,
            (Error::ReadOnly, _) => Sense::WRITE_PROTECTED,
            (Error::Unsupported, _) => Sense::INVALID_OPERATION_CODE,
            (Error::Unavailable, _) => Sense::BECOMING_READY,
            (Error::Corrupt, _) => Sense::UNRECOVERED_READ_ERROR,
            (Error::NoSpace | Error::Quota, _) => Sense::SPACE_ALLOCATION_FAILED,
            (Error::Device { key, asc, ascq }, _) => Sense::new(*key, *asc, *ascq),
            (_, Access::Reading) => Sense::INTERNAL_TARGET_FAILURE,
            (_, Access::Writing) => Sense::WRITE_ERROR,
        };
        sense.into()
    }

    /// The response; `alone` if nothing else of the session is under way. An initiator that got TASK SET FULL waits
    /// for another of its commands to end, so one that has none must get BUSY (SAM-5 §5.3.1).
    pub(crate) fn response(self, alone: bool) -> Response {
        match self {
            Self::Check(sense) => Response::check_condition(sense.to_fixed_bytes()),
            Self::Described(sense) => Response::check_condition(sense.to_descriptor_bytes()),
            Self::Busy if alone => Response::status(Status::BUSY),
            Self::Busy => Response::status(Status::TASK_SET_FULL),
            Self::Conflict => Response::status(Status::RESERVATION_CONFLICT),
        }
    }
}

/// The volume's own fault; others are the initiator's, or pass by themselves.
pub(crate) fn is_fault(error: &Error) -> bool {
    !matches!(
        error,
        Error::Busy | Error::OutOfRange | Error::ReadOnly | Error::Unsupported
    )
}

impl From<Sense> for Failure {
    fn from(sense: Sense) -> Self {
        Self::Check(sense.into())
    }
}

impl From<SenseData> for Failure {
    fn from(sense: SenseData) -> Self {
        Self::Check(sense)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use vmthunder_volume::Error;

    use super::{Access, Failure};

    #[test]
    fn every_error_has_its_sense() {
        let io = Error::Io(Arc::new(io::Error::other("broken")));
        let expected = [
            (Error::OutOfRange, [5, 0x21, 0x00], [5, 0x21, 0x00]),
            (Error::ReadOnly, [7, 0x27, 0x00], [7, 0x27, 0x00]),
            (Error::Unsupported, [5, 0x20, 0x00], [5, 0x20, 0x00]),
            (Error::Unavailable, [2, 0x04, 0x01], [2, 0x04, 0x01]),
            (Error::Corrupt, [3, 0x11, 0x00], [3, 0x11, 0x00]),
            (Error::NoSpace, [7, 0x27, 0x07], [7, 0x27, 0x07]),
            (Error::Quota, [7, 0x27, 0x07], [7, 0x27, 0x07]),
            (Error::Fenced, [4, 0x44, 0x00], [3, 0x0c, 0x00]),
            (io, [4, 0x44, 0x00], [3, 0x0c, 0x00]),
            (
                Error::Device {
                    key: 6,
                    asc: 0x2a,
                    ascq: 9,
                },
                [6, 0x2a, 9],
                [6, 0x2a, 9],
            ),
        ];
        for (error, reading, writing) in expected {
            for (access, [key, asc, ascq]) in
                [(Access::Reading, reading), (Access::Writing, writing)]
            {
                let response = Failure::of(&error, access).response(true);
                assert_eq!(response.status.0, 0x02);
                let sense = response.sense.unwrap();
                assert_eq!(
                    (sense[0], sense[2], sense[12], sense[13]),
                    (0x70, key, asc, ascq),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn busy_depends_on_company() {
        let busy = Failure::of(&Error::Busy, Access::Reading);
        assert_eq!(busy.response(true).status.0, 0x08);
        assert_eq!(busy.response(false).status.0, 0x28);
    }
}
