//! Command descriptor blocks and parameter lists against units.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iscsi_proto::fuzzing::Source;
use iscsi_proto::scsi::{Command, Status};
use iscsi_proto::session::Response;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{Class, Volume};

use crate::TargetLimits;
use crate::access::AccessRules;
use crate::asker::Asker;
use crate::exports::Served;
use crate::fuzzing::{runtime, units};
use crate::inquiry::Port;
use crate::sessions::{ItNexus, Sessions};
use crate::unit::{LogicalUnit, MAX_TRANSFER_BYTES};

/// Commands of two nexuses against units of each kind. Answers are well formed and no longer than was asked for, a
/// descriptor block that is understood is written as it was read, and what is read is what the volume holds.
pub fn command(input: &[u8]) {
    let mut source = Source::new(input);
    let askers = [asker(1), asker(2)];
    let target = &askers[0].export.port.target;
    let units: Vec<_> = units()
        .into_iter()
        .map(|unit| LogicalUnit::new(target, unit).expect("a unit without files"))
        .collect();
    runtime().block_on(async {
        while !source.is_empty() {
            let choice = usize::from(source.byte());
            let (unit, asker) = (&units[choice % units.len()], &askers[choice / 8 % 2]);
            if choice >= 0xfc {
                unit.nexus_lost(&asker.nexus);
            } else if choice >= 0xf8 {
                unit.reset();
            } else {
                run(unit, asker, &mut source).await;
            }
            tokio::task::yield_now().await;
        }
    });
}

async fn run(unit: &LogicalUnit<MemVolume>, asker: &Asker<MemVolume>, source: &mut Source<'_>) {
    let mut cdb = [0; 16];
    let given = source.take(16);
    cdb[..given.len()].copy_from_slice(given);
    let Ok(command) = Command::parse(&cdb) else {
        return;
    };
    let again = Command::parse(&command.cdb());
    assert_eq!(again.as_ref(), Ok(&command), "{cdb:02x?}");
    let offered = u32::from(source.half());
    let outcome = match unit.admit(&command, asker) {
        Ok(()) => unit.data_out_bytes(&command, offered),
        Err(failure) => Err(failure),
    };
    let outcome = match outcome {
        Ok(wanted) => {
            assert!(
                u64::from(wanted) <= MAX_TRANSFER_BYTES,
                "{command:?} wants {wanted} bytes"
            );
            let data = data(source, wanted.min(offered));
            unit.execute(command, data, asker).await
        }
        Err(failure) => Err(failure),
    };
    let response = outcome.unwrap_or_else(|failure| failure.response(true));
    is_lawful(&command, &cdb, &response);
    if let Command::Read { range, .. } = command
        && response.status == Status::GOOD
    {
        let block = u64::from(unit.unit.volume.geometry().block_size().bytes());
        let begin = usize::try_from(range.lba() * block).expect("inside the volume");
        let read = response.data.concat();
        assert_eq!(read, unit.unit.volume.contents()[begin..begin + read.len()]);
        assert_eq!(read.len() as u64, u64::from(range.blocks()) * block);
    }
}

/// A parameter list as the fuzzer gives it; what it does not give is a pattern.
fn data(source: &mut Source<'_>, length: u32) -> Bytes {
    let length = usize::try_from(length).expect("a small transfer");
    let given = usize::from(source.byte());
    let mut data = source.take(given.min(length)).to_vec();
    data.resize(length, 0);
    data.into()
}

fn is_lawful(command: &Command, cdb: &[u8; 16], response: &Response) {
    let length: usize = response.data.iter().map(Bytes::len).sum();
    match &response.sense {
        Some(sense) => {
            assert_eq!(response.status, Status::CHECK_CONDITION);
            assert!(matches!(sense[0] & 0x7f, 0x70 | 0x72), "{sense:02x?}");
            assert!((8..=252).contains(&sense.len()), "{sense:02x?}");
        }
        None => assert_ne!(response.status, Status::CHECK_CONDITION, "{command:?}"),
    }
    assert!(length as u64 <= MAX_TRANSFER_BYTES);
    if response.status != Status::GOOD {
        assert_eq!(length, 0, "{command:?} failed and brings data");
    }
    if let Some(allocation) = allocation(cdb) {
        assert!(
            length as u64 <= allocation,
            "{command:?}: {length} of {allocation}"
        );
    }
}

/// The ALLOCATION LENGTH of a descriptor block (SPC-4 §4.3.5.6), where it is for commands that have one.
fn allocation(cdb: &[u8; 16]) -> Option<u64> {
    let field = match cdb[0] {
        // REQUEST SENSE, MODE SENSE(6)
        0x03 | 0x1a => 4..5,
        // INQUIRY
        0x12 => 3..5,
        // LOG SENSE, MODE SENSE(10), PERSISTENT RESERVE IN, READ DEFECT DATA(10)
        0x37 | 0x4d | 0x5a | 0x5e => 7..9,
        // READ DEFECT DATA(12), REPORT LUNS, MAINTENANCE IN
        0xa0 | 0xa3 | 0xb7 => 6..10,
        // RECEIVE COPY RESULTS, SERVICE ACTION IN(16)
        0x84 | 0x9e => 10..14,
        _ => return None,
    };
    let bytes = &cdb[field];
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

fn asker(number: u8) -> Asker<MemVolume> {
    let name = |name: &str| name.parse().expect("a name");
    let nexus = ItNexus {
        initiator: name("iqn.2026-01.org.example:host"),
        isid: [0x80, 0, 0, 0, 0, number],
        relative_port: 1,
    };
    let port = Port {
        target: name("iqn.2026-01.org.example:disk"),
        portal_group_tag: 1,
        relative_port: 1,
    };
    let access = AccessRules::default();
    let export = Served::new(Class::Demand, port, access, BTreeMap::new());
    let sessions = Sessions::new(TargetLimits::default(), std::time::Duration::from_secs(2));
    Asker::new(nexus, Arc::new(export), Arc::new(sessions))
}
