//! What a unit says about the port that a path ends at (ALUA, SPC-4 §5.15).

use iscsi_proto::scsi::port_groups::{self, AccessState, PortGroup};
use iscsi_proto::scsi::vpd::{self, Designator};
use iscsi_proto::scsi::{Command, Sense, Status};
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::Class;

use crate::identity::good;
use crate::{Error, Session};

/// What a unit says about the port that a path ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) state: AccessState,
    /// The target port group that the port is in, if it is known.
    pub(crate) group: Option<u16>,
    /// The state may change: it has to be asked for again.
    pub(crate) varies: bool,
}

impl Access {
    /// That of units that make no difference between their ports.
    pub(crate) const SYMMETRIC: Self = Self {
        state: AccessState::ACTIVE_OPTIMIZED,
        group: None,
        varies: false,
    };

    /// Asks through the port itself. A port that does not even answer that is in the state that it names instead.
    pub(crate) async fn ask(session: &Session, lun: Lun) -> Result<Self, Error> {
        match Self::ask_groups(session, lun).await {
            Err(error) => state_of(&error).map(Self::varying).ok_or(error),
            asked => asked,
        }
    }

    /// A state that may change at any time.
    pub(crate) fn varying(state: AccessState) -> Self {
        Self {
            state,
            group: None,
            varies: true,
        }
    }

    async fn ask_groups(session: &Session, lun: Lun) -> Result<Self, Error> {
        if session.inquiry(lun).await?.target_port_groups == 0 {
            return Ok(Self::SYMMETRIC);
        }
        let page = session.vital_page(lun, vpd::DEVICE_IDENTIFICATION).await?;
        let port = page
            .as_deref()
            .and_then(vpd::parse_designators)
            .unwrap_or_default();
        let command = Command::ReportTargetPortGroups {
            extended: false,
            allocation: GROUPS_BYTES,
        };
        let transfer = Transfer::Read(GROUPS_BYTES);
        let completion = session
            .execute(lun, &command, transfer, Class::Demand)
            .await?;
        let groups = port_groups::parse(&good(completion)?).ok_or(Error::Malformed)?;
        // Whoever says that there are groups, but not in which of them its port is, leaves nothing to go by.
        Ok(
            own_group(&groups, &port).map_or(Self::SYMMETRIC, |group| Self {
                group: Some(group.number),
                ..Self::varying(group.state)
            }),
        )
    }
}

/// The state that a command's failure names, if it failed for that reason: then it was not carried out.
pub(crate) fn state_in(completion: &Completion) -> Option<AccessState> {
    match completion.status {
        Status::CHECK_CONDITION => AccessState::of_sense(Sense::parse(&completion.sense)?),
        _ => None,
    }
}

/// The same, of what became an error.
pub(crate) fn state_of(error: &Error) -> Option<AccessState> {
    match error {
        Error::Status {
            sense: Some(sense), ..
        } => AccessState::of_sense(*sense),
        _ => None,
    }
}

/// The group of a port, by the names that the port gave itself.
fn own_group<'a>(groups: &'a [PortGroup], port: &[Designator]) -> Option<&'a PortGroup> {
    let mut numbers = port.iter().filter_map(Designator::as_target_port_group);
    let by_number = numbers.find_map(|own| groups.iter().find(|group| group.number == own));
    by_number.or_else(|| {
        let mut ports = port.iter().filter_map(Designator::as_relative_target_port);
        ports.find_map(|own| groups.iter().find(|group| group.ports.contains(&own)))
    })
}

/// Bytes of REPORT TARGET PORT GROUPS data that are taken: more than 500 groups.
const GROUPS_BYTES: u32 = 8192;

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::port_groups::PortGroup;
    use iscsi_proto::scsi::vpd::Designator;

    use super::own_group;

    /// SPC-4 §7.8.6.8 and §7.8.6.9: the port says its group, or at least which port it is.
    #[test]
    fn a_port_finds_its_group() {
        let groups = [
            PortGroup::active(7, vec![1, 2]),
            PortGroup::active(8, vec![3]),
        ];
        let number =
            |designators: &[Designator]| own_group(&groups, designators).map(|group| group.number);
        assert_eq!(number(&[Designator::target_port_group(8)]), Some(8));
        assert_eq!(number(&[Designator::relative_target_port(2)]), Some(7));
        let both = [
            Designator::relative_target_port(2),
            Designator::target_port_group(8),
        ];
        assert_eq!(number(&both), Some(8));
        assert_eq!(number(&[Designator::target_port_group(9)]), None);
        assert_eq!(number(&[Designator::naa([8; 8])]), None);
    }
}
