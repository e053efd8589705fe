//! `vmthunder iscsi copy`: a volume copied into another, so that it can be interrupted at any time.

mod carry;
mod journal;
mod pieces;
mod prepare;
mod side;
mod verify;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use indicatif::ProgressBar;
use serde_json::json;
use vmthunder_volume::Span;

use crate::args::CopyArgs;
use crate::image::bar;
use crate::iscsi::copy::carry::{Carried, Mark};
use crate::iscsi::copy::journal::Journal;
use crate::iscsi::copy::prepare::{Prepared, prepare};
use crate::iscsi::copy::side::Side;
use crate::iscsi::copy::verify::differing;
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::transfer::{places, show_differing};
use crate::observe::line;
use crate::serve::end;
use crate::status::{print_json, size};

/// How often is noted what was copied.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);

/// How often is said how far it is where there is no bar.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// How often in a row the destination may lose what it acknowledged before anything was made safe.
const MOST_LOSSES: u32 = 10;

/// How long what was copied may take to be made safe when the copy is interrupted.
const LAST_NOTE: Duration = Duration::from_secs(30);

/// A copy under way.
struct Copy {
    source: Side,
    destination: Side,
    /// The bytes that are copied: all of the source.
    bytes: u64,
    /// Zeros need not be written: the destination reads as zeros where nothing was copied to yet.
    starts_empty: bool,
    depth: usize,
    journal: Option<Journal>,
    mark: Mutex<Mark>,
    /// How much of that is safe: it was flushed.
    safe: AtomicU64,
    bar: ProgressBar,
}

/// What became of a copy.
struct Ended {
    resumed_at: u64,
    carried: Carried,
    /// How often the destination lost what it had acknowledged, and was written again.
    cache_losses: u32,
    took: Duration,
    /// Where the two differ, if they were compared.
    differing: Option<Vec<Span>>,
}

/// Copies; false if the copy was compared and differs.
pub(super) async fn run(args: &CopyArgs) -> Result<bool> {
    let Prepared {
        source,
        destination,
        starts_empty,
        journal,
        done,
    } = tokio::select! {
        prepared = prepare(args) => prepared?,
        ended = end(false) => {
            ended.context("cannot wait for signals")?;
            return Err(Told::new(Kind::Interrupted, "interrupted before anything was copied").into());
        }
    };
    let bytes = source.geometry().bytes();
    let copy = Copy {
        bytes,
        starts_empty,
        depth: args.depth.get().into(),
        journal,
        mark: Mutex::new(Mark::at(done)),
        safe: AtomicU64::new(done),
        bar: bar(bytes),
        source,
        destination,
    };
    let ended = copy.run(args, done).await;
    copy.bar.finish_and_clear();
    copy.source.close().await;
    copy.destination.close().await;
    let ended = ended?;
    let same = ended.differing.as_ref().is_none_or(Vec::is_empty);
    show(&copy, &ended, args)?;
    Ok(same)
}

impl Copy {
    async fn run(&self, args: &CopyArgs, resumed_at: u64) -> Result<Ended> {
        let begun = Instant::now();
        let copied = tokio::select! {
            copied = self.copy_and_compare(args.verify) => copied,
            ended = end(false) => ended
                .context("cannot wait for signals")
                .and(Err(Told::new(Kind::Interrupted, "interrupted").into())),
            never = self.tell_progress(args.unit.common.json) => match never {},
        };
        let copied = copied.and_then(|copied| self.check_size().map(|()| copied));
        match copied {
            Ok((carried, cache_losses, differing)) => {
                if let Some(journal) = &self.journal {
                    journal.remove()?;
                }
                Ok(Ended {
                    resumed_at,
                    carried,
                    cache_losses,
                    took: begun.elapsed(),
                    differing,
                })
            }
            Err(error) => {
                self.bar.abandon();
                let done = self.last_note().await;
                eprintln!("note: {}", self.how_to_go_on(args, done));
                Err(self.check_size().err().unwrap_or(error))
            }
        }
    }

    /// A source of another size is another source, and a copy of a part of it no copy.
    fn check_size(&self) -> Result<()> {
        let (was, is) = (self.bytes, self.source.geometry().bytes());
        if was == is {
            return Ok(());
        }
        let text = format!(
            "{} was resized from {was} bytes to {is} while it was copied: the copy is not all of it",
            self.source.shown()
        );
        Err(Told::new(Kind::Changed, text).into())
    }

    async fn copy_and_compare(&self, verify: bool) -> Result<(Carried, u32, Option<Vec<Span>>)> {
        let (carried, losses) = self.carry_safely().await?;
        if !verify {
            return Ok((carried, losses, None));
        }
        self.bar.set_position(0);
        let differing = differing(self).await?;
        Ok((carried, losses, Some(differing)))
    }

