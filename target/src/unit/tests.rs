//! Commands against a volume in memory, commands and answers spelled out as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iscsi_proto::scsi::Command;
use iscsi_proto::session::Response;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Class, Geometry};

use super::{LogicalUnit, Unit, UnitIdentity};
use crate::asker::Asker;
use crate::exports::Served;
use crate::inquiry::Port;
use crate::sessions::{ItNexus, Sessions};

const BLOCKS: u64 = 0x8000;

fn asker() -> Asker<MemVolume> {
    let target: iscsi_proto::name::IscsiName = "iqn.2001-04.com.example:disk".parse().unwrap();
    let nexus = ItNexus {
        initiator: "iqn.2001-04.com.example:guest".parse().unwrap(),
        isid: iscsi_proto::wire::bhs::Isid::default(),
        relative_port: 2,
    };
    let port = Port {
        target,
        portal_group_tag: 7,
        relative_port: 2,
    };
    let access = crate::access::AccessRules::default();
    let export = Served::new(Class::Demand, port, access, BTreeMap::new());
    Asker::new(nexus, Arc::new(export), Arc::new(Sessions::new(crate::TargetLimits::default())))
}

fn unit() -> LogicalUnit<MemVolume> {
    LogicalUnit::new(plain()).unwrap()
}

fn plain() -> Unit<MemVolume> {
    let geometry = Geometry::new(BlockSize::B512, BLOCKS);
    let bytes = (0..BLOCKS)
        .flat_map(|at| block(u8::try_from(at % 251).unwrap()))
        .collect();
    let identity = UnitIdentity::locally_assigned(0xfabc_def0_1234_5678, "disk");
    Unit::new(0, MemVolume::new(geometry, bytes), identity)
}

fn block(fill: u8) -> Vec<u8> {
    vec![fill; 512]
}

/// Executes a command with as much write data as it asks for, like a connection does.
async fn run(unit: &LogicalUnit<MemVolume>, cdb: &[u8], data: &[u8]) -> Response {
    let mut whole = [0; 16];
    whole[..cdb.len()].copy_from_slice(cdb);
    let asker = asker();
    let outcome = match Command::parse(&whole) {
        Err(sense) => Err(sense.into()),
        Ok(command) => match unit.data_out_bytes(&command, u32::try_from(data.len()).unwrap()) {
            Err(failure) => Err(failure),
            Ok(wanted) => {
                let wanted = usize::try_from(wanted).unwrap().min(data.len());
                unit.execute(command, Bytes::copy_from_slice(&data[..wanted]), &asker)
                    .await
            }
        },
    };
    outcome.unwrap_or_else(|failure| failure.response(true))
}

async fn good(unit: &LogicalUnit<MemVolume>, cdb: &[u8], data: &[u8]) -> Vec<u8> {
    let response = run(unit, cdb, data).await;
    assert_eq!(
        response.status.0, 0x00,
        "{cdb:02x?}: {:02x?}",
        response.sense
    );
    response.data.concat()
}

async fn refused(unit: &LogicalUnit<MemVolume>, cdb: &[u8], data: &[u8]) -> [u8; 3] {
    let response = run(unit, cdb, data).await;
    assert_eq!(response.status.0, 0x02, "{cdb:02x?}");
    let sense = response.sense.unwrap();
    assert_eq!((sense.len(), sense[0], sense[7]), (18, 0x70, 10));
    [sense[2], sense[12], sense[13]]
}

