//! MODE SENSE (SPC-3 §6.9, §6.10, §7.4); MODE SELECT is in `modes::select`.

pub(super) mod pages;
pub(super) mod select;

use bytes::Bytes;

use super::room;
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::fields::Fields;
use crate::management::write_10;
use crate::session::{Reply, Session, Task};
use crate::words;

checks! {
    "modes.six.length", "SPC-3 §7.4.3", Must, Reads,
        "MODE SENSE (6) for all pages"
        => "MODE DATA LENGTH is the number of bytes behind it", six_length;
    "modes.ten.length", "SPC-3 §7.4.3", Must, Reads,
        "MODE SENSE (10) for all pages"
        => "MODE DATA LENGTH is the number of bytes behind it", ten_length;
    "modes.six.no-descriptors", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE (6) with DBD"
        => "BLOCK DESCRIPTOR LENGTH 0", six_no_descriptors;
    "modes.ten.no-descriptors", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE (10) with DBD"
        => "BLOCK DESCRIPTOR LENGTH 0", ten_no_descriptors;
    "modes.descriptor", "SBC-2 §6.3.2", Must, Reads,
        "MODE SENSE without DBD"
        => "a block descriptor, if any, with the block length and the number of blocks of READ CAPACITY", descriptor;
    "modes.agree", "SPC-3 §6.10", Must, Reads,
        "MODE SENSE (6) and (10) for all pages"
        => "the same pages and the same DEVICE-SPECIFIC PARAMETER in both", agree;
    "modes.allocation", "SPC-3 §4.3.4.6", Must, Reads,
        "MODE SENSE for all pages with ALLOCATION LENGTH 4 and 0"
        => "so many bytes, MODE DATA LENGTH not adjusted to the cut", allocation;
    "modes.write-protect", "SBC-2 §6.3.1", Must, Writes,
        "MODE SENSE, and a WRITE of what is there already"
        => "DATA PROTECT exactly where WP is one", write_protect;
    "modes.force-unit-access", "SBC-2 §6.3.1", Must, Reads,
        "READ (10) with DPO and FUA, where DPOFUA is one"
        => "GOOD", force_unit_access;
}

/// MODE SENSE and MODE SELECT have two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Six,
    Ten,
}

/// Which values of a page are asked for (PC).
const CURRENT: u8 = 0;
const CHANGEABLE: u8 = 1;
const DEFAULT: u8 = 2;
const SAVED: u8 = 3;
/// All pages.
const ALL: u8 = 0x3f;

/// What MODE SENSE brings, taken apart.
#[derive(Debug)]
struct Sensed {
    /// DEVICE-SPECIFIC PARAMETER.
    specific: u8,
    descriptors: Vec<u8>,
    pages: Vec<Vec<u8>>,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Six => "MODE SENSE (6)",
            Self::Ten => "MODE SENSE (10)",
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::Six => 4,
            Self::Ten => 8,
        }
    }

    /// The command; `flags` is byte 1, where 08h is DBD.
    fn sense(self, flags: u8, control: u8, page: u8, subpage: u8, allocation: u16) -> Task {
        let [high, low] = allocation.to_be_bytes();
        let asked = control << 6 | page;
        match self {
            Self::Six => {
                let allocation = allocation.min(0xff);
                let byte = u8::try_from(allocation).unwrap_or(0xff);
                Task::read(&[0x1a, flags, asked, subpage, byte, 0], allocation.into())
            }
            Self::Ten => Task::read(
                &[0x5a, flags, asked, subpage, 0, 0, 0, high, low, 0],
                allocation.into(),
            ),
        }
    }

    /// Bytes that the mode data has by its MODE DATA LENGTH, which does not count itself.
    fn whole(self, data: &[u8]) -> Result<usize, Finding> {
        let fields = Fields::of(self.name(), data);
        Ok(match self {
            Self::Six => usize::from(fields.byte(0)?) + 1,
            Self::Ten => usize::from(fields.two(0)?) + 2,
        })
    }

    fn descriptor_bytes(self, data: &[u8]) -> Result<usize, Finding> {
        let fields = Fields::of(self.name(), data);
        Ok(match self {
            Self::Six => fields.byte(3)?.into(),
            Self::Ten => fields.two(6)?.into(),
        })
    }

    fn take_apart(self, data: &[u8]) -> Result<Sensed, Finding> {
        let fields = Fields::of(self.name(), data);
        let descriptor_bytes = self.descriptor_bytes(data)?;
        let pages_at = self.header_bytes() + descriptor_bytes;
        let descriptors = fields.part(self.header_bytes(), descriptor_bytes)?.to_vec();
        let specific = match self {
            Self::Six => fields.byte(2)?,
            Self::Ten => fields.byte(3)?,
        };
        let pages = split(data.get(pages_at..).unwrap_or_default())?;
        Ok(Sensed {
            specific,
            descriptors,
            pages,
        })
    }
}

