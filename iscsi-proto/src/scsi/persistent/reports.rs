//! What PERSISTENT RESERVE IN answers (SPC-4 §6.15.2 to §6.15.5).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use zerocopy::big_endian::{U16, U32, U64};

use super::super::cdb::bit;
use super::super::layout::{layout, zero_extended};
use super::{ReservationType, TransportId};

/// The answer to READ KEYS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// PRGENERATION: counts changes of registrations.
    pub generation: u32,
    /// A key for each registration.
    pub keys: Vec<u64>,
}

/// The answer to READ RESERVATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationReport {
    /// PRGENERATION.
    pub generation: u32,
    /// The reservation, if one is held.
    pub held: Option<Held>,
}

/// A reservation of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The holder's key; zero where all registrants are holders.
    pub key: u64,
    /// What it forbids.
    pub kind: ReservationType,
}

/// The answer to REPORT CAPABILITIES. All six types are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// RESERVE and RELEASE get on with persistent reservations (CRH).
    pub compatible: bool,
    /// Other initiators can be registered (SIP_C).
    pub specify_initiators: bool,
    /// All target ports can be registered at once (ATP_C).
    pub all_ports: bool,
    /// Registrations can survive the loss of power (PTPL_C).
    pub can_persist: bool,
    /// They do at present (PTPL_A).
    pub persists: bool,
    /// ALLOW COMMANDS, three bits: which commands of strangers some reservations let through.
    pub allow_commands: u8,
}

/// The answer to READ FULL STATUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullStatus {
    /// PRGENERATION.
    pub generation: u32,
    /// Every registration.
    pub registrants: Vec<Registrant>,
}

/// A registration as READ FULL STATUS has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// The key.
    pub key: u64,
    /// The registration is for all target ports, and `relative_port` says nothing (ALL_TG_PT).
    pub all_ports: bool,
    /// The reservation that the registrant holds.
    pub holds: Option<ReservationType>,
    /// The target port.
    pub relative_port: u16,
    /// The initiator.
    pub initiator: TransportId,
}

impl Keys {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let mut out = with_header(self.generation, self.keys.len() * KEY_BYTES);
        self.keys.iter().for_each(|key| out.put_u64(*key));
        out.freeze()
    }
}

/// The whole keys of an answer to READ KEYS.
pub fn parse_keys(bytes: &[u8]) -> Option<Keys> {
    let (generation, body) = split_header(bytes)?;
    let keys = body.chunks_exact(KEY_BYTES).map(|mut key| key.get_u64());
    Some(Keys {
        generation,
        keys: keys.collect(),
    })
}

impl ReservationReport {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let held = self.held.map(|held| Reservation {
            key: held.key.into(),
            scope_and_type: held.kind.code(),
            ..Reservation::default()
        });
        let bytes = held.map(<[u8; RESERVATION_BYTES]>::from);
        let bytes = bytes.as_ref().map_or(&[][..], |bytes| bytes);
        let mut out = with_header(self.generation, bytes.len());
        out.put_slice(bytes);
        out.freeze()
    }

    /// Reads an answer; none if it is cut short, or names a type or a scope that SPC-4 does not have.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (generation, body) = split_header(bytes)?;
        let mut length = [0; 4];
        length.copy_from_slice(bytes.get(4..8)?);
        if u32::from_be_bytes(length) == 0 {
            return Some(Self {
                generation,
                held: None,
            });
        }
        let (front, _) = body.split_first_chunk::<RESERVATION_BYTES>()?;
        let front = Reservation::from(*front);
        Some(Self {
            generation,
            held: Some(Held {
                key: front.key.get(),
                // The scope is zero: the logical unit.
                kind: ReservationType::from_code(front.scope_and_type)?,
            }),
        })
    }
}

impl Capabilities {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(CAPABILITIES_BYTES);
        out.put_u16(8);
        out.put_u8(
            bit(self.compatible, CRH)
                | bit(self.specify_initiators, SIP_C)
                | bit(self.all_ports, ATP_C)
                | bit(self.can_persist, PTPL_C),
        );
        out.put_u8(TMV | self.allow_commands << 4 & ALLOW_COMMANDS | bit(self.persists, PTPL_A));
        out.put_slice(&ALL_TYPES);
        out.put_u16(0);
        out.freeze()
    }

    /// Reads an answer; bytes that are missing read as zero. Which types are supported is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let [_, _, can, does] = zero_extended(bytes);
        Self {
            compatible: can & CRH != 0,
            specify_initiators: can & SIP_C != 0,
            all_ports: can & ATP_C != 0,
            can_persist: can & PTPL_C != 0,
            persists: does & PTPL_A != 0,
            allow_commands: (does & ALLOW_COMMANDS) >> 4,
        }
    }
}

