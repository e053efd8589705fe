//! Basic header segments: one 48-byte struct per opcode (RFC 7143 §11). The left column of each table is the byte
//! offset, asserted at compile time. Fields hold what the wire holds; meaning is given elsewhere.

use std::mem::{offset_of, size_of};

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a basic header segment.
pub const BHS_BYTES: usize = 48;

/// A tag that names no task, or no transfer (RFC 7143 §11.2.1.8 and §11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// Bit 0x40 of byte 0: immediate delivery (RFC 7143 §11.2.1.1).
pub const IMMEDIATE: u8 = 0x40;

/// Bit 0x80 of byte 1: final PDU of a sequence; in login the transit bit.
pub const FINAL: u8 = 0x80;

/// Bit 0x40 of byte 1 in text and login PDUs: the text continues in the next PDU.
pub const CONTINUE: u8 = 0x40;

/// Bit 0x40 of byte 1 of a SCSI Command: data from the target is expected (RFC 7143 §11.3.1).
pub const READ: u8 = 0x40;

/// Bit 0x20 of byte 1 of a SCSI Command: there is data for the target (RFC 7143 §11.3.1).
pub const WRITE: u8 = 0x20;

/// Bit 0x01 of byte 1 of Data-In: the PDU carries the command's status (RFC 7143 §11.7.3).
pub const STATUS: u8 = 0x01;

/// Bit 0x04 of byte 1 of SCSI Response and Data-In: the command has more data than there was room for (§11.4.1).
pub const OVERFLOW: u8 = 0x04;

/// Bit 0x02 of byte 1 of SCSI Response and Data-In: the command moved less data than was expected (§11.4.1).
pub const UNDERFLOW: u8 = 0x02;

macro_rules! bhs {
    ($(#[$doc:meta])* $name:ident = $opcode:literal { $($offset:literal => $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name {
            $(#[doc = concat!("Byte ", stringify!($offset), ".")] pub $field: $type,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == BHS_BYTES);
            $(assert!(offset_of!($name, $field) == $offset);)*
        };

        impl $name {
            /// The opcode without the immediate bit.
            pub const OPCODE: u8 = $opcode;
        }

        impl Default for $name {
            /// All zeros but for the opcode.
            fn default() -> Self {
                let mut bytes = [0u8; BHS_BYTES];
                bytes[0] = $opcode;
                zerocopy::transmute!(bytes)
            }
        }
    };
}

/// A length of three bytes (RFC 7143 §11.2.1.6).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct U24([u8; 3]);

impl U24 {
    /// The largest value: 16,777,215.
    pub const MAX: u32 = 0x00ff_ffff;

    /// The value, cut to 24 bits.
    pub fn new(value: u32) -> Self {
        let [_, a, b, c] = value.to_be_bytes();
        Self([a, b, c])
    }

    /// The value.
    pub fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

/// The six bytes that name a session with an initiator: initiator session ID (RFC 7143 §11.12.5).
pub type Isid = [u8; 6];

bhs! {
    /// What every header has (RFC 7143 §11.2.1), and so the form of one with an unknown opcode.
    AnyHeader = 0x00 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => specific_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => specific_20: [u8; 28],
    }
}

bhs! {
    /// NOP-Out (RFC 7143 §11.18).
    NopOut = 0x00 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 16],
    }
}

bhs! {
    /// SCSI Command (RFC 7143 §11.3). Flags: [`FINAL`], read 0x40, write 0x20, task attribute 0x07.
    ScsiCommand = 0x01 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => expected_data_transfer_length: U32,
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => cdb: [u8; 16],
    }
}

bhs! {
    /// Task Management Function Request (RFC 7143 §11.5). The function is in the low seven bits of byte 1.
    TaskManagementRequest = 0x02 {
        0 => opcode: u8,
        1 => function: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => referenced_task_tag: U32,
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => ref_cmd_sn: U32,
        36 => exp_data_sn: U32,
        40 => reserved_40: [u8; 8],
    }
}

bhs! {
    /// Login Request (RFC 7143 §11.12). Flags: transit 0x80, [`CONTINUE`], CSG 0x0c, NSG 0x03.
    LoginRequest = 0x03 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => version_max: u8,
        3 => version_min: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => isid: Isid,
        14 => tsih: U16,
        16 => initiator_task_tag: U32,
        20 => cid: U16,
        22 => reserved_22: [u8; 2],
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 16],
    }
}

bhs! {
    /// Text Request (RFC 7143 §11.10). Flags: [`FINAL`], [`CONTINUE`].
    TextRequest = 0x04 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 16],
    }
}

bhs! {
    /// SCSI Data-Out (RFC 7143 §11.7). Flags: [`FINAL`].
    DataOut = 0x05 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => reserved_24: [u8; 4],
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 4],
        36 => data_sn: U32,
        40 => buffer_offset: U32,
        44 => reserved_44: [u8; 4],
    }
}