/// The pages of mode data.
fn split(data: &[u8]) -> Result<Vec<Vec<u8>>, Finding> {
    let mut rest = data;
    let mut pages = Vec::new();
    while let Some(first) = rest.first() {
        let page = Fields::of("a mode page", rest);
        // SPF: a subpage code, and two bytes of length.
        let bytes = match first & 0x40 {
            0 => page.byte(1).map(|length| usize::from(length) + 2),
            _ => page.two(2).map(|length| usize::from(length) + 4),
        };
        let page = match bytes.and_then(|bytes| page.part(0, bytes)) {
            // Page 00h is vendor specific, and need not have the form of a page; it is the last one.
            Err(_) if first & 0x7f == 0 => rest,
            page => page?,
        };
        pages.push(page.to_vec());
        rest = rest.get(page.len()..).unwrap_or_default();
    }
    Ok(pages)
}

async fn six_length(bench: &Bench) -> Verdict {
    length(bench, Form::Six).await
}

async fn ten_length(bench: &Bench) -> Verdict {
    length(bench, Form::Ten).await
}

async fn length(bench: &Bench, form: Form) -> Verdict {
    let mut session = bench.session().await?;
    let data = ask_all(&mut session, form, 0).await?;
    let whole = form.whole(&data)?;
    ensure!(
        data.len() == whole.min(most(form).into()),
        "MODE DATA LENGTH of {} makes {whole} bytes, and {} come",
        form.name(),
        data.len()
    );
    Ok(())
}

async fn six_no_descriptors(bench: &Bench) -> Verdict {
    no_descriptors(bench, Form::Six).await
}

async fn ten_no_descriptors(bench: &Bench) -> Verdict {
    no_descriptors(bench, Form::Ten).await
}

async fn no_descriptors(bench: &Bench, form: Form) -> Verdict {
    let mut session = bench.session().await?;
    let data = ask_all(&mut session, form, DBD).await?;
    let bytes = form.descriptor_bytes(&data)?;
    ensure!(
        bytes == 0,
        "{} with DBD brings {bytes} bytes of block descriptors",
        form.name()
    );
    Ok(())
}

async fn descriptor(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let data = ask_all(&mut session, form, 0).await?;
    let descriptors = form.take_apart(&data)?.descriptors;
    if descriptors.is_empty() {
        skip!("no block descriptor is brought, as the unit may choose");
    }
    // LONGLBA is not set without LLBAA: descriptors have eight bytes.
    ensure!(
        descriptors.len() % 8 == 0,
        "{} bytes of block descriptors, of eight bytes each",
        descriptors.len()
    );
    let fields = Fields::of("a block descriptor", &descriptors);
    let (blocks, bytes) = (fields.four(0)?, fields.four(4)? & 0x00ff_ffff);
    let facts = &bench.facts;
    let own = u32::try_from(facts.blocks).unwrap_or(u32::MAX);
    // Zero: all remaining blocks (SPC-3); some units say nothing else.
    ensure!(
        [0, own].contains(&blocks) && bytes == facts.block_bytes,
        "the block descriptor tells {blocks} blocks of {bytes} bytes, READ CAPACITY {} of {}",
        facts.blocks,
        facts.block_bytes
    );
    Ok(())
}

