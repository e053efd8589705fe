//! What a unit tells about itself.

use vmthunder_volume::BlockSize;

use super::{Bench, Disk, Unit};

#[tokio::test]
async fn the_unit_introduces_itself() {
    let bench = Bench::new();
    let standard = bench.good(&[0x12, 0, 0, 0, 36, 0], &[]).await;
    assert_eq!(
        standard[..8],
        [0x00, 0x00, 0x06, 0x12, 0x5b, 0x18, 0x00, 0x02],
        "TPGS 01b and 3PC"
    );
    assert_eq!(&standard[8..36], b"VMTHNDR disk            0001");
    let pages = bench.good(&[0x12, 1, 0x00, 0, 255, 0], &[]).await;
    assert_eq!(
        pages,
        [
            0, 0, 0, 9, 0x00, 0x80, 0x83, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2
        ]
    );
    for page in &pages[4..] {
        let answer = bench.good(&[0x12, 1, *page, 2, 0, 0], &[]).await;
        assert_eq!(answer[1], *page);
        assert_eq!(
            answer.len(),
            4 + usize::from(u16::from_be_bytes([answer[2], answer[3]]))
        );
    }
    let serial = bench.good(&[0x12, 1, 0x80, 0, 255, 0], &[]).await;
    assert_eq!(&serial[4..], b"3abcdef012345678");
    let names = bench.good(&[0x12, 1, 0x83, 2, 0, 0], &[]).await;
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
        bench.refused(&[0x12, 1, 0x84, 0, 255, 0], &[]).await,
        [5, 0x24, 0x00]
    );
}

/// SBC-3 §6.5.3: all limits are in blocks.
#[tokio::test]
async fn limits_follow_the_block_size() {
    let small = Bench::new();
    let limits = small.good(&[0x12, 1, 0xb0, 0, 64, 0], &[]).await;
    // WSNZ, 255 blocks compared and written, 4 KiB granularity, 8 MiB and 1 MiB transfers.
    assert_eq!(limits[4..16], [1, 0xff, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0]);
    assert_eq!(limits[20..32], [0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8]);
    assert_eq!(limits[32..36], [0x80, 0, 0, 0], "UGAVALID");
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 0, 0x40, 0]);
    assert_eq!(limits[44..64], [0; 20], "no atomic writes");
    let large = Bench::with(|unit| Unit {
        volume: Disk::new(BlockSize::B4096, 64),
        ..unit
    });
    let limits = large.good(&[0x12, 1, 0xb0, 0, 64, 0], &[]).await;
    assert_eq!(limits[4..16], [1, 0xff, 0, 1, 0, 0, 8, 0, 0, 0, 1, 0]);
    assert_eq!(limits[20..32], [0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 0, 8, 0]);
    assert_eq!(large.good(&[0x25], &[]).await, [0, 0, 0, 63, 0, 0, 0x10, 0]);
    let full = Bench::with(|unit| Unit {
        thin: false,
        ..unit
    });
    let limits = full.good(&[0x12, 1, 0xb0, 0, 64, 0], &[]).await;
    assert_eq!(limits[20..36], [0; 16], "no UNMAP");
    assert_eq!(
        full.good(&[0x12, 1, 0xb2, 0, 64, 0], &[]).await,
        [0, 0xb2, 0, 4, 0, 0, 0, 0]
    );
}

/// WABEREQ tells what reading finds after BLOCK ERASE, and is zero where there is none.
#[tokio::test]
async fn characteristics_follow_what_can_be_erased() {
    for (thin, expected) in [(true, 0x40), (false, 0)] {
        let bench = Bench::with(|unit| Unit { thin, ..unit });
        let page = bench.good(&[0x12, 1, 0xb1, 0, 64, 0], &[]).await;
        assert_eq!(page[..8], [0, 0xb1, 0, 60, 0, 1, 0, expected]);
    }
}

#[tokio::test]
async fn a_removable_unit_says_so() {
    let bench = Bench::with(|unit| Unit {
        removable: true,
        ..unit
    });
    let standard = bench.good(&[0x12, 0, 0, 0, 36, 0], &[]).await;
    assert_eq!(standard[..2], [0x00, 0x80]);
}

/// SPC-4 §6.35: what is obeyed, and nothing else.
#[tokio::test]
async fn only_what_is_obeyed_is_reported() {
    let thin = Bench::new();
    let full = Bench::with(|unit| Unit {
        thin: false,
        ..unit
    });
    let one = |opcode, action| [0xa3, 0x0c, 3, opcode, 0, action, 0, 0, 0, 64, 0, 0];
    let known = [
        (0x42, 0),
        (0x48, 1),
        (0x48, 2),
        (0x48, 0x1f),
        (0x89, 0),
        (0x83, 0),
    ];
    for (opcode, action) in known {
        let answer = thin.good(&one(opcode, action), &[]).await;
        assert_eq!(answer[1], 3, "{opcode:02x}/{action:02x}");
    }
    for (opcode, action) in [(0x48, 3), (0x9c, 0), (0x99, 0)] {
        let answer = thin.good(&one(opcode, action), &[]).await;
        assert_eq!(answer, [0, 1, 0, 0], "{opcode:02x}/{action:02x}");
    }
    for (opcode, action) in [(0x42, 0), (0x48, 2)] {
        let answer = full.good(&one(opcode, action), &[]).await;
        assert_eq!(answer, [0, 1, 0, 0], "{opcode:02x}/{action:02x}");
    }
    let all = thin
        .good(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], &[])
        .await;
    let commands: Vec<(u8, u8)> = all[4..].chunks(8).map(|one| (one[0], one[3])).collect();
    assert!(commands.contains(&(0x48, 0x01)) && !commands.contains(&(0x48, 0x03)));
    assert!(!commands.iter().any(|(opcode, _)| *opcode == 0x9c));
}

#[tokio::test]
async fn small_reports_in_bytes() {
    let bench = Bench::new();
    // REPORT TARGET PORT GROUPS: one group, active and optimized, with one port.
    let groups = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(
        bench.good(&groups, &[]).await,
        [0, 0, 0, 12, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2]
    );
    // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: ATS, ATSS, CTSS, LURS.
    let functions = [0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(bench.good(&functions, &[]).await[0], 0xd8);
    // LOG SENSE: the pages that there are.
    let log = [0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0];
    assert_eq!(bench.good(&log, &[]).await, [0, 0, 0, 2, 0, 0x2f]);
    // READ DEFECT DATA: empty lists in the format that was asked for.
    let ten = [0x37, 0, 0x1d, 0, 0, 0, 0, 0, 64, 0];
    assert_eq!(bench.good(&ten, &[]).await, [0, 0x1d, 0, 0]);
    let twelve = [0xb7, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(bench.good(&twelve, &[]).await, [0, 0x0d, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn capacity_and_its_truncation() {
    let bench = Bench::new();
    assert_eq!(
        bench.good(&[0x25], &[]).await,
        [0, 0, 0x7f, 0xff, 0, 0, 2, 0]
    );
    let long = bench
        .good(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32], &[])
        .await;
    assert_eq!(
        long[..16],
        [0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0, 0]
    );
    assert_eq!(long.len(), 32);
    let short = bench
        .good(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], &[])
        .await;
    assert_eq!(short, long[..9]);
    assert!(bench.good(&[0x12, 0, 0, 0, 0, 0], &[]).await.is_empty());
}
