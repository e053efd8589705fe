//! What a unit says about itself: INQUIRY, vital product data, mode pages, capacity, supported commands.

use bytes::Bytes;
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::inquiry::StandardInquiry;
use iscsi_proto::scsi::lba_status::{self, LbaStatus, Provisioning};
use iscsi_proto::scsi::mode::{ModeQuery, Modes};
use iscsi_proto::scsi::vpd::{self, BlockLimits, Designator};
use iscsi_proto::scsi::{Command, Sense, opcodes};
use iscsi_proto::session::Response;
use vmthunder_volume::{Allocation, Volume};

use crate::failure::Failure;
use crate::unit::{
    LogicalUnit, MAX_TRANSFER_BYTES, MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BYTES,
};

/// T10 vendor identification.
const VENDOR: &str = "VMTHNDR";

/// Product revision level.
const REVISION: &str = "0001";

/// What transfers and UNMAP should be multiples of: the unit of overlays, and the page of most file systems.
const OPTIMAL_GRANULARITY_BYTES: u32 = 4096;

const OPTIMAL_TRANSFER_BYTES: u32 = 1 << 20;

/// Where a unit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The target's name.
    pub(crate) target: IscsiName,
    /// The portal group, which is also the target port group.
    pub(crate) portal_group_tag: u16,
    /// The number of the port among those of the unit, in all portal groups.
    pub(crate) relative_port: u16,
}

/// Answers the commands that need no look at the volume's content.
pub(crate) fn answer<V: Volume>(
    unit: &LogicalUnit<V>,
    command: &Command,
    port: &Port,
) -> Result<Response, Failure> {
    match *command {
        Command::Inquiry {
            page: None,
            allocation,
        } => {
            let standard =
                StandardInquiry::block_device(VENDOR, &unit.unit.identity.product, REVISION);
            Ok(cut(standard.build(), allocation.into()))
        }
        Command::Inquiry {
            page: Some(page),
            allocation,
        } => Ok(cut(vital(unit, page, port)?, allocation.into())),
        Command::ModeSense {
            form,
            control,
            page,
            subpage,
            no_block_descriptor,
            allocation,
        } => {
            let query = ModeQuery {
                form,
                control,
                page,
                subpage,
                no_block_descriptor,
            };
            Ok(cut(modes(unit).build(&query)?, allocation.into()))
        }
        Command::ReadCapacity10 => Ok(Response::read(vec![capacity(unit).build_10()])),
        Command::ReadCapacity16 { allocation } => Ok(cut(capacity(unit).build_16(), allocation)),
        Command::ReportSupportedOpcodes {
            query,
            timeouts,
            allocation,
        } => {
            let thin = unit.unit.thin;
            let offered = |usage: &[u8]| thin || usage.first() != Some(&UNMAP_OPCODE);
            Ok(cut(
                opcodes::supported(query, timeouts, offered)?,
                allocation,
            ))
        }
        _ => Err(Sense::INVALID_OPERATION_CODE.into()),
    }
}

/// What is said of a unit that does not exist (SPC-4 §6.4.1, SAM-5 §5.11).
pub(crate) fn answer_without_unit(command: &Command) -> Result<Response, Failure> {
    match *command {
        Command::Inquiry {
            page: None,
            allocation,
        } => Ok(cut(
            StandardInquiry::no_such_unit().build(),
            allocation.into(),
        )),
        Command::RequestSense {
            descriptor,
            allocation,
        } => Ok(sense(
            Sense::LOGICAL_UNIT_NOT_SUPPORTED,
            descriptor,
            allocation,
        )),
        _ => Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into()),
    }
}

/// The answer to REQUEST SENSE.
pub(crate) fn sense(sense: Sense, descriptor: bool, allocation: u8) -> Response {
    let bytes = if descriptor {
        sense.to_descriptor_bytes()
    } else {
        sense.to_fixed_bytes()
    };
    cut(bytes, allocation.into())
}

/// Cuts the answer to what the initiator said it can take.
pub(crate) fn cut(mut bytes: Bytes, allocation: u32) -> Response {
    bytes.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    if bytes.is_empty() {
        Response::good()
    } else {
        Response::read(vec![bytes])
    }
}

/// A run of bytes as a provisioning descriptor; a run that is too long for it is cut.
pub(crate) fn status_of(kind: Allocation, offset: u64, length: u64, block_bytes: u32) -> LbaStatus {
    let block_bytes = u64::from(block_bytes);
    LbaStatus {
        lba: offset / block_bytes,
        blocks: u32::try_from(length / block_bytes).unwrap_or(u32::MAX),
        provisioning: match kind {
            Allocation::Mapped => Provisioning::Mapped,
            Allocation::Hole => Provisioning::Deallocated,
        },
    }
}

