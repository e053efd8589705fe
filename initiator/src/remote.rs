//! A logical unit as a volume.

use bytes::Bytes;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume as volume;
use vmthunder_volume::{Allocation, Class, Geometry, Span, Volume};

use crate::{Error, Session};

/// A logical unit of a session as a volume.
#[derive(Clone, Debug)]
pub struct Remote {
    geometry: Geometry,
    designators: Vec<Vec<u8>>,
}

impl Remote {
    /// Asks a unit what it is. From then on it must stay that.
    pub async fn attach(_session: Session, _lun: Lun) -> Result<Self, Error> {
        Err(Error::Unreachable)
    }

    /// The designators of the logical unit (VPD page 83h, association 0), each with its four bytes of header.
    pub fn designators(&self) -> &[Vec<u8>] {
        &self.designators
    }

    /// True if the unit says that it cannot be written.
    pub fn is_read_only(&self) -> bool {
        true
    }
}

impl Volume for Remote {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, _span: Span, _class: Class) -> volume::Result<Bytes> {
        Err(volume::Error::Unavailable)
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> volume::Result<()> {
        Err(volume::Error::Unavailable)
    }

    async fn flush(&self) -> volume::Result<()> {
        Err(volume::Error::Unavailable)
    }

    async fn trim(&self, _span: Span) -> volume::Result<()> {
        Err(volume::Error::Unavailable)
    }

    async fn allocation(&self, span: Span) -> volume::Result<(Allocation, Span)> {
        Ok((Allocation::Mapped, span))
    }
}
