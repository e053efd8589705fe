//! Targets that answer pings wrongly.

use bytes::Bytes;
use iscsi_proto::wire::Header;

use crate::broken::{Fault, Kind, edit};

pub(crate) const FAULTS: &[Fault] = &[Fault {
    name: "pings lose their data",
    trips: "nop.echo",
    behind: Kind::Plain,
    saboteur: || {
        edit::responses(|pdu| {
            if matches!(pdu.header, Header::NopIn(_)) {
                pdu.data = Bytes::new();
            }
        })
    },
}];
