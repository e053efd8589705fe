//! REPORT TARGET PORT GROUPS parameter data (SPC-4 §6.38).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Sense;

/// How the ports of a group reach a unit: ASYMMETRIC ACCESS STATE, four bits (SPC-4 §5.15.2, §6.38).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessState(pub u8);

impl AccessState {
    /// Every command, as fast as the unit can.
    pub const ACTIVE_OPTIMIZED: Self = Self(0x0);
    /// Every command, more slowly.
    pub const ACTIVE_NON_OPTIMIZED: Self = Self(0x1);
    /// No access to the medium; may become active.
    pub const STANDBY: Self = Self(0x2);
    /// No access to the medium, and may not become active by itself.
    pub const UNAVAILABLE: Self = Self(0x3);
    /// Some blocks optimized, others not.
    pub const LBA_DEPENDENT: Self = Self(0x4);
    /// Not connected to the unit.
    pub const OFFLINE: Self = Self(0xe);
    /// On its way from one state to another.
    pub const TRANSITIONING: Self = Self(0xf);

    /// True if commands that reach the medium are carried out.
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::ACTIVE_OPTIMIZED | Self::ACTIVE_NON_OPTIMIZED | Self::LBA_DEPENDENT
        )
    }

    /// The state that a unit names when it is not ready through this port (SPC-4 §5.15.2.4).
    pub fn of_sense(sense: Sense) -> Option<Self> {
        match sense {
            Sense::ACCESS_STATE_TRANSITION => Some(Self::TRANSITIONING),
            Sense::PORT_IN_STANDBY => Some(Self::STANDBY),
            Sense::PORT_UNAVAILABLE => Some(Self::UNAVAILABLE),
            _ => None,
        }
    }
}

impl fmt::Display for AccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::ACTIVE_OPTIMIZED => "active/optimized",
            Self::ACTIVE_NON_OPTIMIZED => "active/non-optimized",
            Self::STANDBY => "standby",
            Self::UNAVAILABLE => "unavailable",
            Self::LBA_DEPENDENT => "active/LBA-dependent",
            Self::OFFLINE => "offline",
            Self::TRANSITIONING => "transitioning",
            Self(other) => return write!(f, "state {other:#x}"),
        })
    }
}

/// A group of target ports and how its ports reach the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    /// The number of the group.
    pub number: u16,
    /// This group is preferred (PREF).
    pub preferred: bool,
    /// How its ports reach the unit.
    pub state: AccessState,
    /// The states that are supported, one bit each; bit 0 is active and optimized.
    pub supported: u8,
    /// The relative port identifiers of its ports, at most 255.
    pub ports: Vec<u16>,
}

impl PortGroup {
    /// A group whose ports are all the way active and optimized.
    pub fn active(number: u16, ports: Vec<u16>) -> Self {
        Self {
            number,
            preferred: false,
            state: AccessState::ACTIVE_OPTIMIZED,
            supported: ACTIVE_OPTIMIZED_SUPPORTED,
            ports,
        }
    }
}

/// The parameter data; an extended header tells the time of implicit changes, of which there are none.
pub fn build(groups: &[PortGroup], extended: bool) -> Bytes {
    let mut body = BytesMut::new();
    if extended {
        body.put_slice(&[EXTENDED_FORMAT, 0, 0, 0]);
    }
    for group in groups {
        let count = u8::try_from(group.ports.len()).unwrap_or(u8::MAX);
        body.put_u8(if group.preferred { PREF } else { 0 } | group.state.0 & STATE);
        body.put_u8(group.supported);
        body.put_u16(group.number);
        body.put_slice(&[0, 0, 0, count]);
        for port in group.ports.iter().take(count.into()) {
            body.put_u16(0);
            body.put_u16(*port);
        }
    }
    let mut out = BytesMut::with_capacity(LENGTH_BYTES + body.len());
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(&body);
    out.freeze()
}