bhs! {
    /// Logout Request (RFC 7143 §11.14). The reason is in the low seven bits of byte 1.
    LogoutRequest = 0x06 {
        0 => opcode: u8,
        1 => reason: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => reserved_8: [u8; 8],
        16 => initiator_task_tag: U32,
        20 => cid: U16,
        22 => reserved_22: [u8; 2],
        24 => cmd_sn: U32,
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 16],
    }
}

bhs! {
    /// SNACK Request (RFC 7143 §11.16). The type is in the low four bits of byte 1.
    SnackRequest = 0x10 {
        0 => opcode: u8,
        1 => kind: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => reserved_24: [u8; 4],
        28 => exp_stat_sn: U32,
        32 => reserved_32: [u8; 8],
        40 => beg_run: U32,
        44 => run_length: U32,
    }
}

bhs! {
    /// NOP-In (RFC 7143 §11.19).
    NopIn = 0x20 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => reserved_36: [u8; 12],
    }
}

bhs! {
    /// SCSI Response (RFC 7143 §11.4). Flags: bidirectional overflow 0x10, underflow 0x08, overflow 0x04,
    /// underflow 0x02.
    ScsiResponse = 0x21 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => response: u8,
        3 => status: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => reserved_8: [u8; 8],
        16 => initiator_task_tag: U32,
        20 => snack_tag: U32,
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => exp_data_sn: U32,
        40 => bidirectional_read_residual_count: U32,
        44 => residual_count: U32,
    }
}

bhs! {
    /// Task Management Function Response (RFC 7143 §11.6).
    TaskManagementResponse = 0x22 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => response: u8,
        3 => reserved_3: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => reserved_8: [u8; 8],
        16 => initiator_task_tag: U32,
        20 => reserved_20: [u8; 4],
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => reserved_36: [u8; 12],
    }
}

bhs! {
    /// Login Response (RFC 7143 §11.13). Flags as in the request.
    LoginResponse = 0x23 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => version_max: u8,
        3 => version_active: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => isid: Isid,
        14 => tsih: U16,
        16 => initiator_task_tag: U32,
        20 => reserved_20: [u8; 4],
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => status_class: u8,
        37 => status_detail: u8,
        38 => reserved_38: [u8; 10],
    }
}

bhs! {
    /// Text Response (RFC 7143 §11.11). Flags: [`FINAL`], [`CONTINUE`].
    TextResponse = 0x24 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => reserved_36: [u8; 12],
    }
}

bhs! {
    /// SCSI Data-In (RFC 7143 §11.7). Flags: [`FINAL`], acknowledge 0x40, overflow 0x04, underflow 0x02, status 0x01.
    DataIn = 0x25 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: u8,
        3 => status: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => data_sn: U32,
        40 => buffer_offset: U32,
        44 => residual_count: U32,
    }
}

bhs! {
    /// Logout Response (RFC 7143 §11.15).
    LogoutResponse = 0x26 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => response: u8,
        3 => reserved_3: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => reserved_8: [u8; 8],
        16 => initiator_task_tag: U32,
        20 => reserved_20: [u8; 4],
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => reserved_36: [u8; 4],
        40 => time2wait: U16,
        42 => time2retain: U16,
        44 => reserved_44: [u8; 4],
    }
}

bhs! {
    /// Ready To Transfer (RFC 7143 §11.8).
    ReadyToTransfer = 0x31 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => target_transfer_tag: U32,
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => r2t_sn: U32,
        40 => buffer_offset: U32,
        44 => desired_data_transfer_length: U32,
    }
}

bhs! {
    /// Asynchronous Message (RFC 7143 §11.9).
    AsyncMessage = 0x32 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reserved_2: [u8; 2],
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => lun: U64,
        16 => initiator_task_tag: U32,
        20 => reserved_20: [u8; 4],
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => async_event: u8,
        37 => async_vcode: u8,
        38 => parameter_1: U16,
        40 => parameter_2: U16,
        42 => parameter_3: U16,
        44 => reserved_44: [u8; 4],
    }
}

bhs! {
    /// Reject (RFC 7143 §11.17).
    Reject = 0x3f {
        0 => opcode: u8,
        1 => flags: u8,
        2 => reason: u8,
        3 => reserved_3: u8,
        4 => total_ahs_length: u8,
        5 => data_segment_length: U24,
        8 => reserved_8: [u8; 8],
        16 => initiator_task_tag: U32,
        20 => reserved_20: [u8; 4],
        24 => stat_sn: U32,
        28 => exp_cmd_sn: U32,
        32 => max_cmd_sn: U32,
        36 => data_sn: U32,
        40 => reserved_40: [u8; 8],
    }
}