#[tokio::test]
async fn blocks_are_read_and_written_in_every_form() {
    let unit = unit();
    let forms: [(&[u8], &[u8]); 4] = [
        (&[0x0a, 0, 0, 9, 1, 0], &[0x08, 0, 0, 9, 1, 0]),
        (
            &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0],
            &[0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0],
        ),
        (
            &[0xaa, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            &[0xa8, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
        ),
        (
            &[0x8a, 0x18, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            &[0x88, 0x18, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
        ),
    ];
    for (fill, (write, read)) in (0xa0..).zip(forms) {
        let response = run(&unit, write, &block(fill)).await;
        assert_eq!((response.status.0, response.transfer_length), (0, 512));
        assert_eq!(good(&unit, read, &[]).await, block(fill));
    }
    let two = good(&unit, &[0x28, 0, 0, 0, 0, 8, 0, 0, 2, 0], &[]).await;
    assert_eq!(two, [block(8), block(0xa3)].concat());
}

#[tokio::test]
async fn a_short_write_moves_whole_blocks_only() {
    let unit = unit();
    let response = run(&unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 3, 0], &vec![0xee; 1300]).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1536));
    let found = good(&unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 3, 0], &[]).await;
    assert_eq!(found, [block(0xee), block(0xee), block(2)].concat());
}

#[tokio::test]
async fn what_lies_outside_is_refused() {
    let unit = unit();
    let out_of_range = [5, 0x21, 0x00];
    let outside: [&[u8]; 9] = [
        &[0x28, 0, 0, 0, 0x80, 0x00, 0, 0, 1, 0],
        &[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x28, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 0],
        &[
            0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0,
        ],
        &[0x2f, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x35, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x34, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 0],
        &[0x41, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 24, 0, 0],
    ];
    for cdb in outside {
        assert_eq!(
            refused(&unit, cdb, &block(0)).await,
            out_of_range,
            "{cdb:02x?}"
        );
    }
    let before = unit.unit.volume.contents();
    assert_eq!(
        refused(&unit, &[0x2a, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0], &[0; 1024]).await,
        out_of_range
    );
    assert!(unit.unit.volume.contents() == before);
    // No blocks at an address that exists, and more than 8 MiB.
    assert!(
        good(&unit, &[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 0, 0], &[])
            .await
            .is_empty()
    );
    assert_eq!(
        refused(&unit, &[0xa8, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0], &[]).await,
        [5, 0x24, 0x00]
    );
}

#[tokio::test]
async fn a_read_only_unit_keeps_what_it_has() {
    let unit = LogicalUnit::new(Unit {
        read_only: true,
        ..plain()
    })
    .unwrap();
    let before = unit.unit.volume.contents();
    let writes: [&[u8]; 5] = [
        &[0x0a, 0, 0, 0, 1, 0],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    ];
    for cdb in writes {
        assert_eq!(
            refused(&unit, cdb, &block(0)).await,
            [7, 0x27, 0x00],
            "{cdb:02x?}"
        );
    }
    assert!(unit.unit.volume.contents() == before);
    let mode = good(&unit, &[0x1a, 8, 0x08, 0, 255, 0], &[]).await;
    assert_eq!(
        mode[..7],
        [23, 0, 0x90, 0, 0x08, 0x12, 0x00],
        "write protected, DPOFUA, no write cache"
    );
    let mode = good(
        &LogicalUnit::new(Unit {
            read_only: false,
            ..unit.unit
        })
        .unwrap(),
        &[0x1a, 8, 0x08, 0, 255, 0],
        &[],
    )
    .await;
    assert_eq!(mode[..7], [23, 0, 0x10, 0, 0x08, 0x12, 0x04]);
}

#[tokio::test]
async fn verify_compares_if_asked() {
    let unit = unit();
    let verify = |check: u8| [0x2f, check, 0, 0, 0, 4, 0, 0, 2, 0];
    let same = [block(4), block(5)].concat();
    assert!(good(&unit, &verify(0x00), &[]).await.is_empty());
    assert!(good(&unit, &verify(0x02), &same).await.is_empty());
    let mut other = same.clone();
    other[1023] ^= 1;
    assert_eq!(
        refused(&unit, &verify(0x02), &other).await,
        [0x0e, 0x1d, 0x00]
    );
    assert_eq!(refused(&unit, &verify(0x06), &same).await, [5, 0x24, 0x00]);
}

