//! LOG SENSE parameter data (SPC-4 §7.3): the pages that a device without a medium of its own can fill honestly.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SenseData;

/// What is asked of LOG SENSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The page.
    pub page: u8,
    /// The subpage; FFh for all.
    pub subpage: u8,
    /// Parameters from this one on.
    pub pointer: u16,
    /// Save the counters first.
    pub save: bool,
}

/// Supported log pages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Informational exceptions.
pub const INFORMATIONAL_EXCEPTIONS: u8 = 0x2f;

/// The page that is asked for. Nothing can be saved, no counters run, and no temperature is known.
pub fn build(query: &LogQuery) -> Result<Bytes, SenseData> {
    if query.save {
        return Err(SenseData::cdb_field(1, 0));
    }
    if !PAGES.contains(&query.page) {
        return Err(SenseData::cdb_field(2, 5));
    }
    if !matches!(query.subpage, 0 | ALL_SUBPAGES) {
        return Err(SenseData::cdb_field(3, 7));
    }
    // Every page has parameter 0000h alone, or none.
    if query.pointer != 0 {
        return Err(SenseData::cdb_field(5, 7));
    }
    Ok(match (query.page, query.subpage) {
        (SUPPORTED_PAGES, 0) => page(query, &PAGES),
        // With subpages, each entry is a page and its subpage.
        (SUPPORTED_PAGES, _) => page(query, &SUBPAGES),
        (code, ALL_SUBPAGES) => page(query, &[code, 0]),
        _ => page(query, &NO_EXCEPTION),
    })
}

/// A parameter of a log page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogParameter {
    /// PARAMETER CODE.
    pub code: u16,
    /// The control byte.
    pub control: u8,
    /// The value.
    pub value: Bytes,
}

/// The body of a page if it is the one that was asked for, as far as it was sent.
pub fn body(code: u8, subpage: u8, bytes: &[u8]) -> Option<&[u8]> {
    let ([first, second, high, low], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let own_subpage = if first & SUBPAGE_FORMAT == 0 {
        0
    } else {
        *second
    };
    (first & PAGE_BITS == code && own_subpage == subpage)
        .then(|| rest.get(..length).unwrap_or(rest))
}

/// The parameters of a page's body; one that was cut off is left out.
pub fn parameters(mut body: &[u8]) -> Vec<LogParameter> {
    let mut found = Vec::new();
    while body.len() >= PARAMETER_HEADER_BYTES {
        let (code, control) = (body.get_u16(), body.get_u8());
        let length = usize::from(body.get_u8());
        let Some((value, rest)) = body.split_at_checked(length) else {
            break;
        };
        found.push(LogParameter {
            code,
            control,
            value: Bytes::copy_from_slice(value),
        });
        body = rest;
    }
    found
}

fn page(query: &LogQuery, body: &[u8]) -> Bytes {
    let format = if query.subpage == 0 {
        0
    } else {
        SUBPAGE_FORMAT
    };
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
    out.put_u8(query.page | format);
    out.put_u8(query.subpage);
    out.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
    out.put_slice(body);
    out.freeze()
}

/// The pages, ascending.
const PAGES: [u8; 2] = [SUPPORTED_PAGES, INFORMATIONAL_EXCEPTIONS];
const SUBPAGES: [u8; 6] = [
    SUPPORTED_PAGES,
    0,
    SUPPORTED_PAGES,
    ALL_SUBPAGES,
    INFORMATIONAL_EXCEPTIONS,
    0,
];
/// Parameter 0000h, a binary list of four bytes: no additional sense, temperature unknown (FFh).
const NO_EXCEPTION: [u8; 8] = [0, 0, 0x03, 4, 0, 0, 0xff, 0];
const HEADER_BYTES: usize = 4;
const PARAMETER_HEADER_BYTES: usize = 4;
const ALL_SUBPAGES: u8 = 0xff;
const SUBPAGE_FORMAT: u8 = 0x40;
const PAGE_BITS: u8 = 0x3f;

#[cfg(test)]
mod tests {
    use super::{LogParameter, LogQuery};
    use crate::scsi::SenseData;

    fn query(page: u8, subpage: u8) -> LogQuery {
        LogQuery {
            page,
            subpage,
            pointer: 0,
            save: false,
        }
    }

    #[test]
    fn pages_in_bytes() {
        let build = |page, subpage| super::build(&query(page, subpage)).unwrap();
        assert_eq!(build(0, 0).as_ref(), [0, 0, 0, 2, 0, 0x2f]);
        assert_eq!(
            build(0, 0xff).as_ref(),
            [0x40, 0xff, 0, 6, 0, 0, 0, 0xff, 0x2f, 0]
        );
        assert_eq!(
            build(0x2f, 0).as_ref(),
            [0x2f, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0xff, 0]
        );
        assert_eq!(build(0x2f, 0xff).as_ref(), [0x6f, 0xff, 0, 2, 0x2f, 0]);
    }

    #[test]
    fn what_is_refused_is_pointed_at() {
        let refused = [
            (query(0x0d, 0), SenseData::cdb_field(2, 5)),
            (query(0x2f, 1), SenseData::cdb_field(3, 7)),
            (
                LogQuery {
                    pointer: 1,
                    ..query(0x2f, 0)
                },
                SenseData::cdb_field(5, 7),
            ),
            (
                LogQuery {
                    save: true,
                    ..query(0, 0)
                },
                SenseData::cdb_field(1, 0),
            ),
        ];
        for (query, sense) in refused {
            assert_eq!(super::build(&query), Err(sense), "{query:?}");
        }
    }

    #[test]
    fn parameters_end_where_the_bytes_do() {
        let page = [0x2f, 0, 0, 12, 0, 0, 3, 4, 0, 0, 0xff, 0, 0, 1, 3, 9];
        let body = super::body(0x2f, 0, &page).unwrap();
        let expected = LogParameter {
            code: 0,
            control: 3,
            value: bytes::Bytes::from_static(&[0, 0, 0xff, 0]),
        };
        assert_eq!(super::parameters(body), [expected]);
        assert_eq!(super::body(0x2f, 0xff, &page), None);
        assert_eq!(super::body(0x2f, 0, &page[..3]), None);
    }
}
