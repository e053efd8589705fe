//! Commands as command descriptor blocks.

use super::cdb::copy::{encode_copy, encode_defect_data, encode_sanitize};
use super::cdb::medium::{encode_compare_and_write, encode_range, encode_write_atomic};
use super::cdb::mode::{encode_log_sense, encode_mode_select, encode_mode_sense};
use super::cdb::primary::{
    encode_inquiry, encode_port_groups, encode_report_luns, encode_service_in, encode_six,
    encode_start_stop, encode_supported_opcodes, encode_task_management, encode_ten,
};
use super::cdb::reserve::{
    encode_persistent_in, encode_persistent_out, encode_release, encode_reserve,
};
use super::cdb::{
    BYTCHK_SHIFT, CDB_BYTES, IMMED_1, PREVENT_BITS, REQUEST_SENSE_DESC, UNMAP_ANCHOR, bit,
};
use super::command::Command;
use super::opcodes;

impl Command {
    /// The command descriptor block, bytes behind a shorter one zero.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each command: the compiler sees that none is missing"
    )]
    pub fn cdb(&self) -> [u8; CDB_BYTES] {
        match *self {
            Self::TestUnitReady => encode_six(opcodes::TEST_UNIT_READY, 0, 0),
            Self::RequestSense {
                descriptor,
                allocation,
            } => encode_six(
                opcodes::REQUEST_SENSE,
                bit(descriptor, REQUEST_SENSE_DESC),
                allocation,
            ),
            Self::Inquiry { page, allocation } => encode_inquiry(page, allocation),
            Self::ModeSense {
                form,
                control,
                page,
                subpage,
                no_block_descriptor,
                allocation,
            } => encode_mode_sense(
                form,
                no_block_descriptor,
                control.bits() | page & 0x3f,
                subpage,
                allocation,
            ),
            Self::ModeSelect {
                form,
                page_format,
                save,
                parameter_length,
            } => encode_mode_select(form, page_format, save, parameter_length),
            Self::LogSense {
                control,
                page,
                subpage,
                pointer,
                save,
                allocation,
            } => encode_log_sense(control, page, subpage, pointer, save, allocation),
            Self::ReadCapacity10 => encode_ten(opcodes::READ_CAPACITY_10, 0, 0),
            Self::ReadCapacity16 { allocation } => {
                encode_service_in(opcodes::ACTION_READ_CAPACITY_16, 0, allocation)
            }
            Self::Read { range, caching } => encode_range(range, &opcodes::READ, caching.bits()),
            Self::Write { range, caching } => encode_range(range, &opcodes::WRITE, caching.bits()),
            Self::WriteAndVerify { range, check } => encode_range(
                range,
                &opcodes::WRITE_AND_VERIFY,
                check.code() << BYTCHK_SHIFT,
            ),
            Self::Verify { range, check } => {
                encode_range(range, &opcodes::VERIFY, check.code() << BYTCHK_SHIFT)
            }
            Self::OrWrite { range, caching } => {
                encode_range(range, &opcodes::OR_WRITE, caching.bits())
            }
            Self::CompareAndWrite {
                lba,
                blocks,
                caching,
            } => encode_compare_and_write(lba, blocks, caching),
            Self::WriteAtomic {
                range,
                caching,
                boundary,
            } => encode_write_atomic(range, caching, boundary),
            Self::SynchronizeCache { range, immediate } => {
                encode_range(range, &opcodes::SYNCHRONIZE_CACHE, bit(immediate, IMMED_1))
            }
            Self::PreFetch { range, immediate } => {
                encode_range(range, &opcodes::PRE_FETCH, bit(immediate, IMMED_1))
            }
            Self::Unmap {
                anchor,
                parameter_length,
            } => encode_ten(opcodes::UNMAP, bit(anchor, UNMAP_ANCHOR), parameter_length),
            Self::WriteSame(same) => encode_range(same.range, &opcodes::WRITE_SAME, same.bits()),
            Self::GetLbaStatus { lba, allocation } => {
                encode_service_in(opcodes::ACTION_GET_LBA_STATUS, lba, allocation)
            }
            Self::ReportLuns { select, allocation } => encode_report_luns(select, allocation),
            Self::StartStopUnit {
                start,
                load_eject,
                immediate,
                power_condition,
            } => encode_start_stop(immediate, start, load_eject, power_condition),
            Self::PreventAllowMediumRemoval { prevent } => {
                encode_six(opcodes::PREVENT_ALLOW, 0, prevent & PREVENT_BITS)
            }
            Self::ReportSupportedOpcodes {
                query,
                timeouts,
                allocation,
            } => encode_supported_opcodes(query, timeouts, allocation),
            Self::ReportTargetPortGroups {
                extended,
                allocation,
            } => encode_port_groups(extended, allocation),
            Self::ReportTaskManagement {
                extended,
                allocation,
            } => encode_task_management(extended, allocation),
            Self::Reserve { form } => encode_reserve(form),
            Self::Release { form } => encode_release(form),
            Self::PersistentReserveIn { action, allocation } => {
                encode_persistent_in(action, allocation)
            }
            Self::PersistentReserveOut {
                action,
                scope,
                kind,
                parameter_length,
            } => encode_persistent_out(action, scope, kind, parameter_length),
            Self::ExtendedCopy { parameter_length } => {
                encode_copy(opcodes::EXTENDED_COPY, 0, 0, parameter_length)
            }
            Self::ReceiveCopyResults {
                action,
                list_id,
                allocation,
            } => encode_copy(
                opcodes::RECEIVE_COPY_RESULTS,
                action.code(),
                list_id,
                allocation,
            ),
            Self::Sanitize {
                action,
                immediate,
                unrestricted,
                parameter_length,
            } => encode_sanitize(action, immediate, unrestricted, parameter_length),
            Self::ReadDefectData {
                form,
                primary,
                grown,
                format,
                index,
                allocation,
            } => encode_defect_data(form, (primary, grown), format, index, allocation),
        }
    }
}