#[tokio::test]
async fn what_is_written_can_be_verified_at_once() {
    let unit = unit();
    let forms: [&[u8]; 3] = [
        &[0x2e, 0x00, 0, 0, 0, 5, 0, 0, 1, 0],
        &[0xae, 0x02, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0],
        &[0x8e, 0x02, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0],
    ];
    for (fill, cdb) in (0xb0..).zip(forms) {
        let response = run(&unit, cdb, &block(fill)).await;
        assert_eq!((response.status.0, response.transfer_length), (0, 512));
        assert_eq!(unit.unit.volume.contents()[5 * 512..6 * 512], block(fill));
    }
    let read_only = LogicalUnit::new(Unit {
        read_only: true,
        ..unit.unit
    })
    .unwrap();
    assert_eq!(
        refused(&read_only, forms[0], &block(0)).await,
        [7, 0x27, 0x00]
    );
}

#[tokio::test]
async fn blocks_are_given_back() {
    let unit = unit();
    let list = |lba: u8, blocks: u8| {
        [
            0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0, 0, 0,
        ]
    };
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert!(good(&unit, &unmap, &list(8, 16)).await.is_empty());
    let found = good(&unit, &[0x28, 0, 0, 0, 0, 7, 0, 0, 18, 0], &[]).await;
    assert_eq!(found, [block(7), vec![0; 16 * 512], block(24)].concat());
    let mut beyond = list(0, 2);
    beyond[8..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0x7f, 0xff]);
    assert_eq!(refused(&unit, &unmap, &beyond).await, [5, 0x21, 0x00]);
    let mut long = list(0, 2);
    long[16..20].copy_from_slice(&[0, 0x10, 0, 1]);
    assert_eq!(
        refused(&unit, &unmap, &long).await,
        [5, 0x26, 0x00],
        "more than the limit"
    );
    assert_eq!(
        refused(&unit, &[0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0], &list(0, 1)).await,
        [5, 0x24, 0x00]
    );
    assert!(
        good(&unit, &[0x42], &[]).await.is_empty(),
        "no list is no error"
    );
    let thick = LogicalUnit::new(Unit {
        thin: false,
        ..unit.unit
    })
    .unwrap();
    assert_eq!(refused(&thick, &unmap, &list(0, 1)).await, [5, 0x20, 0x00]);
    assert_eq!(
        good(&thick, &[0xa3, 0x0c, 1, 0x42, 0, 0, 0, 0, 0, 64, 0, 0], &[]).await,
        [0, 1, 0, 0]
    );
}

#[tokio::test]
async fn one_block_fills_many() {
    let unit = unit();
    assert!(
        good(
            &unit,
            &[0x41, 0, 0, 0, 0, 0, 0x10, 0x10, 0x01, 0],
            &block(0x33)
        )
        .await
        .is_empty()
    );
    let contents = unit.unit.volume.contents();
    assert!(contents[..0x1001 * 512].iter().all(|byte| *byte == 0x33));
    assert_eq!(
        contents[0x1001 * 512..0x1002 * 512],
        block(u8::try_from(0x1001 % 251).unwrap())
    );
    // NDOB: zeros, though no block is sent.
    assert!(
        good(
            &unit,
            &[0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0],
            &[]
        )
        .await
        .is_empty()
    );
    let found = good(&unit, &[0x28, 0, 0, 0, 0, 3, 0, 0, 4, 0], &[]).await;
    assert_eq!(found, [block(0x33), vec![0; 1024], block(0x33)].concat());
    let invalid = [5, 0x24, 0x00];
    assert_eq!(
        refused(&unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], &block(0)).await,
        invalid,
        "no blocks"
    );
    assert_eq!(
        refused(&unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 1024]).await,
        invalid,
        "two blocks sent"
    );
    assert_eq!(
        refused(&unit, &[0x41, 0x10, 0, 0, 0, 0, 0, 0, 1, 0], &block(0)).await,
        invalid,
        "anchor"
    );
}