    /// Copies, and flushes what was copied. A destination that lost what it had acknowledged is written again from
    /// where it was flushed last.
    async fn carry_safely(&self) -> Result<(Carried, u32)> {
        let mut carried = Carried::default();
        let (mut losses, mut in_a_row, mut safe) = (0, 0, self.safe());
        loop {
            let done = tokio::select! {
                done = self.carry_all(&mut carried) => done,
                failed = self.keep_notes() => Err(failed),
            };
            // So that a copy that is interrupted while it is compared need not be made again.
            let noted = match done {
                Ok(()) => self.note().await.map(drop),
                Err(error) => Err(error),
            };
            match noted {
                Err(error) if Kind::of(&error) == Kind::CacheLost && in_a_row < MOST_LOSSES => {
                    losses += 1;
                    in_a_row = if self.safe() > safe { 0 } else { in_a_row + 1 };
                    safe = self.safe();
                    *self.mark() = Mark::at(safe);
                    eprintln!(
                        "note: {} was reset or switched on, and may have lost what it had not flushed: written again from {} on",
                        self.destination.shown(),
                        size(safe)
                    );
                }
                noted => return noted.map(|()| (carried, losses)),
            }
        }
    }

    /// Notes now and then what was copied; ends when that fails.
    async fn keep_notes(&self) -> Error {
        let mut noted = self.done();
        loop {
            tokio::time::sleep(NOTE_INTERVAL).await;
            if self.done() == noted {
                continue;
            }
            match self.note().await {
                Ok(done) => noted = done,
                Err(error) => return error,
            }
        }
    }

    /// Makes safe what was copied, and only then notes it.
    async fn note(&self) -> Result<u64> {
        let done = self.done();
        self.destination
            .flush()
            .await
            .context("cannot flush what was copied")?;
        self.safe.fetch_max(done, Ordering::Relaxed);
        if let Some(journal) = &self.journal {
            journal.note(done).await?;
        }
        Ok(done)
    }

    /// The last note of a copy that does not come to its end; how far it is known to be.
    async fn last_note(&self) -> Option<u64> {
        let noted = tokio::time::timeout(LAST_NOTE, self.note()).await;
        noted.ok()?.ok()
    }

    /// Says now and then how far it is, where nobody sees the bar.
    async fn tell_progress(&self, is_quiet: bool) -> Infallible {
        if is_quiet || std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(TELL_INTERVAL).await;
            let (at, bytes) = (self.bar.position(), self.bytes);
            eprintln!("{} of {}", size(at), size(bytes));
        }
    }

    fn done(&self) -> u64 {
        self.mark().done()
    }

    fn safe(&self) -> u64 {
        self.safe.load(Ordering::Relaxed)
    }

    fn mark(&self) -> MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn how_to_go_on(&self, args: &CopyArgs, done: Option<u64>) -> String {
        let far = match done {
            Some(done) => format!("{} of {} are copied", size(done), size(self.bytes)),
            None => "what was copied since the last note is not safe".to_owned(),
        };
        match &self.journal {
            _ if self.check_size().is_err() => format!(
                "the copy cannot go on, since the source has another size: remove {}, and copy again{}",
                match &self.journal {
                    Some(journal) => quoted(journal.path()),
                    None => "nothing".to_owned(),
                },
                match self.destination.path() {
                    Some(_) => " with --force",
                    None => "",
                }
            ),
            None => {
                format!("the copy is not complete: {far}; without --journal FILE it begins anew")
            }
            Some(journal) => format!(
                "the copy is not complete: {far}; go on with\n  vmthunder iscsi copy {} {} --resume{}",
                self.source.shown(),
                self.destination.shown(),
                match &args.journal {
                    Some(_) => format!(" --journal {}", quoted(journal.path())),
                    None => String::new(),
                }
            ),
        }
    }
}

/// A path as it is typed.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    shlex::try_quote(&text).map_or_else(|_| text.clone(), Into::into)
}

fn show(copy: &Copy, ended: &Ended, args: &CopyArgs) -> Result<()> {
    let seconds = ended.took.as_secs_f64();
    let copied = copy.bytes - ended.resumed_at;
    let differing = ended.differing.as_deref();
    if args.unit.common.json {
        return print_json(&json!({
            "source": copy.source.shown(), "destination": copy.destination.shown(),
            "bytes": copy.bytes, "resumed_at": ended.resumed_at,
            "stored_bytes": ended.carried.stored, "zero_bytes": ended.carried.zeros,
            "cache_losses": ended.cache_losses,
            "seconds": seconds, "verified": differing.map(<[Span]>::is_empty),
            "differing": places(differing.unwrap_or_default()),
        }));
    }
    let from = match ended.resumed_at {
        0 => String::new(),
        at => format!(", {} were there already", size(at)),
    };
    line(format_args!(
        "copied {}: {} of content, {} of zeros{from}; {seconds:.1} s",
        size(copied),
        size(ended.carried.stored),
        size(ended.carried.zeros),
    ))?;
    match differing {
        None => Ok(()),
        Some([]) => line("compared: every byte is the same"),
        Some(differing) => {
            show_differing(differing)?;
            eprintln!(
                "error: the copy is not what the source holds; was the source written meanwhile?"
            );
            Ok(())
        }
    }
}