async fn agree(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let six = ask_all(&mut session, Form::Six, DBD).await?;
    let ten = ask_all(&mut session, Form::Ten, DBD).await?;
    if Form::Six.whole(&six)? > usize::from(most(Form::Six)) {
        skip!("the pages are longer than MODE SENSE (6) can bring");
    }
    let (six, ten) = (Form::Six.take_apart(&six)?, Form::Ten.take_apart(&ten)?);
    ensure!(
        six.pages == ten.pages,
        "MODE SENSE (6) brings {}, MODE SENSE (10) {}",
        words::hex(&six.pages.concat()),
        words::hex(&ten.pages.concat())
    );
    ensure!(
        six.specific == ten.specific,
        "DEVICE-SPECIFIC PARAMETER is {:#04x} in MODE SENSE (6) and {:#04x} in (10)",
        six.specific,
        ten.specific
    );
    Ok(())
}

async fn allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let whole = ask_all(&mut session, form, DBD).await?;
    for bytes in [4, 0] {
        let task = form.sense(DBD, CURRENT, ALL, 0, bytes);
        room::is_cut(&mut session, form.name(), task, bytes.into(), &whole).await?;
    }
    Ok(())
}

async fn write_protect(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let data = ask_all(&mut session, form, DBD).await?;
    let protected = form.take_apart(&data)?.specific & 0x80 != 0;
    let block = bench.block(&mut session, 0).await?;
    let reply = session.run(&Task::write(&write_10(0), block)).await?;
    let refused = reply.codes().0 == DATA_PROTECT;
    ensure!(
        refused == protected,
        "WP is {}, and WRITE (10) ends with {}",
        u8::from(protected),
        reply.outcome()
    );
    Ok(())
}

async fn force_unit_access(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let data = ask_all(&mut session, form, DBD).await?;
    if form.take_apart(&data)?.specific & 0x10 == 0 {
        skip!("DPOFUA is zero: the bits are not claimed");
    }
    let cdb = [0x28, 0x18, 0, 0, 0, 0, 0, 0, 1, 0];
    let reply = session
        .run(&Task::read(&cdb, bench.facts.block_bytes))
        .await?;
    reply.good("READ (10) with DPO and FUA, where DPOFUA is one")?;
    Ok(())
}

/// MODE SENSE for all pages; a unit may know one of its forms alone, or none.
async fn ask_all(session: &mut Session, form: Form, flags: u8) -> Result<Bytes, Finding> {
    let reply = try_ask(session, form, flags, CURRENT, ALL).await?;
    if reply.is_unknown_opcode() {
        skip!("{} is not supported", form.name());
    }
    Ok(reply.good(form.name())?.data)
}

/// MODE SENSE that has to succeed.
async fn ask(session: &mut Session, form: Form, control: u8, page: u8) -> Result<Bytes, Finding> {
    let reply = try_ask(session, form, DBD, control, page).await?;
    Ok(reply.good(form.name())?.data)
}

/// MODE SENSE, all that a form can bring; a unit need not have what is asked for.
async fn try_ask(
    session: &mut Session,
    form: Form,
    flags: u8,
    control: u8,
    page: u8,
) -> Result<Reply, Finding> {
    let task = form.sense(flags, control, page, 0, most(form));
    session.run(&task).await
}

/// The form that the unit knows, the longer one rather.
async fn form(session: &mut Session) -> Result<Form, Finding> {
    let task = Form::Ten.sense(DBD, CURRENT, ALL, 0, 8);
    if !session.run(&task).await?.is_unknown_opcode() {
        return Ok(Form::Ten);
    }
    let task = Form::Six.sense(DBD, CURRENT, ALL, 0, 8);
    if session.run(&task).await?.is_unknown_opcode() {
        skip!("MODE SENSE is not supported");
    }
    Ok(Form::Six)
}

/// All pages with current values.
async fn all_pages(session: &mut Session, form: Form) -> Result<Vec<Vec<u8>>, Finding> {
    let data = ask_all(session, form, DBD).await?;
    Ok(form.take_apart(&data)?.pages)
}

/// What a form's allocation length can say, up to more than any unit has.
fn most(form: Form) -> u16 {
    match form {
        Form::Six => 255,
        Form::Ten => 4096,
    }
}

/// No block descriptors.
const DBD: u8 = 0x08;
/// The sense key of write protection.
const DATA_PROTECT: u8 = 7;
