//! What commands are made of, besides blocks: the choices that their fields offer (SPC-4, SBC-4).

use super::cdb::{WRITE_SAME_ANCHOR, WRITE_SAME_NDOB, WRITE_SAME_UNMAP, bit};
use super::range::{Form, LbaRange};

/// MODE SENSE(6) or (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeForm {
    /// MODE SENSE(6): a header of four bytes.
    Six,
    /// MODE SENSE(10): a header of eight bytes.
    Ten {
        /// Long block descriptors are welcome (LLBAA).
        long_lba: bool,
    },
}

/// Which values of mode pages are asked for (SPC-4 §6.11.1, PC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    /// The values in force.
    Current,
    /// A mask of what can be changed.
    Changeable,
    /// The values after a reset.
    Default,
    /// The values that were saved.
    Saved,
}

impl PageControl {
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte >> 6 {
            0 => Self::Current,
            1 => Self::Changeable,
            2 => Self::Default,
            _ => Self::Saved,
        }
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Self::Current => 0x00,
            Self::Changeable => 0x40,
            Self::Default => 0x80,
            Self::Saved => 0xc0,
        }
    }
}

/// What is asked of REPORT SUPPORTED OPERATION CODES (SPC-4 §6.35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpcodeQuery {
    /// All commands.
    All,
    /// One operation code that has no service actions.
    One(u8),
    /// One operation code with one of its service actions.
    Action(u8, u16),
    /// One operation code, with a service action if it has them (reporting options 011b).
    Either(u8, u16),
}

/// WRITE SAME(10) or (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSame {
    /// Which blocks.
    pub range: LbaRange,
    /// The space may be given back if the block is zero.
    pub unmap: bool,
    /// Anchor the blocks.
    pub anchor: bool,
    /// No block is sent: zeros are meant (NDOB). The ten-byte form cannot say this; there it is dropped.
    pub no_data_out: bool,
}

impl WriteSame {
    pub(super) fn bits(self) -> u8 {
        let ndob = self.no_data_out && self.range.form() == Form::Sixteen;
        bit(self.unmap, WRITE_SAME_UNMAP)
            | bit(self.anchor, WRITE_SAME_ANCHOR)
            | bit(ndob, WRITE_SAME_NDOB)
    }
}

/// What VERIFY, or WRITE AND VERIFY compares (SBC-4 §5.39, BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteCheck {
    /// 00b: nothing, the blocks have to be readable. No data is sent to VERIFY.
    Readable,
    /// 01b: each block with the data that is sent.
    Compare,
    /// 11b: each block with the one block that is sent.
    CompareOne,
}

/// Which values of a log page are asked for (SPC-4 §6.7, PC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogControl {
    /// The thresholds in force.
    Threshold,
    /// What was counted.
    Cumulative,
    /// The thresholds after a reset.
    DefaultThreshold,
    /// What the counters say after a reset.
    DefaultCumulative,
}

/// What PERSISTENT RESERVE IN asks for (SPC-4 §6.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveIn {
    /// The keys that are registered.
    ReadKeys,
    /// The reservation that is held.
    ReadReservation,
    /// What is supported.
    ReportCapabilities,
    /// Every registration and the reservation.
    ReadFullStatus,
}

/// What PERSISTENT RESERVE OUT does (SPC-4 §6.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveOut {
    /// Registers, changes or removes the own key.
    Register,
    /// Reserves the unit.
    Reserve,
    /// Gives the own reservation up.
    Release,
    /// Removes every registration and the reservation.
    Clear,
    /// Removes others, and takes their reservation.
    Preempt,
    /// The same, and aborts their commands.
    PreemptAndAbort,
    /// Registers, whatever key was registered before.
    RegisterAndIgnore,
    /// Registers another nexus and gives it the reservation.
    RegisterAndMove,
}

/// What RECEIVE COPY RESULTS asks for (SPC-4 §6.24 to §6.27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyResults {
    /// How far a copy is.
    Status,
    /// Data that a copy held back.
    Data,
    /// What is supported.
    OperatingParameters,
    /// Why a copy failed.
    FailedSegmentDetails,
}

/// How SANITIZE makes data unrecoverable (SBC-4 §5.30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitizeAction {
    /// By writing a pattern; the parameter list has it.
    Overwrite,
    /// By erasing blocks.
    BlockErase,
    /// By forgetting the key.
    CryptographicErase,
    /// Not at all: leaves the state after a failure.
    ExitFailure,
}

/// One service action, or other code, for each variant: both ways from one list.
macro_rules! codes {
    ($($name:ident { $($code:literal = $variant:ident,)* })*) => {
        $(impl $name {
            /// The variant of a code, if there is one.
            pub(super) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The code of this variant.
            pub(super) fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        })*
    };
}

codes! {
    ByteCheck {
        0b00 = Readable,
        0b01 = Compare,
        0b11 = CompareOne,
    }
    LogControl {
        0b00 = Threshold,
        0b01 = Cumulative,
        0b10 = DefaultThreshold,
        0b11 = DefaultCumulative,
    }
    ReserveIn {
        0x00 = ReadKeys,
        0x01 = ReadReservation,
        0x02 = ReportCapabilities,
        0x03 = ReadFullStatus,
    }
    ReserveOut {
        0x00 = Register,
        0x01 = Reserve,
        0x02 = Release,
        0x03 = Clear,
        0x04 = Preempt,
        0x05 = PreemptAndAbort,
        0x06 = RegisterAndIgnore,
        0x07 = RegisterAndMove,
    }
    CopyResults {
        0x00 = Status,
        0x01 = Data,
        0x03 = OperatingParameters,
        0x04 = FailedSegmentDetails,
    }
    SanitizeAction {
        0x01 = Overwrite,
        0x02 = BlockErase,
        0x03 = CryptographicErase,
        0x1f = ExitFailure,
    }
}
