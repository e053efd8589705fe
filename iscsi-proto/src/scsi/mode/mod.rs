//! MODE SENSE and MODE SELECT parameter data (SPC-4 §7.5, SBC-3 §6.4).

use bytes::{BufMut, Bytes, BytesMut};

use pages::{CACHING_PAGE, PAGE_BITS, WCE};

use super::{ModeForm, PageControl, Sense, SenseData};

mod pages;
mod select;

pub use pages::Settings;

/// What the mode pages of a block device say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Nothing can be written (WP); a unit that was write protected by [`Settings::software_write_protect`] says so
    /// here, too.
    pub write_protected: bool,
    /// The values in force.
    pub current: Settings,
    /// The values after a reset.
    pub default: Settings,
    /// The bits that can be changed, each as a one.
    pub changeable: Settings,
    /// Number of blocks, for the block descriptor.
    pub blocks: u64,
    /// Bytes in a block, for the block descriptor.
    pub block_bytes: u32,
}

/// What is asked of MODE SENSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeQuery {
    /// MODE SENSE(6) or (10).
    pub form: ModeForm,
    /// Which values.
    pub control: PageControl,
    /// The page; 3Fh for all.
    pub page: u8,
    /// The subpage; FFh for all.
    pub subpage: u8,
    /// No block descriptor is wanted.
    pub no_block_descriptor: bool,
}

impl Modes {
    /// The parameter data, whole.
    pub fn build(&self, query: &ModeQuery) -> Result<Bytes, SenseData> {
        let pages = self.pages(query)?;
        let descriptor = if query.no_block_descriptor {
            Vec::new()
        } else {
            self.block_descriptor(query.form)
        };
        let specific = if self.write_protected { WP } else { 0 } | DPOFUA;
        let mut out = BytesMut::new();
        match query.form {
            ModeForm::Six => {
                // The mode data length does not count itself.
                out.put_u8(u8::try_from(3 + descriptor.len() + pages.len()).unwrap_or(u8::MAX));
                out.put_slice(&[0, specific, u8::try_from(descriptor.len()).unwrap_or(0)]);
            }
            ModeForm::Ten { .. } => {
                out.put_u16(u16::try_from(6 + descriptor.len() + pages.len()).unwrap_or(u16::MAX));
                let long = u8::from(descriptor.len() == LONG_DESCRIPTOR_BYTES);
                out.put_slice(&[0, specific, long, 0]);
                out.put_u16(u16::try_from(descriptor.len()).unwrap_or(0));
            }
        }
        out.put_slice(&descriptor);
        out.put_slice(&pages);
        Ok(out.freeze())
    }

    fn pages(&self, query: &ModeQuery) -> Result<Vec<u8>, SenseData> {
        if query.subpage != 0 && query.subpage != ALL_SUBPAGES {
            return Err(SenseData::cdb_field(3, 7));
        }
        let all = match query.control {
            PageControl::Saved => return Err(Sense::SAVING_NOT_SUPPORTED.into()),
            PageControl::Current => self.current.pages(false),
            PageControl::Default => self.default.pages(false),
            PageControl::Changeable => self.changeable.pages(true),
        };
        let asked = |page: &Vec<u8>| query.page == ALL_PAGES || page.first() == Some(&query.page);
        let found: Vec<u8> = all.into_iter().filter(asked).flatten().collect();
        if found.is_empty() {
            Err(SenseData::cdb_field(2, 5))
        } else {
            Ok(found)
        }
    }

    fn block_descriptor(&self, form: ModeForm) -> Vec<u8> {
        if let ModeForm::Ten { long_lba: true } = form {
            let mut out = self.blocks.to_be_bytes().to_vec();
            out.extend([0; 4]);
            out.extend(self.block_bytes.to_be_bytes());
            return out;
        }
        let mut out = u32::try_from(self.blocks)
            .unwrap_or(u32::MAX)
            .to_be_bytes()
            .to_vec();
        // Three bytes of block length behind a reserved one.
        out.extend((self.block_bytes & 0x00ff_ffff).to_be_bytes());
        out
    }
}

/// What an initiator needs of MODE SENSE data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeSummary {
    /// Nothing can be written.
    pub write_protected: bool,
    /// DPO and FUA are understood.
    pub dpo_fua: bool,
    /// The write cache, if the caching page came along.
    pub write_cache: Option<bool>,
}

/// Reads MODE SENSE data as far as it was sent.
pub fn parse(form: ModeForm, bytes: &[u8]) -> Option<ModeSummary> {
    let (specific, pages_at) = match form {
        ModeForm::Six => {
            let [_, _, specific, descriptors] = *bytes.first_chunk::<4>()?;
            (specific, 4 + usize::from(descriptors))
        }
        ModeForm::Ten { .. } => {
            let [_, _, _, specific, _, _, high, low] = *bytes.first_chunk::<8>()?;
            (specific, 8 + usize::from(u16::from_be_bytes([high, low])))
        }
    };
    let write_cache = find_page(bytes.get(pages_at..).unwrap_or_default(), CACHING_PAGE)
        .and_then(|page| page.get(2))
        .map(|byte| byte & WCE != 0);
    Some(ModeSummary {
        write_protected: specific & WP != 0,
        dpo_fua: specific & DPOFUA != 0,
        write_cache,
    })
}

fn find_page(mut pages: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        let [first, length] = *pages.first_chunk::<2>()?;
        let whole = if first & SUBPAGE_FORMAT == 0 {
            2 + usize::from(length)
        } else {
            4 + usize::from(u16::from_be_bytes([*pages.get(2)?, *pages.get(3)?]))
        };
        if first & (PAGE_BITS | SUBPAGE_FORMAT) == code {
            return Some(pages.get(..whole).unwrap_or(pages));
        }
        pages = pages.get(whole..)?;
    }
}

const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
const SUBPAGE_FORMAT: u8 = 0x40;
const LONG_DESCRIPTOR_BYTES: usize = 16;
const WP: u8 = 0x80;
const DPOFUA: u8 = 0x10;

#[cfg(test)]
mod tests;
