//! The record on disk, in bytes, and as it is found after an end at any moment.

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{Journal, Record};

fn record() -> Record {
    Record {
        offset: 0x0102_0304_0506,
        before: vec![0x1122_3344, 0x5566_7788],
        data: Bytes::from_static(b"abcdefgh"),
    }
}

#[test]
fn a_record_in_bytes() {
    let bytes = record().encode();
    assert_eq!(
        bytes[..24],
        [
            b'V', b'M', b'T', b'A', b'T', b'O', b'M', b'1', 6, 5, 4, 3, 2, 1, 0, 0, 2, 0, 0, 0, 8,
            0, 0, 0
        ]
    );
    assert_eq!(bytes[28..], *b"\x44\x33\x22\x11\x88\x77\x66\x55abcdefgh");
    let mut unsummed = bytes.to_vec();
    unsummed[24..28].fill(0);
    assert_eq!(bytes[24..28], crc32c::crc32c(&unsummed).to_le_bytes());
    assert_eq!(Record::parse(&bytes), Some(record()));
}

#[test]
fn blocks_of_before_and_of_the_record_fit_and_no_others() {
    let record = Record {
        offset: 0,
        before: Record::sums(b"old1old2", 4),
        data: Bytes::from_static(b"new1new2"),
    };
    for mixed in [b"old1old2", b"new1old2", b"old1new2", b"new1new2"] {
        assert!(record.fits(mixed));
    }
    assert!(!record.fits(b"old1xxx2"));
    assert!(!record.fits(b"old2old1"));
    assert!(!record.fits(b"old1"));
}

#[tokio::test]
async fn a_record_stands_until_it_is_struck() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.atomic");
    let (journal, found) = Journal::open(&path).unwrap();
    assert!(found.is_none() && !path.exists());
    journal.strike().await.unwrap();
    assert!(!path.exists());
    journal.write(&record()).await.unwrap();
    assert_eq!(Journal::open(&path).unwrap().1, Some(record()));
    let small = Record {
        before: vec![7],
        data: Bytes::from_static(b"z"),
        ..record()
    };
    journal.write(&small).await.unwrap();
    assert_eq!(
        Journal::open(&path).unwrap().1,
        Some(small),
        "behind it is what is left of a longer one"
    );
    journal.strike().await.unwrap();
    assert_eq!(Journal::open(&path).unwrap().1, None);
}

proptest! {
    /// Power may end with any part of the record on the medium, over any older content.
    #[test]
    fn a_record_that_was_not_completed_is_none(
        older in prop::collection::vec(any::<u8>(), 0..64), kept in 0usize..44,
    ) {
        let bytes = record().encode();
        let mut file = older;
        file.resize(file.len().max(kept), 0);
        file[..kept].copy_from_slice(&bytes[..kept]);
        let found = Record::parse(&file);
        prop_assert_eq!(found, (file.get(..44) == Some(&bytes[..])).then(record));
    }

    #[test]
    fn hostile_bytes_are_no_record(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(magic) = bytes.first_chunk_mut::<8>() {
            *magic = *b"VMTATOM1";
        }
        prop_assert_eq!(Record::parse(&bytes), None);
    }
}
