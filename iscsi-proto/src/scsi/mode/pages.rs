//! The mode pages of a block device, from what can be set in them (SPC-4 §7.5, SBC-4 §6.5).

use bytes::{BufMut, Bytes, BytesMut};

use crate::scsi::ModeForm;

/// What mode pages let initiators set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Written data may be lost with power until it is flushed (WCE).
    pub write_cache: bool,
    /// Sense comes in descriptor format (D_SENSE).
    pub descriptor_sense: bool,
    /// Nothing can be written because somebody said so (SWP).
    pub software_write_protect: bool,
    /// A command that another nexus aborts ends with TASK ABORTED (TAS).
    pub task_aborted_status: bool,
    /// What CHECK CONDITION does to other commands (QERR), two bits.
    pub queue_error: u8,
}

impl Settings {
    /// All pages, ascending; those of `mask` if nothing but bits of settings shall be in them.
    pub(super) fn pages(&self, mask: bool) -> [Vec<u8>; 4] {
        [
            page(RECOVERY_PAGE, 0x0a),
            self.caching_page(),
            self.control_page(mask),
            informational_page(mask),
        ]
    }

    /// A parameter list for MODE SELECT that sets all of this.
    pub fn list(&self, form: ModeForm) -> Bytes {
        let header = match form {
            ModeForm::Six => 4,
            ModeForm::Ten { .. } => 8,
        };
        let mut out = BytesMut::zeroed(header);
        out.put_slice(&self.caching_page());
        out.put_slice(&self.control_page(false));
        out.freeze()
    }

    /// Takes what a page says; the page has the length of its kind.
    pub(super) fn take(&mut self, page: &[u8]) {
        let at = |index: usize| page.get(index).copied().unwrap_or(0);
        match at(0) & PAGE_BITS {
            CACHING_PAGE => self.write_cache = at(2) & WCE != 0,
            CONTROL_PAGE => {
                self.descriptor_sense = at(2) & D_SENSE != 0;
                self.queue_error = (at(3) & QERR) >> 1;
                self.software_write_protect = at(4) & SWP != 0;
                self.task_aborted_status = at(5) & TAS != 0;
            }
            _ => {}
        }
    }

    fn caching_page(&self) -> Vec<u8> {
        let mut out = page(CACHING_PAGE, 0x12);
        put(&mut out, 2, if self.write_cache { WCE } else { 0 });
        out
    }

    fn control_page(&self, mask: bool) -> Vec<u8> {
        let mut out = page(CONTROL_PAGE, 0x0a);
        let (fixed_2, fixed_3) = if mask {
            (0, 0)
        } else {
            (GLTSD, UNRESTRICTED_REORDERING)
        };
        let sense = if self.descriptor_sense { D_SENSE } else { 0 };
        put(&mut out, 2, fixed_2 | sense);
        put(&mut out, 3, fixed_3 | (self.queue_error << 1) & QERR);
        put(
            &mut out,
            4,
            if self.software_write_protect { SWP } else { 0 },
        );
        put(&mut out, 5, if self.task_aborted_status { TAS } else { 0 });
        if !mask {
            // Busy timeout period: unlimited.
            put(&mut out, 8, 0xff);
            put(&mut out, 9, 0xff);
        }
        out
    }
}

fn informational_page(mask: bool) -> Vec<u8> {
    let mut out = page(INFORMATIONAL_EXCEPTIONS_PAGE, 0x0a);
    // Exceptions are never reported.
    put(&mut out, 2, if mask { 0 } else { DEXCPT });
    out
}

/// A page of zeros; `length` does not count the two bytes of its header.
fn page(code: u8, length: u8) -> Vec<u8> {
    let mut out = vec![0; usize::from(length) + 2];
    put(&mut out, 0, code);
    put(&mut out, 1, length);
    out
}

fn put(page: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = page.get_mut(at) {
        *byte = value;
    }
}

const RECOVERY_PAGE: u8 = 0x01;
pub(super) const CACHING_PAGE: u8 = 0x08;
const CONTROL_PAGE: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS_PAGE: u8 = 0x1c;
pub(super) const PAGE_BITS: u8 = 0x3f;
pub(super) const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
/// Log parameters are never saved behind the initiator's back.
const GLTSD: u8 = 0x02;
const UNRESTRICTED_REORDERING: u8 = 0x10;
const QERR: u8 = 0x06;
const SWP: u8 = 0x08;
const TAS: u8 = 0x40;
const DEXCPT: u8 = 0x08;