#[tokio::test]
async fn the_unit_introduces_itself() {
    let unit = unit();
    let standard = good(&unit, &[0x12, 0, 0, 0, 36, 0], &[]).await;
    assert_eq!(
        standard[..8],
        [0x00, 0x00, 0x06, 0x12, 0x5b, 0x00, 0x00, 0x02]
    );
    assert_eq!(&standard[8..36], b"VMTHNDR disk            0001");
    let pages = good(&unit, &[0x12, 1, 0x00, 0, 255, 0], &[]).await;
    assert_eq!(
        pages,
        [0, 0, 0, 7, 0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]
    );
    for page in &pages[4..] {
        let answer = good(&unit, &[0x12, 1, *page, 2, 0, 0], &[]).await;
        assert_eq!(answer[1], *page);
        assert_eq!(
            answer.len(),
            4 + usize::from(u16::from_be_bytes([answer[2], answer[3]]))
        );
    }
    let serial = good(&unit, &[0x12, 1, 0x80, 0, 255, 0], &[]).await;
    assert_eq!(&serial[4..], b"3abcdef012345678");
    let names = good(&unit, &[0x12, 1, 0x83, 2, 0, 0], &[]).await;
    assert_eq!(
        names[4..16],
        [
            0x01, 0x03, 0, 8, 0x3a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78
        ]
    );
    assert_eq!(&names[16..44], b"\x02\x01\0\x18VMTHNDR 3abcdef012345678");
    assert_eq!(
        names[44..60],
        [0x51, 0x94, 0, 4, 0, 0, 0, 2, 0x51, 0x95, 0, 4, 0, 0, 0, 7]
    );
    assert!(names[64..].starts_with(b"iqn.2001-04.com.example:disk,t,0x0007\0"));
    assert_eq!(
        refused(&unit, &[0x12, 1, 0x84, 0, 255, 0], &[]).await,
        [5, 0x24, 0x00]
    );
    let limits = good(&unit, &[0x12, 1, 0xb0, 0, 64, 0], &[]).await;
    assert_eq!(limits[4..16], [1, 0, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0]);
    assert_eq!(limits[20..32], [0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8]);
}

#[tokio::test]
async fn capacity_and_its_truncation() {
    let unit = unit();
    assert_eq!(
        good(&unit, &[0x25], &[]).await,
        [0, 0, 0x7f, 0xff, 0, 0, 2, 0]
    );
    let long = good(
        &unit,
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32],
        &[],
    )
    .await;
    assert_eq!(
        long[..16],
        [0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0, 0]
    );
    assert_eq!(long.len(), 32);
    let short = good(
        &unit,
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        &[],
    )
    .await;
    assert_eq!(short, long[..9]);
    assert!(good(&unit, &[0x12, 0, 0, 0, 0, 0], &[]).await.is_empty());
}

#[tokio::test]
async fn all_blocks_count_as_mapped_when_the_volume_does_not_know() {
    let status = good(
        &unit(),
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 24, 0, 0],
        &[],
    )
    .await;
    assert_eq!(
        status[..16],
        [0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    );
    assert_eq!((status[20] & 0x0f, status.len()), (0, 24));
}

#[tokio::test]
async fn small_commands_are_obeyed() {
    let unit = unit();
    let obeyed: [&[u8]; 7] = [
        &[0x00],
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x1b, 0, 0, 0, 0, 0],
        &[0x1e, 0, 0, 0, 1, 0],
        &[0x35],
        &[0x91, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0],
        &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in obeyed {
        assert!(good(&unit, cdb, &[]).await.is_empty(), "{cdb:02x?}");
    }
    assert_eq!(
        refused(&unit, &[0x5e], &[]).await,
        [5, 0x20, 0x00],
        "PERSISTENT RESERVE IN"
    );
    assert_eq!(
        refused(&unit, &[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], &[]).await,
        [5, 0x24, 0x00],
        "RDPROTECT"
    );
}
