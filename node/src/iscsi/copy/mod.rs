//! `vmthunder iscsi copy`: a volume copied into another, so that it can be interrupted at any time.

mod carry;
mod journal;
mod pieces;
mod prepare;
mod side;
mod verify;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::json;
use vmthunder_volume::{Span, Volume};

use crate::args::CopyArgs;
use crate::image::bar;
use crate::iscsi::copy::carry::{Carried, Mark};
use crate::iscsi::copy::journal::Journal;
use crate::iscsi::copy::prepare::{Prepared, prepare};
use crate::iscsi::copy::side::Side;
use crate::iscsi::copy::verify::differing;
use crate::iscsi::transfer::{places, show_differing};
use crate::observe::line;
use crate::serve::end;
use crate::status::{print_json, size};

/// How often is noted what was copied.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);

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
    bar: ProgressBar,
}

/// What became of a copy.
struct Ended {
    resumed_at: u64,
    carried: Carried,
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
            bail!("interrupted before anything was copied");
        }
    };
    let bytes = source.geometry().bytes();
    let copy = Copy {
        bytes,
        starts_empty,
        depth: args.depth.get().into(),
        journal,
        mark: Mutex::new(Mark::at(done)),
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
                .and_then(|()| bail!("interrupted")),
        };
        match copied {
            Ok((carried, differing)) => {
                if let Some(journal) = &self.journal {
                    journal.remove()?;
                }
                Ok(Ended {
                    resumed_at,
                    carried,
                    took: begun.elapsed(),
                    differing,
                })
            }
            Err(error) => {
                self.bar.abandon();
                let done = self.last_note().await;
                eprintln!("note: {}", self.how_to_go_on(args, done));
                Err(error)
            }
        }
    }

    async fn copy_and_compare(&self, verify: bool) -> Result<(Carried, Option<Vec<Span>>)> {
        let carried = tokio::select! {
            carried = self.carry_all() => carried?,
            failed = self.keep_notes() => return Err(failed),
        };
        // So that a copy that is interrupted while it is compared need not be made again.
        self.note().await?;
        if !verify {
            return Ok((carried, None));
        }
        self.bar.set_position(0);
        let differing = differing(self).await?;
        Ok((carried, Some(differing)))
    }

    /// Notes now and then what was copied; ends when that fails.
    async fn keep_notes(&self) -> anyhow::Error {
        let mut noted = self.done();
        loop {
            tokio::time::sleep(NOTE_INTERVAL).await;
            if self.journal.is_none() || self.done() == noted {
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

    fn done(&self) -> u64 {
        self.mark
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .done()
    }

    fn how_to_go_on(&self, args: &CopyArgs, done: Option<u64>) -> String {
        let far = match done {
            Some(done) => format!("{} of {} are copied", size(done), size(self.bytes)),
            None => "what was copied since the last note is not safe".to_owned(),
        };
        match &self.journal {
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
