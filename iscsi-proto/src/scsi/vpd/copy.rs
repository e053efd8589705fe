//! The third-party copy page (SPC-4 §7.8.17): what EXTENDED COPY(LID1) takes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{THIRD_PARTY_COPY, page};
use crate::scsi::copy::OperatingParameters;

/// Commands of third-party copies, one operation code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySupport {
    /// The operation code.
    pub opcode: u8,
    /// Its service actions, ascending.
    pub actions: &'static [u8],
}

impl CopySupport {
    /// EXTENDED COPY(LID1), and RECEIVE COPY RESULTS with all that belongs to it.
    pub const LID1: [Self; 2] = [
        Self {
            opcode: 0x83,
            actions: &[0x00],
        },
        Self {
            opcode: 0x84,
            actions: &[0x00, 0x01, 0x03, 0x04],
        },
    ];
}

/// The third-party copy page; the five descriptors that are mandatory.
pub fn third_party_copy_page(commands: &[CopySupport], parameters: &OperatingParameters) -> Bytes {
    let mut out = BytesMut::new();
    descriptor(&mut out, SUPPORTED_COMMANDS, |out| {
        let bytes: usize = commands.iter().map(|one| one.actions.len() + 2).sum();
        out.put_u8(u8::try_from(bytes).unwrap_or(u8::MAX));
        for command in commands {
            out.put_u8(command.opcode);
            out.put_u8(u8::try_from(command.actions.len()).unwrap_or(u8::MAX));
            out.put_slice(command.actions);
        }
    });
    descriptor(&mut out, PARAMETER_DATA, |out| {
        out.put_u32(0);
        out.put_u16(parameters.maximum_cscds);
        out.put_u16(parameters.maximum_segments);
        out.put_u32(parameters.maximum_descriptor_bytes);
        // No inline data.
        out.put_bytes(0, 16);
    });
    descriptor(&mut out, SUPPORTED_DESCRIPTORS, |out| {
        out.put_u8(u8::try_from(parameters.types.len()).unwrap_or(u8::MAX));
        out.put_slice(&parameters.types);
    });
    // No identifier stands for a device by itself: the list of them is empty.
    descriptor(&mut out, SUPPORTED_CSCD_IDS, |out| out.put_u16(0));
    descriptor(&mut out, GENERAL_COPY_OPERATIONS, |out| {
        out.put_u32(parameters.concurrent.into());
        out.put_u32(parameters.concurrent.into());
        out.put_u32(parameters.maximum_segment_bytes);
        out.put_u8(parameters.granularity_exponent);
        out.put_bytes(0, 19);
    });
    page(THIRD_PARTY_COPY, &out)
}

/// A descriptor, filled up to a multiple of four bytes.
fn descriptor(out: &mut BytesMut, kind: u16, fill: impl FnOnce(&mut BytesMut)) {
    let mut value = BytesMut::new();
    fill(&mut value);
    value.resize(value.len().next_multiple_of(4), 0);
    out.put_u16(kind);
    out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.put_slice(&value);
}

const SUPPORTED_COMMANDS: u16 = 0x0001;
const PARAMETER_DATA: u16 = 0x0004;
const SUPPORTED_DESCRIPTORS: u16 = 0x0008;
const SUPPORTED_CSCD_IDS: u16 = 0x000c;
const GENERAL_COPY_OPERATIONS: u16 = 0x8001;