impl FullStatus {
    /// The bytes.
    pub fn build(&self) -> Bytes {
        let mut descriptors = BytesMut::new();
        for registrant in &self.registrants {
            let mut id = BytesMut::new();
            registrant.initiator.put(&mut id);
            let front = Descriptor {
                key: registrant.key.into(),
                flags: bit(registrant.all_ports, ALL_TG_PT)
                    | bit(registrant.holds.is_some(), R_HOLDER),
                scope_and_type: registrant.holds.map_or(0, ReservationType::code),
                relative_port: registrant.relative_port.into(),
                additional_length: u32::try_from(id.len()).unwrap_or(u32::MAX).into(),
                ..Descriptor::default()
            };
            descriptors.put_slice(&<[u8; DESCRIPTOR_BYTES]>::from(front));
            descriptors.put_slice(&id);
        }
        let mut out = with_header(self.generation, descriptors.len());
        out.put_slice(&descriptors);
        out.freeze()
    }
}

/// The whole descriptors of an answer to READ FULL STATUS; none if one of them is not of iSCSI.
pub fn parse_full_status(bytes: &[u8]) -> Option<FullStatus> {
    let (generation, mut body) = split_header(bytes)?;
    let mut registrants = Vec::new();
    while let Some((front, rest)) = body.split_first_chunk::<DESCRIPTOR_BYTES>() {
        let front = Descriptor::from(*front);
        let length = usize::try_from(front.additional_length.get()).unwrap_or(usize::MAX);
        let Some((id, behind)) = rest.split_at_checked(length) else {
            break;
        };
        let holder = front.flags & R_HOLDER != 0;
        registrants.push(Registrant {
            key: front.key.get(),
            all_ports: front.flags & ALL_TG_PT != 0,
            holds: match holder {
                true => Some(ReservationType::from_code(front.scope_and_type)?),
                false => None,
            },
            relative_port: front.relative_port.get(),
            initiator: TransportId::parse(id)?.0,
        });
        body = behind;
    }
    Some(FullStatus {
        generation,
        registrants,
    })
}

/// What all but REPORT CAPABILITIES begin with: the generation, and the length of what follows.
fn with_header(generation: u32, length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + length);
    out.put_u32(generation);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out
}

/// The generation, and what is there of what follows.
fn split_header(mut bytes: &[u8]) -> Option<(u32, &[u8])> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let generation = bytes.get_u32();
    let length = usize::try_from(bytes.get_u32()).unwrap_or(usize::MAX);
    Some((generation, bytes.get(..length).unwrap_or(bytes)))
}

layout! {
    /// The reservation in READ RESERVATION.
    Reservation = 16 {
        0 => key: U64,
        8 => _obsolete: [u8; 4],
        12 => _reserved: u8,
        13 => scope_and_type: u8,
        14 => _obsolete_2: [u8; 2],
    }
}

layout! {
    /// The front of a descriptor of READ FULL STATUS.
    Descriptor = 24 {
        0 => key: U64,
        8 => _reserved: [u8; 4],
        12 => flags: u8,
        13 => scope_and_type: u8,
        14 => _reserved_2: [u8; 4],
        18 => relative_port: U16,
        20 => additional_length: U32,
    }
}

const HEADER_BYTES: usize = 8;
const KEY_BYTES: usize = 8;
const RESERVATION_BYTES: usize = 16;
const DESCRIPTOR_BYTES: usize = 24;
const CAPABILITIES_BYTES: usize = 8;
const CRH: u8 = 0x10;
const SIP_C: u8 = 0x08;
const ATP_C: u8 = 0x04;
const PTPL_C: u8 = 0x01;
/// The mask of types is valid.
const TMV: u8 = 0x80;
const ALLOW_COMMANDS: u8 = 0x70;
const PTPL_A: u8 = 0x01;
/// The mask of types: a bit for each of the six.
const ALL_TYPES: [u8; 2] = [0xea, 0x01];
const ALL_TG_PT: u8 = 0x02;
const R_HOLDER: u8 = 0x01;
