//! The parameter list of MODE SELECT (SPC-4 §6.10, §7.5): pure, from what is in force to what shall be.

use super::pages::{PAGE_BITS, Settings};
use super::{ALL_PAGES, LONG_DESCRIPTOR_BYTES, Modes, SUBPAGE_FORMAT};
use crate::scsi::{ModeForm, Sense, SenseData};

impl Modes {
    /// What is in force once this list was obeyed. Nothing is unless all of it can be.
    pub fn select(
        &self,
        form: ModeForm,
        page_format: bool,
        list: &[u8],
    ) -> Result<Settings, SenseData> {
        if list.is_empty() {
            return Ok(self.current);
        }
        let header = Header::parse(form, list)?;
        let pages_at = header.bytes + header.descriptor_bytes;
        let descriptor = list
            .get(header.bytes..pages_at)
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        self.check_descriptor(&header, descriptor)?;
        let mut rest = list.get(pages_at..).unwrap_or_default();
        if !page_format && !rest.is_empty() {
            return Err(SenseData::cdb_field(1, 4));
        }
        let mut settings = self.current;
        while !rest.is_empty() {
            let at = list.len() - rest.len();
            let page = self.page_of(rest, at)?;
            let length = page.len();
            let given = rest
                .get(..length)
                .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
            self.check_page(settings, given, at)?;
            settings.take(given);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(settings)
    }

    /// The page in force that a list's page is about.
    fn page_of(&self, rest: &[u8], at: usize) -> Result<Vec<u8>, SenseData> {
        let [code, length] = *rest
            .first_chunk::<2>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let known =
            self.current.pages(false).into_iter().find(|page| {
                code & SUBPAGE_FORMAT == 0 && page.first() == Some(&(code & PAGE_BITS))
            });
        let page = known
            .filter(|_| code & PAGE_BITS != ALL_PAGES)
            .ok_or_else(|| SenseData::list_field(at, 5))?;
        if page.get(1) == Some(&length) {
            Ok(page)
        } else {
            Err(SenseData::list_field(at + 1, 7))
        }
    }

    /// A bit that cannot be changed must have the value that it has (SPC-4 §6.10).
    fn check_page(&self, settings: Settings, given: &[u8], at: usize) -> Result<(), SenseData> {
        let of = |all: [Vec<u8>; 4]| {
            let code = given.first().map(|code| code & PAGE_BITS);
            let page = all.into_iter().find(|page| page.first().copied() == code);
            page.unwrap_or_default()
        };
        let (present, mask) = (of(settings.pages(false)), of(self.changeable.pages(true)));
        let bytes = given.iter().zip(present.iter().zip(&mask)).enumerate();
        for (index, (new, (old, changeable))) in bytes.skip(2) {
            let wrong = (new ^ old) & !changeable;
            if wrong != 0 {
                let bit = u8::try_from(wrong.ilog2()).unwrap_or(0);
                return Err(SenseData::list_field(at + index, bit));
            }
        }
        Ok(())
    }

    /// The size of the unit is what it is: a block descriptor may only repeat it (SBC-4 §6.5.2).
    fn check_descriptor(&self, header: &Header, descriptor: &[u8]) -> Result<(), SenseData> {
        let at = header.bytes;
        match (header.long, descriptor) {
            (_, []) => Ok(()),
            (false, &[a, b, c, d, _, high, middle, low]) => {
                let blocks = u32::from_be_bytes([a, b, c, d]);
                let own = u32::try_from(self.blocks).unwrap_or(u32::MAX);
                let block_bytes = u32::from_be_bytes([0, high, middle, low]);
                if ![0, own, u32::MAX].contains(&blocks) {
                    Err(SenseData::list_field(at, 7))
                } else if block_bytes != self.block_bytes {
                    Err(SenseData::list_field(at + 5, 7))
                } else {
                    Ok(())
                }
            }
            (true, &[a, b, c, d, e, f, g, h, _, _, _, _, i, j, k, l]) => {
                let blocks = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                if ![0, self.blocks, u64::MAX].contains(&blocks) {
                    Err(SenseData::list_field(at, 7))
                } else if u32::from_be_bytes([i, j, k, l]) != self.block_bytes {
                    Err(SenseData::list_field(at + 12, 7))
                } else {
                    Ok(())
                }
            }
            // Some other number of bytes: point at BLOCK DESCRIPTOR LENGTH, the end of the header.
            _ => Err(SenseData::list_field(header.length_at, 7)),
        }
    }
}

/// The header of a list. MODE DATA LENGTH, MEDIUM TYPE and the device-specific parameter are not looked at: they are
/// reserved or ignored here, and initiators send back what MODE SENSE told them.
struct Header {
    bytes: usize,
    long: bool,
    descriptor_bytes: usize,
    /// Where BLOCK DESCRIPTOR LENGTH is.
    length_at: usize,
}

impl Header {
    fn parse(form: ModeForm, list: &[u8]) -> Result<Self, SenseData> {
        let short = Sense::PARAMETER_LIST_LENGTH_ERROR;
        match form {
            ModeForm::Six => {
                let [_, _, _, length] = *list.first_chunk::<4>().ok_or(short)?;
                Ok(Self {
                    bytes: 4,
                    long: false,
                    descriptor_bytes: length.into(),
                    length_at: 3,
                })
            }
            ModeForm::Ten { .. } => {
                let [.., long, _, high, low] = *list.first_chunk::<8>().ok_or(short)?;
                let length = usize::from(u16::from_be_bytes([high, low]));
                Ok(Self {
                    bytes: 8,
                    long: long & LONGLBA != 0 && length == LONG_DESCRIPTOR_BYTES,
                    descriptor_bytes: length,
                    length_at: 6,
                })
            }
        }
    }
}

const LONGLBA: u8 = 0x01;
