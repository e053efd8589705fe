//! The commands that initiators send to a disk, answered from the disk in memory (SPC-4, SBC-3).

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::initiator::disk::{BLOCKS, Disk};

/// How a command ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// SCSI status.
    pub(crate) status: u8,
    /// Sense data, for CHECK CONDITION.
    pub(crate) sense: Bytes,
    /// What the command brings.
    pub(crate) data: Bytes,
}

impl Answer {
    /// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub(crate) const OUT_OF_RANGE: Self =
        Self::check(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0]);
    /// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
    const UNKNOWN_COMMAND: Self =
        Self::check(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]);
    /// ILLEGAL REQUEST, INVALID FIELD IN CDB.
    const INVALID_FIELD: Self =
        Self::check(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0]);
    /// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
    const NO_UNIT: Self =
        Self::check(&[0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0]);

    /// CHECK CONDITION with this sense data.
    pub(crate) const fn check(sense: &'static [u8]) -> Self {
        Self {
            status: 2,
            sense: Bytes::from_static(sense),
            data: Bytes::new(),
        }
    }

    /// GOOD, with what was asked for.
    pub(crate) const fn good(data: Bytes) -> Self {
        Self {
            status: 0,
            sense: Bytes::new(),
            data,
        }
    }

    /// Another status without sense.
    pub(crate) const fn status(status: u8) -> Self {
        Self {
            status,
            sense: Bytes::new(),
            data: Bytes::new(),
        }
    }

    fn cut(mut self, allocation: u64) -> Self {
        let most = usize::try_from(allocation).unwrap_or(usize::MAX);
        self.data.truncate(most);
        self
    }
}

/// The blocks that a READ or WRITE is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// The blocks of a READ (6, 10, 12, 16).
pub(crate) fn read_of(cdb: &[u8; 16]) -> Option<Blocks> {
    matches!(cdb[0], 0x08 | 0x28 | 0xa8 | 0x88).then(|| blocks_of(cdb))
}

/// The blocks of a WRITE, or of a WRITE AND VERIFY (6, 10, 12, 16).
pub(crate) fn write_of(cdb: &[u8; 16]) -> Option<Blocks> {
    matches!(cdb[0], 0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e).then(|| blocks_of(cdb))
}

/// Carries a command out; `data` is what came with it.
pub(crate) fn execute(disk: &Disk, lun: u64, cdb: &[u8; 16], data: &Bytes) -> Answer {
    if lun != 0 {
        return absent(cdb);
    }
    if let Some(Blocks { first, count }) = read_of(cdb) {
        return disk.read(first, count);
    }
    if let Some(Blocks { first, count }) = write_of(cdb) {
        return disk.write(first, count, data);
    }
    match cdb[0] {
        // TEST UNIT READY, START STOP UNIT, PREVENT ALLOW, SYNCHRONIZE CACHE (10, 16), VERIFY without data (10, 16).
        0x00 | 0x1b | 0x1e | 0x35 | 0x91 | 0x2f | 0x8f => Answer::default(),
        // REQUEST SENSE: nothing to report.
        0x03 => Answer::good(Bytes::from_static(&[
            0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]))
        .cut(cdb[4].into()),
        0x12 => inquiry(disk, cdb),
        0x1a => modes(cdb[2], false).cut(cdb[4].into()),
        0x5a => modes(cdb[2], true).cut(word(cdb, 7, 2)),
        0x25 => capacity_10(),
        0x9e if cdb[1] & 0x1f == 0x10 => capacity_16().cut(word(cdb, 10, 4)),
        0xa0 => luns().cut(word(cdb, 6, 4)),
        _ => Answer::UNKNOWN_COMMAND,
    }
}

/// What a LUN that is not there says: only INQUIRY and REPORT LUNS are answered.
fn absent(cdb: &[u8; 16]) -> Answer {
    match cdb[0] {
        0x12 if cdb[1] & 1 == 0 => {
            let mut data = BytesMut::zeroed(36);
            data.put_u8(0);
            data.truncate(36);
            // Peripheral qualifier 011b, type 1Fh; 31 more bytes.
            data[0] = 0x7f;
            data[2] = 6;
            data[3] = 2;
            data[4] = 31;
            Answer::good(data.freeze()).cut(word(cdb, 3, 2))
        }
        0xa0 => luns().cut(word(cdb, 6, 4)),
        _ => Answer::NO_UNIT,
    }
}

fn inquiry(disk: &Disk, cdb: &[u8; 16]) -> Answer {
    let allocation = word(cdb, 3, 2);
    if cdb[1] & 1 == 0 {
        return match cdb[2] {
            0 => Answer::good(standard()).cut(allocation),
            _ => Answer::INVALID_FIELD,
        };
    }
    match page(disk, cdb[2]) {
        Some(body) => {
            let mut data = BytesMut::new();
            data.put_slice(&[0, cdb[2]]);
            data.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
            data.put_slice(&body);
            Answer::good(data.freeze()).cut(allocation)
        }
        None => Answer::INVALID_FIELD,
    }
}

/// Standard INQUIRY data: a disk that keeps to SPC-4 and has a command queue.
fn standard() -> Bytes {
    let mut data = BytesMut::new();
    data.put_slice(&[0, 0, 6, 0x02, 31, 0, 0, 0x02]);
    data.put_slice(b"VMTHNDERDRILL           1   ");
    data.freeze()
}

