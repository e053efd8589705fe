//! Commands against a volume in memory, commands and answers spelled out as bytes.

mod abandoned;
mod atomic;
mod atomicity;
mod blocks;
mod compare;
mod copy;
mod disk;
mod immediate;
mod medium;
mod modes;
mod oracle;
mod refusals;
mod reports;
mod sanitize;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iscsi_proto::login::Identity;
use iscsi_proto::params::SessionType;
use iscsi_proto::scsi::{Command, Sense};
use iscsi_proto::session::Response;
use vmthunder_volume::{BlockSize, Class};

use super::{LogicalUnit, Unit, UnitIdentity};
use crate::access::AccessRules;
use crate::asker::Asker;
use crate::exports::Served;
use crate::inquiry::Port;
use crate::sessions::{Guest, Seat, Sessions};

pub(super) use disk::Disk;

/// Blocks of the units here.
pub(super) const BLOCKS: u64 = 0x8000;

/// A target with units and two initiators that are logged in, `guest` and `other`.
pub(super) struct Bench {
    seats: [Seat<Disk>; 2],
    units: BTreeMap<u16, Arc<LogicalUnit<Disk>>>,
}

impl Bench {
    /// One unit of 512-byte blocks; each block is filled with its number modulo 251.
    pub(super) fn new() -> Self {
        Self::with(|unit| unit)
    }

    /// The same, changed.
    pub(super) fn with(change: impl FnOnce(Unit<Disk>) -> Unit<Disk>) -> Self {
        Self::of(vec![change(plain())])
    }

    pub(super) fn of(units: Vec<Unit<Disk>>) -> Self {
        let target: iscsi_proto::name::IscsiName = "iqn.2001-04.com.example:disk".parse().unwrap();
        let units: BTreeMap<_, _> = units
            .into_iter()
            .map(|unit| {
                (
                    unit.number,
                    Arc::new(LogicalUnit::new(&target, unit).unwrap()),
                )
            })
            .collect();
        let port = Port {
            target: target.clone(),
            portal_group_tag: 7,
            relative_port: 2,
        };
        let access = AccessRules::default();
        let export = Arc::new(Served::new(Class::Demand, port, access, units.clone()));
        let sessions = Arc::new(Sessions::new(
            crate::TargetLimits::default(),
            std::time::Duration::from_secs(2),
        ));
        let seats = ["guest", "other"].map(|name| {
            let identity = Identity {
                initiator_name: format!("iqn.2001-04.com.example:{name}").parse().unwrap(),
                initiator_alias: None,
                target_name: Some(target.clone()),
                session_type: SessionType::Normal,
                isid: [0, 2, 0x3d, 0, 0, 1],
                tsih: 0,
                cid: 0,
            };
            let guest = Guest::new(&identity, "127.0.0.1:1".parse().unwrap(), None);
            let seat = sessions.enter(guest, Some(Arc::clone(&export))).unwrap();
            for number in units.keys() {
                assert_eq!(seat.attention.take(*number), Some(Sense::POWER_ON_OR_RESET));
            }
            seat
        });
        Self { seats, units }
    }

    pub(super) fn unit(&self) -> &Arc<LogicalUnit<Disk>> {
        &self.units[&0]
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.unit().unit.volume
    }

    pub(super) fn guest(&self) -> &Asker<Disk> {
        self.seats[0].asker.as_ref().unwrap()
    }

    pub(super) fn other(&self) -> &Asker<Disk> {
        self.seats[1].asker.as_ref().unwrap()
    }

    pub(super) fn contents_of(&self, number: u16) -> Vec<u8> {
        self.units[&number].unit.volume.contents()
    }

    /// What the other initiator has to be told next.
    pub(super) fn news_of_the_other(&self) -> Option<[u8; 3]> {
        let sense = self.seats[1].attention.take(0);
        sense.map(|sense| [sense.key, sense.asc, sense.ascq])
    }

    /// What the guest has to be told next.
    pub(super) fn news(&self) -> Option<[u8; 3]> {
        let sense = self.seats[0].attention.take(0);
        sense.map(|sense| [sense.key, sense.asc, sense.ascq])
    }

    /// Executes a command with as much write data as it asks for, as a connection does.
    pub(super) async fn run_as(&self, asker: &Asker<Disk>, cdb: &[u8], data: &[u8]) -> Response {
        self.run_at(0, asker, cdb, data).await
    }

    pub(super) async fn run_at(
        &self,
        number: u16,
        asker: &Asker<Disk>,
        cdb: &[u8],
        data: &[u8],
    ) -> Response {
        let unit = &self.units[&number];
        let mut whole = [0; 16];
        whole[..cdb.len()].copy_from_slice(cdb);
        let offered = u32::try_from(data.len()).unwrap();
        let outcome = async {
            let command = Command::parse(&whole).map_err(|sense| unit.spoken(sense.into()))?;
            unit.admit(&command, asker)?;
            let wanted = unit.data_out_bytes(&command, offered)?;
            let taken = &data[..usize::try_from(wanted).unwrap().min(data.len())];
            let execution = unit.execute(command, Bytes::copy_from_slice(taken), asker);
            execution.await
        };
        outcome
            .await
            .unwrap_or_else(|failure| failure.response(true))
    }

    pub(super) async fn run(&self, cdb: &[u8], data: &[u8]) -> Response {
        self.run_as(self.guest(), cdb, data).await
    }

    /// What a command answers that must not fail.
    pub(super) async fn good(&self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        self.good_as(self.guest(), cdb, data).await
    }

    pub(super) async fn good_as(&self, asker: &Asker<Disk>, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let response = self.run_as(asker, cdb, data).await;
        assert_eq!(
            response.status.0, 0x00,
            "{cdb:02x?}: {:02x?}",
            response.sense
        );
        response.data.concat()
    }

    /// Key, code and qualifier of a command that must fail.
    pub(super) async fn refused(&self, cdb: &[u8], data: &[u8]) -> [u8; 3] {
        self.refused_as(self.guest(), cdb, data).await
    }

    pub(super) async fn refused_as(&self, asker: &Asker<Disk>, cdb: &[u8], data: &[u8]) -> [u8; 3] {
        let response = self.run_as(asker, cdb, data).await;
        assert_eq!(response.status.0, 0x02, "{cdb:02x?}");
        let sense = response.sense.unwrap();
        assert_eq!((sense.len(), sense[0] & 0x7f, sense[7]), (18, 0x70, 10));
        [sense[2], sense[12], sense[13]]
    }

    /// The whole sense of a command that must fail.
    pub(super) async fn sense(&self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let response = self.run(cdb, data).await;
        assert_eq!(response.status.0, 0x02, "{cdb:02x?}");
        response.sense.unwrap().to_vec()
    }

    /// Blocks as they are now, past the unit.
    pub(super) fn blocks(&self, lba: usize, count: usize) -> Vec<u8> {
        self.disk().contents()[lba * 512..(lba + count) * 512].to_vec()
    }
}

pub(super) fn plain() -> Unit<Disk> {
    numbered(0)
}

/// A unit with an identity that its number decides.
pub(super) fn numbered(number: u16) -> Unit<Disk> {
    let bits = 0xfabc_def0_1234_5678 + u64::from(number);
    let identity = UnitIdentity::locally_assigned(bits, "disk");
    Unit::new(number, Disk::new(BlockSize::B512, BLOCKS), identity)
}

pub(super) fn block(fill: u8) -> Vec<u8> {
    vec![fill; 512]
}
