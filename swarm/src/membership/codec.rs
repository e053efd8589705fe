//! The bytes of what nodes tell each other inside of an [`Envelope`](super::envelope::Envelope).
//!
//! ```text
//! identity   name: u8 length and so many bytes · address: 4 or 6, then 4 or 16 bytes, then u16 port
//!            born: u64 · generation: u64 · flags: u8 (1 draining)
//!            images: u8, 255 for any, else so many (at most 16) tags: u32, rising
//! member     identity · incarnation: u16 · state: u8 (0 alive, 1 suspect, 2 down)
//! header     identity of the sender · its incarnation: u16 · identity of the receiver · message: u8,
//!            then a probe number: u8 in messages 0 to 5, and an identity before that in 2 to 5
//! ```
//!
//! Numbers are in network byte order.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut};
use foca::{Header, Message};

use crate::forest::NodeName;
use crate::membership::{ImageTag, Images, MOST_IMAGES, MOST_MEMBERS, Member};

/// The name of whoever is at an address: what a seed is called before it is known. No node can have it.
const ANYBODY: &str = ":";

/// In the place of a number of images: it does not say.
const ANY_IMAGE: u8 = 255;

/// Nodes of our own name that are told of between two looks.
const MOST_RIVALS: usize = 4;

/// The most by which a generation grows at once: a day.
const LONGEST_STEP_MS: u64 = 86_400_000;

/// One life of a node, as gossip carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's permanent name.
    pub name: NodeName,
    /// Where its target and its gossip are reached.
    pub address: SocketAddr,
    /// When its process began: microseconds since 1970. Of two that live, who is older keeps the name.
    pub born: u64,
    /// Of two lives of one node that are told of, the one of the higher generation counts. It begins with the
    /// milliseconds since 1970.
    pub generation: u64,
    /// Whether it asks not to be given new work.
    pub draining: bool,
    /// What it is attached to.
    pub images: Images,
}

/// What cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the text ends in the middle")]
    Short,
    #[error("a value that has no meaning")]
    Meaningless,
    #[error("more nodes than there can be")]
    TooMany,
    #[error("no room for more")]
    NoRoom,
}

/// Reads and writes messages. What it notices on the way is shared with whoever owns the protocol.
#[derive(Debug)]
pub(crate) struct Codec {
    me: NodeName,
    noticed: Arc<Mutex<Noticed>>,
}

/// What a [`Codec`] notices.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// Who has our name and is not us.
    pub(crate) rivals: Vec<Identity>,
    /// Who we are now.
    me: Option<Identity>,
    names: BTreeSet<NodeName>,
}

impl Identity {
    /// Whoever is at an address.
    pub(crate) fn anybody_at(address: SocketAddr) -> Self {
        Self {
            name: NodeName::new(ANYBODY).expect("a colon is a name"),
            address,
            born: 0,
            generation: 0,
            draining: false,
            images: Images::Any,
        }
    }

    /// What the others need to know of it.
    pub fn member(&self) -> Member {
        Member {
            name: self.name.clone(),
            address: self.address.to_string(),
            generation: self.generation,
            draining: self.draining,
            images: self.images.clone(),
        }
    }

    pub(crate) fn put(&self, to: &mut impl BufMut) -> Result<(), Unreadable> {
        let name = self.name.as_str();
        let length = u8::try_from(name.len()).map_err(|_| Unreadable::Meaningless)?;
        let address_bytes = if self.address.is_ipv4() { 4 } else { 16 };
        let (count, tags) = match &self.images {
            Images::Any => (ANY_IMAGE, &[][..]),
            Images::These(tags) => {
                let count = u8::try_from(tags.len()).map_err(|_| Unreadable::Meaningless)?;
                (count, &tags[..])
            }
        };
        let images_bytes = tags.len().saturating_mul(4).saturating_add(1);
        let rest = name.len().saturating_add(images_bytes);
        if to.remaining_mut() < rest.saturating_add(1 + 1 + address_bytes + 2 + 8 + 8 + 1) {
            return Err(Unreadable::NoRoom);
        }
        to.put_u8(length);
        to.put_slice(name.as_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => {
                to.put_u8(4);
                to.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                to.put_u8(6);
                to.put_slice(&ip.octets());
            }
        }
        to.put_u16(self.address.port());
        to.put_u64(self.born);
        to.put_u64(self.generation);
        to.put_u8(u8::from(self.draining));
        to.put_u8(count);
        for tag in tags {
            to.put_u32(tag.0);
        }
        Ok(())
    }

