//! MODE SENSE parameter data (SPC-4 §7.5, SBC-3 §6.4).

use bytes::{BufMut, Bytes, BytesMut};

use super::{ModeForm, PageControl, Sense};

/// What the mode pages of a block device say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Nothing can be written (WP).
    pub write_protected: bool,
    /// Written data may be lost with power until it is flushed (WCE).
    pub write_cache: bool,
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
    pub fn build(&self, query: &ModeQuery) -> Result<Bytes, Sense> {
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

    fn pages(&self, query: &ModeQuery) -> Result<Vec<u8>, Sense> {
        if query.control == PageControl::Saved {
            return Err(SAVING_NOT_SUPPORTED);
        }
        if query.subpage != 0 && query.subpage != ALL_SUBPAGES {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let all = [self.caching_page(), control_page(), informational_page()];
        let mut out = Vec::new();
        for mut page in all
            .into_iter()
            .filter(|page| query.page == ALL_PAGES || page.first() == Some(&query.page))
        {
            if query.control == PageControl::Changeable {
                // Nothing can be changed: all but the page's header is zero.
                page.iter_mut().skip(2).for_each(|byte| *byte = 0);
            }
            out.extend(page);
        }
        if out.is_empty() {
            Err(Sense::INVALID_FIELD_IN_CDB)
        } else {
            Ok(out)
        }
    }

    fn caching_page(&self) -> Vec<u8> {
        let mut page = vec![0; 20];
        page[0] = CACHING_PAGE;
        page[1] = 0x12;
        page[2] = if self.write_cache { WCE } else { 0 };
        page
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

fn control_page() -> Vec<u8> {
    let mut page = vec![0; 12];
    page[0] = CONTROL_PAGE;
    page[1] = 0x0a;
    page[3] = UNRESTRICTED_REORDERING;
    // Busy timeout period: unlimited.
    page[8] = 0xff;
    page[9] = 0xff;
    page
}

fn informational_page() -> Vec<u8> {
    let mut page = vec![0; 12];
    page[0] = INFORMATIONAL_EXCEPTIONS_PAGE;
    page[1] = 0x0a;
    page[2] = DEXCPT;
    page
}

/// SAVING PARAMETERS NOT SUPPORTED (SPC-4 §6.11.5).
const SAVING_NOT_SUPPORTED: Sense = Sense::new(5, 0x39, 0);

const CACHING_PAGE: u8 = 0x08;
const CONTROL_PAGE: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS_PAGE: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
const PAGE_BITS: u8 = 0x3f;
const SUBPAGE_FORMAT: u8 = 0x40;
const LONG_DESCRIPTOR_BYTES: usize = 16;
const WP: u8 = 0x80;
const DPOFUA: u8 = 0x10;
const WCE: u8 = 0x04;
const UNRESTRICTED_REORDERING: u8 = 0x10;
const DEXCPT: u8 = 0x08;
