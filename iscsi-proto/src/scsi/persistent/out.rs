//! Parameter lists of PERSISTENT RESERVE OUT (SPC-4 §6.16.3, §6.16.4).

use bytes::{Bytes, BytesMut};
use zerocopy::big_endian::{U16, U32, U64};

use super::super::cdb::bit;
use super::super::layout::layout;
use super::super::{Sense, SenseData};
use super::TransportId;

/// Bytes of a parameter list that names no initiator, and of the front of one that does.
pub const LIST_BYTES: usize = 24;

/// What comes with every service action but REGISTER AND MOVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutList {
    /// The key that the nexus is registered with.
    pub key: u64,
    /// The key to register, or the one to preempt (SERVICE ACTION RESERVATION KEY).
    pub action_key: u64,
    /// Initiators to register, too (SPEC_I_PT); none: nobody else.
    pub initiators: Option<Vec<TransportId>>,
    /// At all ports of the target (ALL_TG_PT).
    pub all_ports: bool,
    /// Survive the loss of power (APTPL).
    pub persist: bool,
}

/// What comes with REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveList {
    /// The key that the nexus is registered with.
    pub key: u64,
    /// The key to register the other nexus with (SERVICE ACTION RESERVATION KEY).
    pub action_key: u64,
    /// Remove the own registration (UNREG).
    pub unregister: bool,
    /// Survive the loss of power (APTPL).
    pub persist: bool,
    /// The target port of the other nexus.
    pub relative_port: u16,
    /// The initiator of the other nexus.
    pub initiator: TransportId,
}

impl OutList {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let front = Basic {
            key: self.key.into(),
            action_key: self.action_key.into(),
            flags: bit(self.initiators.is_some(), SPEC_I_PT)
                | bit(self.all_ports, ALL_TG_PT)
                | bit(self.persist, APTPL),
            ..Basic::default()
        };
        let mut out = BytesMut::from(<[u8; LIST_BYTES]>::from(front).as_slice());
        if let Some(initiators) = &self.initiators {
            let mut ids = BytesMut::new();
            initiators.iter().for_each(|id| id.put(&mut ids));
            let length = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&ids);
        }
        out.freeze()
    }

    /// Reads a parameter list as a device server.
    pub fn parse(bytes: &[u8]) -> Result<Self, SenseData> {
        let (front, rest) = bytes
            .split_first_chunk::<LIST_BYTES>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let front = Basic::from(*front);
        let initiators = match front.flags & SPEC_I_PT {
            0 if rest.is_empty() => None,
            0 => return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into()),
            _ => Some(Self::parse_initiators(rest)?),
        };
        Ok(Self {
            key: front.key.get(),
            action_key: front.action_key.get(),
            initiators,
            all_ports: front.flags & ALL_TG_PT != 0,
            persist: front.flags & APTPL != 0,
        })
    }

    /// The additional parameter data: a length, and as many bytes of TransportIDs.
    fn parse_initiators(bytes: &[u8]) -> Result<Vec<TransportId>, SenseData> {
        let (length, ids) = bytes
            .split_first_chunk::<4>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if usize::try_from(u32::from_be_bytes(*length)) != Ok(ids.len()) {
            return Err(SenseData::list_field(LIST_BYTES, 7));
        }
        TransportId::parse_list(ids)
            .map_err(|at| SenseData::list_field(LIST_BYTES + length.len() + at, 7))
    }
}

impl MoveList {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let mut id = BytesMut::new();
        self.initiator.put(&mut id);
        let front = Move {
            key: self.key.into(),
            action_key: self.action_key.into(),
            flags: bit(self.unregister, UNREG) | bit(self.persist, APTPL),
            relative_port: self.relative_port.into(),
            id_length: u32::try_from(id.len()).unwrap_or(u32::MAX).into(),
            ..Move::default()
        };
        let mut out = BytesMut::from(<[u8; LIST_BYTES]>::from(front).as_slice());
        out.extend_from_slice(&id);
        out.freeze()
    }

    /// Reads a parameter list as a device server.
    pub fn parse(bytes: &[u8]) -> Result<Self, SenseData> {
        let (front, rest) = bytes
            .split_first_chunk::<LIST_BYTES>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let front = Move::from(*front);
        if usize::try_from(front.id_length.get()) != Ok(rest.len()) {
            return Err(SenseData::list_field(
                std::mem::offset_of!(Move, id_length),
                7,
            ));
        }
        let (initiator, length) =
            TransportId::parse(rest).ok_or_else(|| SenseData::list_field(LIST_BYTES, 7))?;
        if length != rest.len() {
            return Err(SenseData::list_field(LIST_BYTES + length, 7));
        }
        Ok(Self {
            key: front.key.get(),
            action_key: front.action_key.get(),
            unregister: front.flags & UNREG != 0,
            persist: front.flags & APTPL != 0,
            relative_port: front.relative_port.get(),
            initiator,
        })
    }
}

layout! {
    /// The basic parameter list.
    Basic = 24 {
        0 => key: U64,
        8 => action_key: U64,
        16 => _obsolete: [u8; 4],
        20 => flags: u8,
        21 => _reserved: u8,
        22 => _obsolete_2: [u8; 2],
    }
}

layout! {
    /// The front of REGISTER AND MOVE.
    Move = 24 {
        0 => key: U64,
        8 => action_key: U64,
        16 => _reserved: u8,
        17 => flags: u8,
        18 => relative_port: U16,
        20 => id_length: U32,
    }
}

const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const UNREG: u8 = 0x02;
const APTPL: u8 = 0x01;