/// The answer to GET LBA STATUS. Runs behind one that was cut would not follow it, so they are left out.
pub(crate) fn lba_status(runs: &[LbaStatus], allocation: u32) -> Response {
    let cut_at = runs
        .iter()
        .position(|run| run.blocks == u32::MAX)
        .map_or(runs.len(), |at| at + 1);
    cut(
        lba_status::build(runs.get(..cut_at).unwrap_or(runs)),
        allocation,
    )
}

fn vital<V: Volume>(unit: &LogicalUnit<V>, page: u8, port: &Port) -> Result<Bytes, Failure> {
    match page {
        vpd::SUPPORTED_PAGES => Ok(vpd::page(vpd::SUPPORTED_PAGES, &PAGES)),
        vpd::UNIT_SERIAL_NUMBER => Ok(vpd::serial_page(&unit.unit.identity.serial)),
        vpd::DEVICE_IDENTIFICATION => Ok(vpd::designators_page(&designators(unit, port))),
        vpd::EXTENDED_INQUIRY => Ok(vpd::extended_inquiry_page()),
        vpd::BLOCK_LIMITS => Ok(limits(unit).build()),
        vpd::BLOCK_DEVICE_CHARACTERISTICS => Ok(vpd::characteristics_page()),
        vpd::LOGICAL_BLOCK_PROVISIONING => Ok(provisioning(unit).build()),
        _ => Err(Sense::INVALID_FIELD_IN_CDB.into()),
    }
}

fn designators<V: Volume>(unit: &LogicalUnit<V>, port: &Port) -> [Designator; 5] {
    [
        Designator::naa(unit.unit.identity.designator),
        Designator::t10_vendor(VENDOR, &unit.unit.identity.serial),
        Designator::relative_target_port(port.relative_port),
        Designator::target_port_group(port.portal_group_tag),
        Designator::port_name(port.target.as_str(), port.portal_group_tag),
    ]
}

fn limits<V: Volume>(unit: &LogicalUnit<V>) -> BlockLimits {
    let block_bytes = unit.block_bytes();
    let blocks = |bytes: u64| u32::try_from(bytes / u64::from(block_bytes)).unwrap_or(u32::MAX);
    let thin = |value: u32| if unit.unit.thin { value } else { 0 };
    BlockLimits {
        no_empty_write_same: true,
        optimal_granularity: u16::try_from(OPTIMAL_GRANULARITY_BYTES / block_bytes).unwrap_or(1),
        maximum_transfer: blocks(MAX_TRANSFER_BYTES),
        optimal_transfer: OPTIMAL_TRANSFER_BYTES / block_bytes,
        maximum_prefetch: 0,
        maximum_unmap_blocks: thin(blocks(MAX_UNMAP_BYTES)),
        maximum_unmap_descriptors: thin(u32::try_from(MAX_UNMAP_DESCRIPTORS).unwrap_or(1)),
        unmap_granularity: thin(OPTIMAL_GRANULARITY_BYTES / block_bytes),
        maximum_write_same: blocks(MAX_WRITE_SAME_BYTES).into(),
    }
}

fn provisioning<V>(unit: &LogicalUnit<V>) -> vpd::Provisioning {
    let thin = unit.unit.thin;
    vpd::Provisioning {
        unmap: thin,
        write_same_16: thin,
        write_same_10: thin,
        reads_zeros: thin,
        thin,
    }
}

fn capacity<V: Volume>(unit: &LogicalUnit<V>) -> Capacity {
    let block_bytes = unit.block_bytes();
    Capacity {
        blocks: unit.geometry().blocks(),
        block_bytes,
        // Volumes below take single blocks without reading their neighbours.
        physical_exponent: 0,
        thin: unit.unit.thin,
        reads_zeros: unit.unit.thin,
    }
}

fn modes<V: Volume>(unit: &LogicalUnit<V>) -> Modes {
    Modes {
        write_protected: unit.unit.read_only,
        // What was written survives this process, but not the loss of power, until it is flushed.
        write_cache: !unit.unit.read_only,
        blocks: unit.geometry().blocks(),
        block_bytes: unit.block_bytes(),
    }
}

/// The vital product data pages, ascending.
const PAGES: [u8; 7] = [
    vpd::SUPPORTED_PAGES,
    vpd::UNIT_SERIAL_NUMBER,
    vpd::DEVICE_IDENTIFICATION,
    vpd::EXTENDED_INQUIRY,
    vpd::BLOCK_LIMITS,
    vpd::BLOCK_DEVICE_CHARACTERISTICS,
    vpd::LOGICAL_BLOCK_PROVISIONING,
];

const UNMAP_OPCODE: u8 = 0x42;
