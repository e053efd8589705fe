//! Pages of any device: extended INQUIRY data and mode page policy (SPC-4 §7.8.7, §7.8.9).

use bytes::Bytes;

use super::{EXTENDED_INQUIRY, LONG_BODY_BYTES, MODE_PAGE_POLICY, body, page};
use crate::scsi::layout::zero_extended;

/// What a unit with simple, ordered and head of queue tasks, and without protection, says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedInquiry {
    /// What was written may be lost with power until it is flushed (V_SUP).
    pub volatile_cache: bool,
    /// What was written may be in a cache that keeps it without power (NV_SUP).
    pub nonvolatile_cache: bool,
    /// REPORTED LUNS DATA HAS CHANGED, once reported, is gone from the other units of the same nexus (LUICLR).
    pub clears_attentions: bool,
    /// Longest sense data; zero is not told.
    pub maximum_sense_bytes: u8,
}

impl ExtendedInquiry {
    /// The extended INQUIRY data page.
    pub fn build(&self) -> Bytes {
        let mut out = [0u8; LONG_BODY_BYTES];
        out[1] = HEADSUP | ORDSUP | SIMPSUP;
        out[2] = if self.volatile_cache { V_SUP } else { 0 }
            | if self.nonvolatile_cache { NV_SUP } else { 0 };
        out[3] = if self.clears_attentions { LUICLR } else { 0 };
        out[9] = self.maximum_sense_bytes;
        page(EXTENDED_INQUIRY, &out)
    }

    /// Reads the extended INQUIRY data page.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [_, _, caches, attentions, _, _, _, _, _, sense] =
            zero_extended::<10>(body(EXTENDED_INQUIRY, bytes)?);
        Some(Self {
            volatile_cache: caches & V_SUP != 0,
            nonvolatile_cache: caches & NV_SUP != 0,
            clears_attentions: attentions & LUICLR != 0,
            maximum_sense_bytes: sense,
        })
    }
}

/// The mode page policy page: all mode pages are shared by all nexuses.
pub fn mode_page_policy_page() -> Bytes {
    page(MODE_PAGE_POLICY, &[0x3f, 0xff, SHARED, 0])
}

const HEADSUP: u8 = 0x04;
const ORDSUP: u8 = 0x02;
const SIMPSUP: u8 = 0x01;
const V_SUP: u8 = 0x01;
const NV_SUP: u8 = 0x02;
const LUICLR: u8 = 0x01;
const SHARED: u8 = 0x00;
