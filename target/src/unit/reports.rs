//! What a unit tells without a look at its blocks: capacity, commands, port groups, logs, defects.

use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::defects::DefectList;
use iscsi_proto::scsi::log::{self, LogQuery};
use iscsi_proto::scsi::port_groups::{self, PortGroup};
use iscsi_proto::scsi::task_management::TaskManagement;
use iscsi_proto::scsi::{Command, Sense, opcodes};
use iscsi_proto::session::Response;
use vmthunder_volume::Volume;

use super::LogicalUnit;
use crate::failure::Failure;
use crate::inquiry::{self, Port, cut};

impl<V: Volume> LogicalUnit<V> {
    pub(super) fn report(&self, command: &Command, port: &Port) -> Result<Response, Failure> {
        match *command {
            Command::Inquiry { page, allocation } => inquiry::answer(self, page, allocation, port),
            Command::ReadCapacity10 => Ok(Response::read(vec![self.capacity().build_10()])),
            Command::ReadCapacity16 { allocation } => {
                Ok(cut(self.capacity().build_16(), allocation))
            }
            Command::ReportSupportedOpcodes {
                query,
                timeouts,
                allocation,
            } => {
                let supported = opcodes::supported(query, timeouts, |usage| self.offers(usage))?;
                Ok(cut(supported, allocation))
            }
            Command::ReportTaskManagement {
                extended,
                allocation,
            } => Ok(cut(TASK_MANAGEMENT.build(extended), allocation)),
            Command::ReportTargetPortGroups {
                extended,
                allocation,
            } => {
                // What is behind other portal groups is not known here; each tells of itself.
                let own = PortGroup::active(port.portal_group_tag, vec![port.relative_port]);
                Ok(cut(port_groups::build(&[own], extended), allocation))
            }
            Command::LogSense {
                page,
                subpage,
                pointer,
                save,
                allocation,
                ..
            } => {
                let query = LogQuery {
                    page,
                    subpage,
                    pointer,
                    save,
                };
                Ok(cut(log::build(&query)?, allocation.into()))
            }
            Command::ReadDefectData {
                form,
                primary,
                grown,
                format,
                allocation,
                ..
            } => {
                let list = DefectList::empty(primary, grown, format);
                Ok(cut(list.build(form), allocation))
            }
            _ => Err(Sense::INVALID_OPERATION_CODE.into()),
        }
    }

    fn capacity(&self) -> Capacity {
        let block_bytes = self.block_bytes();
        Capacity {
            blocks: self.geometry().blocks(),
            block_bytes,
            // A volume takes single blocks; what is quicker is told by the block limits.
            physical_exponent: 0,
            thin: self.unit.thin,
            reads_zeros: self.unit.thin,
        }
    }
}

/// What RFC 7143 §11.5.1 names and this target obeys.
const TASK_MANAGEMENT: TaskManagement = TaskManagement {
    abort_task: true,
    abort_task_set: true,
    clear_aca: false,
    clear_task_set: true,
    unit_reset: true,
    query_task: false,
    query_asynchronous_event: false,
    query_task_set: false,
    nexus_reset: false,
};