    pub(crate) fn take(from: &mut impl Buf) -> Result<Self, Unreadable> {
        let length = usize::from(u8_of(from)?);
        let mut name = [0; NodeName::MAX_BYTES];
        let name = name.get_mut(..length).ok_or(Unreadable::Meaningless)?;
        from.try_copy_to_slice(name)
            .map_err(|_| Unreadable::Short)?;
        let name = std::str::from_utf8(name).ok();
        let name = name.and_then(|name| NodeName::new(name).ok());
        let name = name.ok_or(Unreadable::Meaningless)?;
        let ip: IpAddr = match u8_of(from)? {
            4 => Ipv4Addr::from(u32_of(from)?).into(),
            6 => Ipv6Addr::from(from.try_get_u128().map_err(|_| Unreadable::Short)?).into(),
            _ => return Err(Unreadable::Meaningless),
        };
        let port = u16_of(from)?;
        let (born, generation) = (u64_of(from)?, u64_of(from)?);
        let flags = u8_of(from)?;
        let images = match u8_of(from)? {
            ANY_IMAGE => Images::Any,
            count if usize::from(count) <= MOST_IMAGES => {
                let tags = (0..count).map(|_| Ok(ImageTag(u32_of(from)?)));
                let tags = tags.collect::<Result<_, _>>()?;
                Images::said(tags).map_err(|_| Unreadable::Meaningless)?
            }
            _ => return Err(Unreadable::Meaningless),
        };
        Ok(Self {
            name,
            address: SocketAddr::new(ip, port),
            born,
            generation,
            draining: flags & 1 == 1,
            images,
        })
    }
}

impl foca::Identity for Identity {
    /// The hash of the name: it is compared with that of every member all the time.
    type Addr = u64;

    /// The step doubles: a clock that was set back is made up for after a few renewals.
    fn renew(&self) -> Option<Self> {
        let lead = self.generation.saturating_sub(self.born / 1000);
        let step = lead.clamp(1, LONGEST_STEP_MS);
        Some(Self {
            generation: self.generation.saturating_add(step),
            ..self.clone()
        })
    }

    fn addr(&self) -> u64 {
        self.name.hash()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.born) > (adversary.generation, adversary.born)
    }
}

impl Codec {
    pub(crate) fn new(me: &Identity) -> (Self, Arc<Mutex<Noticed>>) {
        let noticed = Arc::new(Mutex::new(Noticed {
            me: Some(me.clone()),
            ..Noticed::default()
        }));
        let codec = Self {
            me: me.name.clone(),
            noticed: Arc::clone(&noticed),
        };
        (codec, noticed)
    }

    /// An identity of somebody that is told of.
    fn somebody(&self, from: &mut impl Buf) -> Result<Identity, Unreadable> {
        let identity = Identity::take(from)?;
        if identity.name.as_str() == ANYBODY {
            return Err(Unreadable::Meaningless);
        }
        let mut noticed = lock(&self.noticed);
        if identity.name == self.me {
            let born = noticed.me.as_ref().map(|me| me.born);
            if Some(identity.born) != born && noticed.rivals.len() < MOST_RIVALS {
                noticed.rivals.push(identity.clone());
            }
            return Ok(identity);
        }
        if !noticed.names.contains(&identity.name) {
            if noticed.names.len() >= MOST_MEMBERS {
                return Err(Unreadable::TooMany);
            }
            noticed.names.insert(identity.name.clone());
        }
        Ok(identity)
    }
}

impl Noticed {
    /// We are called so from now on. What is said to whom we were is still for us.
    pub(crate) fn renamed(&mut self, me: &Identity) {
        self.me = Some(me.clone());
    }

    /// Names that nobody speaks of any more make room for others.
    pub(crate) fn retain<'a>(&mut self, names: impl Iterator<Item = &'a NodeName>) {
        self.names = names.cloned().collect();
    }

    /// True if no further name would be taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.names.len() >= MOST_MEMBERS
    }
}

