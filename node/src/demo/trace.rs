//! The reads of a recorded boot.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use vmthunder_volume::{Extent, Span};

/// A Debian 12 boot through BIOS and GRUB, recorded under QEMU.
const DEBIAN: &str = include_str!("../../../lab/traces/debian12-bios-1.csv");

/// The block size that traces count in.
pub(crate) const BLOCK: u64 = 512;

/// The largest trace that is read.
const MOST_REQUESTS: usize = 1_000_000;

/// The largest read or write of a trace, in blocks: 32 MiB, the limit of Linux' block layer for one request and more.
const MOST_BLOCKS: u64 = 65_536;

/// The reads of a boot, in the order in which they were asked, and its writes.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
}

/// One read of a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// When it was asked, in microseconds after the first.
    pub(crate) at_us: u64,
    /// What it asked for.
    pub(crate) span: Span,
}

/// One write of a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// When it was asked, in microseconds after the first read.
    pub(crate) at_us: u64,
    /// Where it wrote.
    pub(crate) span: Span,
    /// How many reads were asked before it.
    pub(crate) after: usize,
}

impl Trace {
    /// The trace in a file, or the one that comes with the program.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Self::parse("debian12-bios-1", DEBIAN);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.display().to_string();
        Self::parse(&name, &text).with_context(|| format!("{name} is no trace"))
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let mut lines = text.lines().enumerate();
        let head = lines.next().map(|(_, line)| line.trim());
        ensure!(
            head == Some("t_us,op,lba,blocks"),
            "line 1: expected the columns t_us,op,lba,blocks"
        );
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let request =
                parse_line(line).with_context(|| format!("line {}: `{line}`", number + 1))?;
            match request {
                Some((Op::Read, read)) => reads.push(read),
                Some((Op::Write, Read { at_us, span })) => writes.push(Write {
                    at_us,
                    span,
                    after: reads.len(),
                }),
                None => {}
            }
            ensure!(
                reads.len() + writes.len() <= MOST_REQUESTS,
                "more than {MOST_REQUESTS} reads and writes"
            );
        }
        ensure!(!reads.is_empty(), "no read in it");
        Ok(Self {
            name: name.to_owned(),
            reads,
            writes,
        })
    }

    /// The extents that the reads touch.
    pub(crate) fn extents(&self) -> BTreeSet<Extent> {
        self.reads
            .iter()
            .flat_map(|read| read.span.by_extent())
            .map(|(extent, _)| extent)
            .collect()
    }

    /// The first byte behind all reads.
    pub(crate) fn end(&self) -> u64 {
        self.reads
            .iter()
            .map(|read| read.span.end())
            .max()
            .unwrap_or(0)
    }
}

/// What a line asks for.
enum Op {
    Read,
    Write,
}

/// What a line asks for; nothing for an empty one.
fn parse_line(line: &str) -> Result<Option<(Op, Read)>> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = line.trim().split(',').collect();
    let [at, op, lba, blocks] = fields[..] else {
        anyhow::bail!("four columns are needed");
    };
    let op = match op {
        "R" => Op::Read,
        "W" => Op::Write,
        _ => anyhow::bail!("the operation is R or W"),
    };
    let (lba, blocks): (u64, u64) = (lba.parse()?, blocks.parse()?);
    ensure!(
        (1..=MOST_BLOCKS).contains(&blocks),
        "a request of 1 to {MOST_BLOCKS} blocks"
    );
    ensure!(
        lba <= (i64::MAX as u64) / BLOCK - MOST_BLOCKS,
        "a block beyond every disk"
    );
    let read = Read {
        at_us: at.parse()?,
        span: Span::new(lba * BLOCK, blocks * BLOCK),
    };
    Ok(Some((op, read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_boot_reads_what_its_description_says() {
        let trace = Trace::load(None).unwrap();
        assert_eq!(trace.reads.len(), 2811);
        assert_eq!(trace.extents().len(), 1214);
        assert_eq!(trace.writes.len(), 29);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (line, cause) in [
            ("0,R,1", "four columns"),
            ("0,R,x,1", "invalid digit"),
            ("0,read,0,1", "R or W"),
            ("0,R,0,0", "1 to"),
            ("0,R,99999999999999999,1", "beyond"),
        ] {
            let refusal = format!(
                "{:#}",
                Trace::parse("t", &format!("t_us,op,lba,blocks\n{line}\n")).unwrap_err()
            );
            assert!(
                refusal.contains("line 2") && refusal.contains(cause),
                "{refusal}"
            );
        }
        assert!(
            Trace::parse("t", "t_us,op,lba,blocks\n0,W,0,1\n").is_err(),
            "no read"
        );
    }
}
