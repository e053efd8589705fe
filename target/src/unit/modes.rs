//! Mode pages of a unit: what initiators can change, for all of them (SPC-4 §7.5). Nothing is saved: a reset undoes
//! it.

use std::sync::atomic::{AtomicU8, Ordering};

use iscsi_proto::scsi::mode::{ModeQuery, Modes, Settings};
use iscsi_proto::scsi::{ModeForm, Sense, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::Volume;

use super::LogicalUnit;
use super::spans::length_32;
use crate::asker::Asker;
use crate::failure::Failure;
use crate::inquiry::cut;
use crate::sessions::Whom;

/// What the mode pages say now; every command looks at it.
#[derive(Debug)]
pub(super) struct ModeSwitches {
    current: AtomicU8,
    default: u8,
}

impl ModeSwitches {
    /// What was written survives this process, but not the loss of power, until it is flushed: a write cache, unless
    /// nothing can be written.
    pub(super) fn new(read_only: bool) -> Self {
        let default = if read_only { 0 } else { WRITE_CACHE };
        Self {
            current: AtomicU8::new(default),
            default,
        }
    }

    /// WCE: an answer to a write does not mean that the medium has it.
    pub(super) fn write_cache(&self) -> bool {
        self.current() & WRITE_CACHE != 0
    }

    /// D_SENSE: sense in descriptor format.
    pub(super) fn descriptors(&self) -> bool {
        self.current() & DESCRIPTORS != 0
    }

    /// SWP: initiators have agreed not to write.
    pub(super) fn write_protected(&self) -> bool {
        self.current() & PROTECTED != 0
    }

    pub(super) fn reset(&self) {
        self.current.store(self.default, Ordering::Release);
    }

    /// True if that changes anything.
    fn set(&self, settings: &Settings) -> bool {
        let bits = bits(settings);
        self.current.swap(bits, Ordering::AcqRel) != bits
    }

    fn current(&self) -> u8 {
        self.current.load(Ordering::Acquire)
    }
}

impl<V: Volume> LogicalUnit<V> {
    pub(super) fn mode_sense(
        &self,
        query: &ModeQuery,
        allocation: u16,
    ) -> Result<Response, Failure> {
        Ok(cut(self.mode_pages().build(query)?, allocation.into()))
    }

    /// Obeys the whole list or nothing of it; the other initiators are told if anything is different now. What is
    /// cached when the write cache is switched off is made safe first.
    pub(super) async fn mode_select(
        &self,
        form: ModeForm,
        page_format: bool,
        list: &[u8],
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let settings = self.mode_pages().select(form, page_format, list)?;
        if self.modes.set(&settings) {
            let others = Whom::Others(&asker.nexus);
            asker.raise(self.unit.number, others, Sense::MODE_PARAMETERS_CHANGED);
        }
        if !settings.write_cache && !self.unit.read_only {
            self.flush().await?;
        }
        Ok(Response::written(length_32(list)))
    }

    /// SP=1 is refused: nothing is saved.
    pub(super) fn mode_select_bytes(save: bool, parameter_length: u16) -> Result<u32, Failure> {
        if save {
            Err(SenseData::cdb_field(1, 0).into())
        } else {
            Ok(parameter_length.into())
        }
    }

    fn mode_pages(&self) -> Modes {
        Modes {
            write_protected: self.unit.read_only || self.modes.write_protected(),
            current: settings(self.modes.current()),
            default: settings(self.modes.default),
            changeable: Settings {
                write_cache: !self.unit.read_only,
                descriptor_sense: true,
                software_write_protect: true,
                ..Settings::default()
            },
            blocks: self.geometry().blocks(),
            block_bytes: self.block_bytes(),
        }
    }
}

fn settings(bits: u8) -> Settings {
    Settings {
        write_cache: bits & WRITE_CACHE != 0,
        descriptor_sense: bits & DESCRIPTORS != 0,
        software_write_protect: bits & PROTECTED != 0,
        ..Settings::default()
    }
}

fn bits(settings: &Settings) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(settings.write_cache, WRITE_CACHE)
        | bit(settings.descriptor_sense, DESCRIPTORS)
        | bit(settings.software_write_protect, PROTECTED)
}

const WRITE_CACHE: u8 = 1;
const DESCRIPTORS: u8 = 2;
const PROTECTED: u8 = 4;
