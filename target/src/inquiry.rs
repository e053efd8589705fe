//! What a unit says about itself: INQUIRY and vital product data (SPC-4 §6.4, §7.8).

use bytes::Bytes;
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::inquiry::StandardInquiry;
use iscsi_proto::scsi::vpd::{
    self, BlockLimits, Characteristics, CopySupport, Designator, ExtendedInquiry,
};
use iscsi_proto::scsi::{Command, Sense, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::Volume;

use crate::failure::Failure;
use crate::unit::{
    LogicalUnit, MAX_ATOMIC_BYTES, MAX_COMPARE_BLOCKS, MAX_TRANSFER_BYTES, MAX_UNMAP_BYTES,
    MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BYTES,
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

/// Answers INQUIRY.
pub(crate) fn answer<V: Volume>(
    unit: &LogicalUnit<V>,
    page: Option<u8>,
    allocation: u16,
    port: &Port,
) -> Result<Response, Failure> {
    let bytes = match page {
        Some(page) => vital(unit, page, port)?,
        None => {
            let product = &unit.unit.identity.product;
            let standard = StandardInquiry {
                removable: unit.unit.removable,
                third_party_copy: true,
                target_port_groups: TPGS_IMPLICIT,
                ..StandardInquiry::block_device(VENDOR, product, REVISION)
            };
            standard.build()
        }
    };
    Ok(cut(bytes, allocation.into()))
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
            Sense::LOGICAL_UNIT_NOT_SUPPORTED.into(),
            descriptor,
            allocation,
        )),
        _ => Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into()),
    }
}

/// The answer to REQUEST SENSE.
pub(crate) fn sense(sense: SenseData, descriptor: bool, allocation: u8) -> Response {
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

fn vital<V: Volume>(unit: &LogicalUnit<V>, page: u8, port: &Port) -> Result<Bytes, Failure> {
    match page {
        vpd::SUPPORTED_PAGES => Ok(vpd::page(vpd::SUPPORTED_PAGES, &PAGES)),
        vpd::UNIT_SERIAL_NUMBER => Ok(vpd::serial_page(&unit.unit.identity.serial)),
        vpd::DEVICE_IDENTIFICATION => Ok(vpd::designators_page(&designators(unit, port))),
        vpd::EXTENDED_INQUIRY => {
            let extended = ExtendedInquiry {
                volatile_cache: !unit.unit.read_only,
                ..ExtendedInquiry::default()
            };
            Ok(extended.build())
        }
        vpd::MODE_PAGE_POLICY => Ok(vpd::mode_page_policy_page()),
        vpd::THIRD_PARTY_COPY => Ok(vpd::third_party_copy_page(
            &CopySupport::LID1,
            &unit.copy_limits(),
        )),
        vpd::BLOCK_LIMITS => Ok(limits(unit).build()),
        vpd::BLOCK_DEVICE_CHARACTERISTICS => {
            let characteristics = Characteristics {
                after_block_erase: if unit.unit.thin { READS_SUCCEED } else { 0 },
                ..Characteristics::default()
            };
            Ok(characteristics.build())
        }
        vpd::LOGICAL_BLOCK_PROVISIONING => Ok(provisioning(unit).build()),
        _ => Err(SenseData::cdb_field(2, 7).into()),
    }
}

/// True if a designator names the unit, whichever port it is reached through.
pub(crate) fn names<V>(unit: &LogicalUnit<V>, designator: &Designator) -> bool {
    own_designators(unit).iter().any(|own| {
        own.association == designator.association
            && own.kind == designator.kind
            && own.value == designator.value
    })
}

fn own_designators<V>(unit: &LogicalUnit<V>) -> [Designator; 2] {
    let identity = &unit.unit.identity;
    [
        Designator::naa(identity.designator),
        Designator::t10_vendor(VENDOR, &identity.serial),
    ]
}

fn designators<V>(unit: &LogicalUnit<V>, port: &Port) -> [Designator; 5] {
    let [naa, vendor] = own_designators(unit);
    [
        naa,
        vendor,
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
        unmap_alignment: unit.unit.thin.then_some(0),
        maximum_write_same: blocks(MAX_WRITE_SAME_BYTES).into(),
        maximum_compare_and_write: MAX_COMPARE_BLOCKS,
        maximum_atomic: if unit.has_atomic_writes() {
            blocks(MAX_ATOMIC_BYTES)
        } else {
            0
        },
        ..BlockLimits::default()
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

/// The vital product data pages, ascending.
const PAGES: [u8; 9] = [
    vpd::SUPPORTED_PAGES,
    vpd::UNIT_SERIAL_NUMBER,
    vpd::DEVICE_IDENTIFICATION,
    vpd::EXTENDED_INQUIRY,
    vpd::MODE_PAGE_POLICY,
    vpd::THIRD_PARTY_COPY,
    vpd::BLOCK_LIMITS,
    vpd::BLOCK_DEVICE_CHARACTERISTICS,
    vpd::LOGICAL_BLOCK_PROVISIONING,
];

/// TPGS: states of port groups are reported, and change without the initiator's help if at all.
const TPGS_IMPLICIT: u8 = 0b01;

/// WABEREQ: what was erased can be read without being written first.
const READS_SUCCEED: u8 = 0b01;
