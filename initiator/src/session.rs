//! A handle on one target.

use bytes::Bytes;
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::Command;
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::Class;

use crate::{Error, Options};

/// A session with one target. Cheap to clone; when the last handle is gone, the session logs out.
#[derive(Clone, Debug)]
pub struct Session {}

/// What READ CAPACITY says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_bytes: u32,
}

impl Session {
    /// Connects and logs in to the target that a URL names.
    pub async fn connect(_url: &IscsiUrl, _options: Options) -> Result<Self, Error> {
        Err(Error::Unreachable)
    }

    /// Connects to `address` (`host`, `host:port`, `[v6]:port`) and logs in to a target there.
    pub async fn connect_to(
        _address: &str,
        _target: &IscsiName,
        _options: Options,
    ) -> Result<Self, Error> {
        Err(Error::Unreachable)
    }

    /// Carries a command out, whatever its status. `Class::Peer` is refused with [`Error::QueueFull`] where other
    /// classes wait.
    pub async fn execute(
        &self,
        _lun: Lun,
        _command: &Command,
        _transfer: Transfer,
        _class: Class,
    ) -> Result<Completion, Error> {
        Err(Error::Unreachable)
    }

    /// The units of the target.
    pub async fn report_luns(&self) -> Result<Vec<Lun>, Error> {
        Err(Error::Unreachable)
    }

    /// Standard INQUIRY data, as the unit sent it.
    pub async fn inquiry(&self, _lun: Lun) -> Result<Bytes, Error> {
        Err(Error::Unreachable)
    }

    /// A page of vital product data, as the unit sent it.
    pub async fn vital_page(&self, _lun: Lun, _page: u8) -> Result<Bytes, Error> {
        Err(Error::Unreachable)
    }

    /// Size and block size of a unit.
    pub async fn read_capacity(&self, _lun: Lun) -> Result<Capacity, Error> {
        Err(Error::Unreachable)
    }

    /// How often the session logged in; more than once means that the connection was lost meanwhile.
    pub fn logins(&self) -> u64 {
        0
    }

    /// Logs out; every handle answers [`Error::Closed`] from then on.
    pub async fn close(&self) {}
}
