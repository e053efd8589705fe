//! Crash runs of the overlay: every sector reads as something that it held, and as the last of it where that was
//! promised.

use std::sync::Arc;

use bytes::Bytes;
use vmthunder_volume::{BlockSize, Result as Answer, Span};

use super::files::Files;
use super::format::Header;
use super::masks::Source;
use super::state::State;
use crate::ImageKey;
use crate::crash::{Cut, Verdict, cut_at, leave};
use crate::disk::{BootId, Disk};
use crate::testing::{Arrival, CrashDisk, Dice, Event, Image, Machine};

/// An odd number of units, and an end of the base inside a unit.
const BASE: u64 = 45;
const SECTORS: u64 = 80;
const STEPS: u64 = 60;
/// What a sector of the base holds.
const BELOW: u16 = 1000;
/// What is written to see that the overlay still works.
const LATER: u16 = 999;

/// The overlay, and what each of its sectors may hold: first what was there at the last flush, then what came since,
/// the last acknowledged at the end.
struct Run {
    machine: Arc<Machine>,
    disks: Vec<Arc<CrashDisk>>,
    images: Vec<Image>,
    boot: u8,
    dice: Dice,
    may_hold: Vec<Vec<u16>>,
    next_tag: u16,
    /// Something failed, and a flush comes next.
    again: bool,
    verdict: Verdict,
}

/// Something asked of the overlay.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Write(Span, u16),
    Trim(Span),
    /// And a write that comes while the flush is under way, and is not covered by it.
    Flush(Option<(Span, u16)>),
}

/// What is wrong with the machine for the time of one ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Full(u64),
    BadWrites(u64, bool),
    BadSyncs,
}

/// One run from a seed.
pub(crate) fn run(seed: u64) -> Verdict {
    let mut run = Run::new(seed);
    let outcome = run.go();
    run.verdict.violation = outcome.err().map(|what| format!("overlay: {what}"));
    run.verdict
}