/// A page of vital product data behind its header of four bytes.
fn page(disk: &Disk, page: u8) -> Option<Vec<u8>> {
    match page {
        0x00 => Some(vec![0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]),
        0x80 => Some(disk.serial.as_bytes().to_vec()),
        0x83 => Some(designator(&disk.serial)),
        // No limits; the page is 60 bytes long.
        0xb0 => Some(vec![0; 60]),
        // Not a rotating medium.
        0xb1 => {
            let mut body = vec![0; 60];
            body[1] = 1;
            Some(body)
        }
        0xb2 => Some(vec![0; 4]),
        _ => None,
    }
}

/// An NAA designator that is locally assigned (type 3h): binary, of the logical unit, eight bytes.
fn designator(serial: &str) -> Vec<u8> {
    let hash = serial
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut body = vec![0x01, 0x03, 0, 8];
    body.extend_from_slice(&(hash >> 4 | 0x3000_0000_0000_0000).to_be_bytes());
    body
}

/// MODE SENSE: the caching and the control page, without a block descriptor; what was written is on the medium.
fn modes(page: u8, ten: bool) -> Answer {
    const CACHING: [u8; 20] = {
        let mut page = [0; 20];
        page[0] = 0x08;
        page[1] = 18;
        page
    };
    const CONTROL: [u8; 12] = [0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut pages = BytesMut::new();
    match page & 0x3f {
        0x08 => pages.put_slice(&CACHING),
        0x0a => pages.put_slice(&CONTROL),
        0x3f => {
            pages.put_slice(&CACHING);
            pages.put_slice(&CONTROL);
        }
        _ => return Answer::INVALID_FIELD,
    }
    let length = u8::try_from(pages.len()).unwrap_or(u8::MAX);
    let mut data = BytesMut::new();
    match ten {
        true => data.put_slice(&[0, length + 6, 0, 0, 0, 0, 0, 0]),
        false => data.put_slice(&[length + 3, 0, 0, 0]),
    }
    data.put_slice(&pages);
    Answer::good(data.freeze())
}

fn capacity_10() -> Answer {
    let mut data = BytesMut::new();
    data.put_u32(u32::try_from(BLOCKS - 1).unwrap_or(u32::MAX));
    data.put_u32(512);
    Answer::good(data.freeze())
}

fn capacity_16() -> Answer {
    let mut data = BytesMut::new();
    data.put_u64(BLOCKS - 1);
    data.put_u32(512);
    data.put_bytes(0, 20);
    Answer::good(data.freeze())
}

/// REPORT LUNS: LUN 0 alone.
fn luns() -> Answer {
    let mut data = BytesMut::new();
    data.put_u32(8);
    data.put_bytes(0, 12);
    Answer::good(data.freeze())
}

fn blocks_of(cdb: &[u8; 16]) -> Blocks {
    let (first, count) = match cdb[0] >> 5 {
        // Six bytes: 21 bits of address; no blocks means 256 of them.
        0 => {
            let count = match cdb[4] {
                0 => 256,
                some => some.into(),
            };
            (word(cdb, 1, 3) & 0x1f_ffff, count)
        }
        1 => (word(cdb, 2, 4), word(cdb, 7, 2)),
        4 => (word(cdb, 2, 8), word(cdb, 10, 4)),
        _ => (word(cdb, 2, 4), word(cdb, 6, 4)),
    };
    Blocks { first, count }
}

/// A big-endian number in a CDB.
fn word(cdb: &[u8; 16], at: usize, bytes: usize) -> u64 {
    let taken = cdb.iter().skip(at).take(bytes);
    taken.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Blocks, execute, read_of, write_of};
    use crate::initiator::disk::{Disk, pattern};

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn blocks_are_where_each_length_of_cdb_has_them() {
        let of = |first, count| Some(Blocks { first, count });
        assert_eq!(read_of(&cdb(&[0x08, 0x01, 2, 3, 0])), of(0x01_0203, 256));
        assert_eq!(
            read_of(&cdb(&[0x28, 0, 0, 0, 0, 9, 0, 1, 2])),
            of(9, 0x0102)
        );
        assert_eq!(
            write_of(&cdb(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7])),
            of(9, 7)
        );
        assert_eq!(write_of(&cdb(&[0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 7])), of(9, 7));
        assert_eq!(read_of(&cdb(&[0x2a])), None);
    }

    #[test]
    fn ordinary_questions_are_answered() {
        let disk = Disk::new("unit");
        let ask = |bytes: &[u8]| execute(&disk, 0, &cdb(bytes), &Bytes::new());
        assert_eq!(ask(&[0x28, 0, 0, 0, 0, 5, 0, 0, 1]).data[..], pattern(5));
        assert_eq!(ask(&[0x12, 0, 0, 0, 96]).data.len(), 36);
        assert_eq!(ask(&[0x12, 0, 0, 0, 5]).data.len(), 5);
        assert_eq!(ask(&[0x12, 1, 0x80, 0, 255]).data[..], *b"\0\x80\0\x04unit");
        assert_eq!(ask(&[0x12, 1, 0x83, 0, 255]).data.len(), 16);
        assert_eq!(ask(&[0x25]).data[..], [0, 0, 0x7f, 0xff, 0, 0, 2, 0]);
        assert_eq!(ask(&[0x1a, 0, 0x3f, 0, 255]).data[..2], [35, 0]);
        assert_eq!(ask(&[0xc0]).sense[12], 0x20);
        assert_eq!(
            execute(&disk, 1 << 48, &cdb(&[0]), &Bytes::new()).sense[12],
            0x25
        );
    }
}
