//! The stages of the login and the byte that names them (RFC 7143 §6.3, §11.12.1 to §11.12.3).

use crate::login::Violation;
use crate::wire::bhs::{CONTINUE, FINAL};

/// A stage of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// SecurityNegotiation.
    Security,
    /// LoginOperationalNegotiation.
    Operational,
    /// FullFeaturePhase.
    FullFeature,
}

impl Stage {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Security,
            1 => Self::Operational,
            3 => Self::FullFeature,
            _ => return None,
        })
    }

    fn code(self) -> u8 {
        match self {
            Self::Security => 0,
            Self::Operational => 1,
            Self::FullFeature => 3,
        }
    }
}

/// Byte 1 of a login PDU: where the login stands, and where it is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The C bit.
    pub(crate) continues: bool,
    /// CSG.
    pub(crate) current: Stage,
    /// NSG, if the T bit is set.
    pub(crate) next: Option<Stage>,
}

impl Position {
    /// Reads the byte. The next stage must lie ahead: the table of RFC 7143 §6.3 in one comparison.
    pub(crate) fn decode(flags: u8) -> Result<Self, Violation> {
        let continues = flags & CONTINUE != 0;
        let transits = flags & FINAL != 0;
        if continues && transits {
            return Err(Violation::ContinueAndTransit);
        }
        let current = Stage::from_code((flags >> 2) & 3).ok_or(Violation::Stage)?;
        let next = if transits {
            Some(Stage::from_code(flags & 3).ok_or(Violation::Stage)?)
        } else {
            None
        };
        if current == Stage::FullFeature || next.is_some_and(|next| next <= current) {
            return Err(Violation::Stage);
        }
        Ok(Self {
            continues,
            current,
            next,
        })
    }

    /// The byte.
    pub(crate) fn encode(self) -> u8 {
        let continues = if self.continues { CONTINUE } else { 0 };
        let next = self.next.map_or(0, |next| FINAL | next.code());
        continues | self.current.code() << 2 | next
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, Stage};

    /// Every value of the byte: T, C, CSG and NSG as RFC 7143 §6.3 and §11.12 allow them, spelled out.
    #[test]
    fn legal_positions_are_those_of_the_standard() {
        // Without T the NSG bits are reserved and so ignored.
        let without_transit = (0x00..=0x07).chain(0x40..=0x47);
        let with_transit = [0x81, 0x83, 0x87];
        let legal: Vec<u8> = without_transit.chain(with_transit).collect();
        for flags in 0x00..=0xff {
            // The two reserved bits are ignored.
            let expected = legal.contains(&(flags & !0x30));
            assert_eq!(Position::decode(flags).is_ok(), expected, "{flags:#04x}");
        }
    }

    #[test]
    fn positions_survive() {
        for flags in [0x00, 0x04, 0x40, 0x44, 0x81, 0x83, 0x87] {
            assert_eq!(Position::decode(flags).unwrap().encode(), flags);
        }
        let last = Position::decode(0x87).unwrap();
        assert_eq!(
            (last.current, last.next),
            (Stage::Operational, Some(Stage::FullFeature))
        );
    }
}