impl Run {
    fn new(seed: u64) -> Self {
        let machine = Machine::new();
        let disks = (0..3).map(|number| CrashDisk::holding(&machine, number, Image::default()));
        let disks: Vec<_> = disks.collect();
        files(&disks).lay_out(&header()).unwrap();
        let held = (0..SECTORS).map(|sector| vec![if sector < BASE { BELOW } else { 0 }]);
        Self {
            machine,
            images: disks.iter().map(|disk| disk.image()).collect(),
            disks,
            boot: 1,
            dice: Dice(seed),
            may_hold: held.collect(),
            next_tag: 1,
            again: false,
            verdict: Verdict::default(),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        let mut state = self.open(false)?;
        for step in 0..STEPS {
            let at = |what| format!("step {step}: {what}");
            match self.dice.below(30) {
                0 => {
                    drop(state);
                    self.disks = leave(&self.images, Cut::Kill);
                    state = self.reopen(false).map_err(at)?;
                }
                1 => {
                    drop(state);
                    let arrival = Arrival::Sectors(self.dice.roll());
                    self.disks = leave(&self.images, Cut::PowerLoss(arrival));
                    self.boot += 1;
                    state = self.reopen(true).map_err(at)?;
                }
                rolled => {
                    let trouble = match rolled {
                        2 => Trouble::Full(self.dice.below(3)),
                        3 => Trouble::BadWrites(self.dice.below(3), self.dice.below(2) == 0),
                        4 => Trouble::BadSyncs,
                        _ => Trouble::None,
                    };
                    let ask = self.next_ask(trouble);
                    let said = format!("{ask:?} with {trouble:?}");
                    self.ask(&state, ask, trouble)
                        .map_err(|what| at(format!("{said}: {what}")))?;
                    if state.check_fence().is_err() {
                        drop(state);
                        state = self
                            .open(true)
                            .map_err(|what| at(format!("{said}: {what}")))?;
                        self.observe(&state, |_, held| held).map_err(at)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next_ask(&mut self, trouble: Trouble) -> Ask {
        if std::mem::take(&mut self.again) {
            return Ask::Flush(None);
        }
        let rolled = self.dice.below(10);
        if trouble == Trouble::BadSyncs || rolled < 2 {
            let nested = (self.dice.below(2) == 1).then(|| self.new_write());
            return Ask::Flush(nested.filter(|_| trouble == Trouble::None));
        }
        let (span, tag) = self.new_write();
        if rolled < 5 {
            Ask::Trim(span)
        } else {
            Ask::Write(span, tag)
        }
    }

    fn new_write(&mut self) -> (Span, u16) {
        let from = self.dice.below(SECTORS);
        let length = 1 + self.dice.below((SECTORS - from).min(24));
        self.next_tag += 1;
        (Span::new(from * 512, length * 512), self.next_tag)
    }

    /// Goes on with the disks that a crash left.
    fn reopen(&mut self, power_loss: bool) -> Result<Arc<State>, String> {
        self.machine = Machine::new();
        self.images = self.disks.iter().map(|disk| disk.image()).collect();
        let images = self.images.iter().cloned().enumerate();
        let disks = images.map(|(number, image)| CrashDisk::holding(&self.machine, number, image));
        self.disks = disks.collect();
        let state = self.open(power_loss)?;
        self.observe(
            &state,
            |_, held| if power_loss { held } else { last(held, 1) },
        )?;
        if power_loss {
            self.may_hold
                .iter_mut()
                .for_each(|held| drop(held.drain(..held.len() - 1)));
        }
        Ok(state)
    }

    /// Opens the overlay, cut everywhere. `loose`: what was not flushed may be lost.
    fn open(&mut self, loose: bool) -> Result<Arc<State>, String> {
        self.machine.start_journal();
        let opened = State::open(files(&self.disks), BootId([self.boot; 16]));
        self.check_cuts(&[], loose)?;
        opened
            .map(|(state, _)| Arc::new(state))
            .map_err(|error| error.to_string())
    }

    fn ask(&mut self, state: &Arc<State>, ask: Ask, trouble: Trouble) -> Result<(), String> {
        let change = match ask {
            Ask::Write(span, tag) | Ask::Flush(Some((span, tag))) => Some((span, tag)),
            Ask::Trim(span) => Some((span, 0)),
            Ask::Flush(None) => None,
        };
        let touched: Vec<usize> = change.iter().flat_map(|(span, _)| sectors(*span)).collect();
        if let Some((_, tag)) = change {
            touched
                .iter()
                .for_each(|sector| self.may_hold[*sector].push(tag));
        }
        match trouble {
            Trouble::None => {}
            Trouble::Full(pages) => self.machine.leave_pages(Some(pages)),
            Trouble::BadWrites(writes, half) => {
                self.machine.leave_writes(Some(writes), half);
            }
            Trouble::BadSyncs => self.machine.fail_syncs(true),
        }
        self.machine.start_journal();
        let done = perform(&self.machine, state, ask);
        self.machine.leave_pages(None);
        self.machine.leave_writes(None, false);
        self.machine.fail_syncs(false);
        self.check_cuts(&touched, false)?;
        match done {
            Ok(()) if matches!(ask, Ask::Flush(_)) => {
                for (sector, held) in self.may_hold.iter_mut().enumerate() {
                    let kept = 1 + usize::from(touched.contains(&sector));
                    held.drain(..held.len() - kept);
                }
            }
            Ok(()) => {}
            Err(error) if trouble == Trouble::None => return Err(format!("unexpected: {error}")),
            Err(_) if state.check_fence().is_err() => {}
            Err(_) => {
                self.again = self.dice.below(2) == 0;
                self.observe(state, |sector, held| {
                    last(held, 1 + usize::from(touched.contains(&sector)))
                })?;
            }
        }
        Ok(())
    }

    fn check_cuts(&mut self, touched: &[usize], loose: bool) -> Result<(), String> {
        let journal = self.machine.take_journal();
        let mut failed = loose;
        let Self {
            images,
            dice,
            may_hold,
            verdict,
            boot,
            ..
        } = self;
        for (at, entry) in journal.iter().enumerate() {
            // A program that dies between a failed sync and the fence has told nobody that its writes are lost.
            let unfenced = at > 0 && matches!(journal[at - 1].1, Event::FailedSync);
            failed |= unfenced;
            if unfenced {
                images[entry.0].apply(&entry.1);
                continue;
            }
            let check = |cut, disks| {
                let (boot, loose) = match cut {
                    Cut::Kill => (*boot, failed),
                    Cut::PowerLoss(_) => (*boot + 1, true),
                };
                check(disks, boot, |sector| {
                    let held = &may_hold[sector];
                    if loose {
                        held
                    } else {
                        last(held, 1 + usize::from(touched.contains(&sector)))
                    }
                })
            };
            cut_at(images, entry, dice, verdict, check)
                .map_err(|what| format!("event {at} of {}: {what}", journal.len()))?;
        }
        Ok(())
    }

    /// Reads everything, and takes what it reads as what is there.
    fn observe(
        &mut self,
        state: &State,
        allowed: impl Fn(usize, &[u16]) -> &[u16],
    ) -> Result<(), String> {
        for (sector, tag) in read(state, &self.disks)?.into_iter().enumerate() {
            let held = &mut self.may_hold[sector];
            if !allowed(sector, held).contains(&tag) {
                return Err(format!("sector {sector} holds {tag}, not of {held:?}"));
            }
            if held.last() != Some(&tag) {
                held.push(tag);
            }
        }
        Ok(())
    }
}

/// What opens after a crash, and whether it goes on to keep what it is given and what it shows.
fn check<'a>(
    disks: Vec<Arc<CrashDisk>>,
    boot: u8,
    allowed: impl Fn(usize) -> &'a [u16],
) -> Result<(), String> {
    let open = |disks: &[_], boot| {
        let opened = State::open(files(disks), BootId([boot; 16]));
        opened
            .map(|(state, _)| Arc::new(state))
            .map_err(|error| error.to_string())
    };
    let state = open(&disks, boot)?;
    let mut tags = read(&state, &disks)?;
    for (sector, tag) in tags.iter().enumerate() {
        if !allowed(sector).contains(tag) {
            return Err(format!(
                "sector {sector} holds {tag}, not of {:?}",
                allowed(sector)
            ));
        }
    }
    let machine = Machine::new();
    let later = Span::new(3 * 512, 9 * 512);
    for ask in [Ask::Write(later, LATER), Ask::Flush(None)] {
        perform(&machine, &state, ask).map_err(|error| format!("afterwards {ask:?}: {error}"))?;
    }
    sectors(later).for_each(|sector| tags[sector] = LATER);
    let images: Vec<Image> = disks.iter().map(|disk| disk.image()).collect();
    let disks = leave(&images, Cut::PowerLoss(Arrival::Nothing));
    let found = read(&*open(&disks, boot + 1)?, &disks)?;
    match (0..)
        .zip(tags.iter().zip(&found))
        .find(|(_, (tag, found))| tag != found)
    {
        None => Ok(()),
        Some((sector, (tag, found))) => Err(format!(
            "sector {sector} held {tag}, was flushed, and holds {found}"
        )),
    }
}

/// As the overlay does it: in place, unless that needs waiting, which here is so for every other tag.
fn perform(machine: &Machine, state: &Arc<State>, ask: Ask) -> Answer<()> {
    let write = |state: &State, span: Span, tag: u16| {
        let bytes: Bytes = tag.to_le_bytes().repeat(sectors(span).len() * 256).into();
        if tag.is_multiple_of(2) && state.write_now(span.offset(), &bytes) {
            return Ok(());
        }
        state.write_wait(span.offset(), &bytes)
    };
    match ask {
        Ask::Write(span, tag) => write(state, span, tag),
        Ask::Trim(span) => state.trim(span),
        Ask::Flush(meanwhile) => {
            let wanted = state.changes();
            let mut flushed = state.flushed().try_lock_owned().unwrap();
            if let Some((span, tag)) = meanwhile {
                let state = Arc::clone(state);
                machine.during_sync(move || write(&state, span, tag).unwrap());
            }
            state.flush(&mut flushed, wanted)?;
            // A flush that had nothing to sync leaves the write for now.
            machine.meanwhile();
            Ok(())
        }
    }
}

/// The tag of each sector, which is garbage if it is not the same from end to end.
fn read(state: &State, disks: &[Arc<CrashDisk>]) -> Result<Vec<u16>, String> {
    let mut tags = Vec::new();
    for (source, run) in state.runs(Span::new(0, SECTORS * 512)) {
        for sector in sectors(run) {
            tags.push(match source {
                Source::Base => BELOW,
                Source::Zero => 0,
                Source::Own => {
                    let mut bytes = [0; 512];
                    disks[0]
                        .read_at(sector as u64 * 512, &mut bytes)
                        .map_err(|error| error.to_string())?;
                    let tag = [bytes[0], bytes[1]];
                    if bytes[..] != tag.repeat(256) {
                        return Err(format!("sector {sector} is garbage"));
                    }
                    u16::from_le_bytes(tag)
                }
            });
        }
    }
    Ok(tags)
}

fn sectors(span: Span) -> std::ops::Range<usize> {
    let sector = |offset: u64| usize::try_from(offset / 512).unwrap();
    sector(span.offset())..sector(span.end())
}

fn last(held: &[u16], count: usize) -> &[u16] {
    &held[held.len().saturating_sub(count)..]
}

fn files(disks: &[Arc<CrashDisk>]) -> Files {
    let disk = |number: usize| Arc::clone(&disks[number]) as Arc<dyn Disk>;
    Files {
        data: disk(0),
        map: disk(1),
        recent: disk(2),
    }
}

fn header() -> Header {
    Header {
        block_size: BlockSize::B512,
        bytes: SECTORS * 512,
        base: ImageKey([9; 32]),
        base_bytes: BASE * 512,
    }
}