/// The groups that `bytes` holds whole.
pub fn parse(mut bytes: &[u8]) -> Option<Vec<PortGroup>> {
    if bytes.len() < LENGTH_BYTES {
        return None;
    }
    let length = usize::try_from(bytes.get_u32()).unwrap_or(usize::MAX);
    let mut rest = bytes.get(..length).unwrap_or(bytes);
    // A group's first byte has nothing in these bits, which an extended header has.
    if rest
        .first()
        .is_some_and(|byte| byte & FORMAT_BITS == EXTENDED_FORMAT)
    {
        rest = rest.get(EXTENDED_BYTES..).unwrap_or_default();
    }
    let mut groups = Vec::new();
    while rest.len() >= GROUP_BYTES {
        let (state, supported, number) = (rest.get_u8(), rest.get_u8(), rest.get_u16());
        rest.advance(3);
        let count = usize::from(rest.get_u8());
        let Some((ports, behind)) = rest.split_at_checked(count * PORT_BYTES) else {
            break;
        };
        groups.push(PortGroup {
            number,
            preferred: state & PREF != 0,
            state: AccessState(state & STATE),
            supported,
            ports: ports
                .chunks_exact(PORT_BYTES)
                .filter_map(|port| Some(u16::from_be_bytes(*port.last_chunk::<2>()?)))
                .collect(),
        });
        rest = behind;
    }
    Some(groups)
}

const LENGTH_BYTES: usize = 4;
const EXTENDED_BYTES: usize = 4;
const GROUP_BYTES: usize = 8;
const PORT_BYTES: usize = 4;
const FORMAT_BITS: u8 = 0x70;
const EXTENDED_FORMAT: u8 = 0x10;
const PREF: u8 = 0x80;
const STATE: u8 = 0x0f;
const ACTIVE_OPTIMIZED_SUPPORTED: u8 = 0x01;

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{AccessState, PortGroup};
    use crate::scsi::Sense;

    #[test]
    fn two_groups_in_bytes() {
        let groups = [
            PortGroup::active(1, vec![1, 0x0203]),
            PortGroup {
                preferred: true,
                state: AccessState::STANDBY,
                supported: 0x0f,
                ..PortGroup::active(0x0405, vec![])
            },
        ];
        let mut expected = vec![0, 0, 0, 24];
        expected.extend([0x00, 0x01, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 2, 3]);
        expected.extend([0x82, 0x0f, 4, 5, 0, 0, 0, 0]);
        assert_eq!(super::build(&groups, false).as_ref(), expected);
        assert_eq!(super::parse(&expected).unwrap(), groups);
        let extended = super::build(&groups, true);
        assert_eq!(extended[..8], [0, 0, 0, 28, 0x10, 0, 0, 0]);
        assert_eq!(extended[8..], expected[4..]);
        assert_eq!(super::parse(&extended).unwrap(), groups);
        assert_eq!(super::parse(&expected[..19]).unwrap(), []);
        assert_eq!(super::parse(&expected[..3]), None);
    }

    /// The additional sense codes of SPC-4 §5.15.2.4 to §5.15.2.7, and the states' numbers of table 306.
    #[test]
    fn states_by_number_and_by_sense() {
        let of = |ascq| AccessState::of_sense(Sense::new(0x2, 0x04, ascq));
        assert_eq!(of(0x0a), Some(AccessState(0xf)));
        assert_eq!(of(0x0b), Some(AccessState(0x2)));
        assert_eq!(of(0x0c), Some(AccessState(0x3)));
        assert_eq!(of(0x01), None);
        assert_eq!(AccessState::of_sense(Sense::new(0x6, 0x04, 0x0a)), None);
        let active: Vec<u8> = (0..16)
            .filter(|state| AccessState(*state).is_active())
            .collect();
        assert_eq!(active, [0x0, 0x1, 0x4]);
        assert_eq!(AccessState(0xe).to_string(), "offline");
        assert_eq!(AccessState(0x7).to_string(), "state 0x7");
    }

    proptest! {
        #[test]
        fn what_is_built_parses_to_the_same(
            numbers in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u16>(), 0..4)), 0..4),
            extended in any::<bool>(),
        ) {
            let groups: Vec<_> = numbers.into_iter().map(|(number, ports)| PortGroup::active(number, ports)).collect();
            prop_assert_eq!(super::parse(&super::build(&groups, extended)).unwrap(), groups);
        }

        #[test]
        fn hostile_answers_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = super::parse(&bytes);
        }
    }
}