/// What was noticed.
pub(crate) fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl foca::Codec<Identity> for Codec {
    type Error = Unreadable;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut to: impl BufMut,
    ) -> Result<(), Unreadable> {
        header.src.put(&mut to)?;
        put_u16(&mut to, header.src_incarnation)?;
        header.dst.put(&mut to)?;
        let (tag, other, probe) = match &header.message {
            Message::Ping(probe) => (0, None, Some(probe)),
            Message::Ack(probe) => (1, None, Some(probe)),
            Message::PingReq {
                target,
                probe_number,
            } => (2, Some(target), Some(probe_number)),
            Message::IndirectPing {
                origin,
                probe_number,
            } => (3, Some(origin), Some(probe_number)),
            Message::IndirectAck {
                target,
                probe_number,
            } => (4, Some(target), Some(probe_number)),
            Message::ForwardedAck {
                origin,
                probe_number,
            } => (5, Some(origin), Some(probe_number)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        put_u8(&mut to, tag)?;
        if let Some(other) = other {
            other.put(&mut to)?;
        }
        probe.map_or(Ok(()), |probe| put_u8(&mut to, *probe))
    }

    fn decode_header(&mut self, mut from: impl Buf) -> Result<Header<Identity>, Unreadable> {
        let src = self.somebody(&mut from)?;
        let src_incarnation = u16_of(&mut from)?;
        let mut dst = Identity::take(&mut from)?;
        if dst.name.as_str() == ANYBODY {
            dst.name = self.me.clone();
        }
        let tag = u8_of(&mut from)?;
        let other = match tag {
            2..=5 => Some(self.somebody(&mut from)?),
            _ => None,
        };
        let probe_number = if tag < 6 { u8_of(&mut from)? } else { 0 };
        let message = match (tag, other) {
            (0, _) => Message::Ping(probe_number),
            (1, _) => Message::Ack(probe_number),
            (2, Some(target)) => Message::PingReq {
                target,
                probe_number,
            },
            (3, Some(origin)) => Message::IndirectPing {
                origin,
                probe_number,
            },
            (4, Some(target)) => Message::IndirectAck {
                target,
                probe_number,
            },
            (5, Some(origin)) => Message::ForwardedAck {
                origin,
                probe_number,
            },
            (6, _) => Message::Announce,
            (7, _) => Message::Feed,
            (8, _) => Message::Gossip,
            (9, _) => Message::Broadcast,
            (10, _) => Message::TurnUndead,
            _ => return Err(Unreadable::Meaningless),
        };
        // That whom we were is down is no news about who we are.
        if message != Message::TurnUndead
            && let Some(me) = &lock(&self.noticed).me
            && (&dst.name, dst.born) == (&me.name, me.born)
        {
            dst = me.clone();
        }
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Identity>,
        mut to: impl BufMut,
    ) -> Result<(), Unreadable> {
        // Nothing is written unless there is room for all of it.
        let mut whole = Vec::with_capacity(64);
        member.id().put(&mut whole)?;
        whole.put_u16(member.incarnation());
        whole.put_u8(match member.state() {
            foca::State::Alive => 0,
            foca::State::Suspect => 1,
            foca::State::Down => 2,
        });
        if to.remaining_mut() < whole.len() {
            return Err(Unreadable::NoRoom);
        }
        to.put_slice(&whole);
        Ok(())
    }

    fn decode_member(&mut self, mut from: impl Buf) -> Result<foca::Member<Identity>, Unreadable> {
        let identity = self.somebody(&mut from)?;
        let incarnation = u16_of(&mut from)?;
        let state = match u8_of(&mut from)? {
            0 => foca::State::Alive,
            1 => foca::State::Suspect,
            2 => foca::State::Down,
            _ => return Err(Unreadable::Meaningless),
        };
        Ok(foca::Member::new(identity, incarnation, state))
    }
}

fn put_u8(to: &mut impl BufMut, value: u8) -> Result<(), Unreadable> {
    if to.remaining_mut() < 1 {
        return Err(Unreadable::NoRoom);
    }
    to.put_u8(value);
    Ok(())
}

fn put_u16(to: &mut impl BufMut, value: u16) -> Result<(), Unreadable> {
    if to.remaining_mut() < 2 {
        return Err(Unreadable::NoRoom);
    }
    to.put_u16(value);
    Ok(())
}

fn u8_of(from: &mut impl Buf) -> Result<u8, Unreadable> {
    from.try_get_u8().map_err(|_| Unreadable::Short)
}

fn u16_of(from: &mut impl Buf) -> Result<u16, Unreadable> {
    from.try_get_u16().map_err(|_| Unreadable::Short)
}

fn u32_of(from: &mut impl Buf) -> Result<u32, Unreadable> {
    from.try_get_u32().map_err(|_| Unreadable::Short)
}

fn u64_of(from: &mut impl Buf) -> Result<u64, Unreadable> {
    from.try_get_u64().map_err(|_| Unreadable::Short)
}
