//! `vmthunder iscsi read` and `write`.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use iscsi_initiator::Remote;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use vmthunder_volume::{Error as VolumeError, Span, Volume};

use crate::args::{ReadArgs, WriteArgs};
use crate::image::bar;
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::reach::{Place, with_unit};
use crate::observe::{NO_OUTPUT, line};
use crate::serve::end;
use crate::status::{print_json, size};

/// Bytes of one read or write.
const CHUNK: u64 = 1024 * 1024;

/// Reads or writes that are under way at once.
const AT_ONCE: usize = 8;

/// The most places that are named where something differs.
const MOST_NAMED: usize = 10;

/// Reads blocks.
pub(super) async fn read(args: &ReadArgs) -> Result<bool> {
    if let Some(path) = &args.output {
        let exists = path.try_exists();
        let exists = exists.with_context(|| format!("cannot look at {}", path.display()))?;
        ensure!(
            args.force || !exists,
            "{} is there already; --force overwrites it",
            path.display()
        );
    }
    ensure!(
        args.output.is_some() || !args.common.json,
        "--json: what is read goes to standard output; it needs --output FILE"
    );
    let span = with_unit(
        Place::of(&args.url, &args.common)?.through(&args.paths)?,
        async |unit| {
            let remote = unit.attach().await?;
            let span = args.range.span(remote.geometry())?;
            match &args.output {
                Some(path) => read_to_file(&remote, span, path, args.force).await?,
                None => {
                    // A bar would run into what is read.
                    let bar = match std::io::stdout().is_terminal() {
                        true => ProgressBar::hidden(),
                        false => bar(span.length()),
                    };
                    pour_out(&remote, span, &mut std::io::stdout(), NO_OUTPUT, &bar).await?;
                }
            }
            Ok(span)
        },
    )
    .await?;
    if args.common.json {
        print_json(&json!({"offset": span.offset(), "bytes": span.length()}))?;
    }
    Ok(true)
}

/// Reads into a file: it is there whole, or not at all.
async fn read_to_file(remote: &Remote, span: Span, path: &Path, force: bool) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut begun: NamedTempFile = tempfile::Builder::new()
        // What the umask leaves of that.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    let broken = "cannot write the file";
    let bar = bar(span.length());
    tokio::select! {
        poured = pour_out(remote, span, &mut begun, broken, &bar) => poured?,
        // Whoever begins a file takes it away.
        ended = end(false) => {
            ended.context("cannot wait for signals")?;
            return Err(Told::new(Kind::Interrupted, "interrupted: nothing is kept").into());
        }
    }
    let kept = match force {
        true => begun.persist(path),
        false => begun.persist_noclobber(path),
    };
    let file = kept.with_context(|| format!("cannot create {}", path.display()))?;
    file.sync_all()
        .with_context(|| format!("cannot flush {}", path.display()))
}

async fn pour_out(
    remote: &Remote,
    span: Span,
    out: &mut impl Write,
    broken: &'static str,
    bar: &ProgressBar,
) -> Result<()> {
    let mut parts = futures::stream::iter(chunks(span))
        .map(|part| remote.read_at(part.offset(), part.length()))
        .buffered(AT_ONCE);
    while let Some(bytes) = parts.try_next().await.context("cannot read")? {
        out.write_all(&bytes).context(broken)?;
        bar.inc(bytes.len() as u64);
    }
    bar.finish_and_clear();
    out.flush().context(broken)
}

/// Writes blocks.
pub(super) async fn write(args: &WriteArgs) -> Result<bool> {
    let (span, differing) = with_unit(
        Place::of(&args.url, &args.unit.common)?.through(&args.unit.paths)?,
        async |unit| {
            let remote = unit.attach().await?;
            let geometry = remote.geometry();
            let start = args.range.start(geometry)?;
            let rest = geometry.bytes() - start;
            let limit = args.range.length(geometry)?;
            let most = limit.unwrap_or(rest);
            ensure!(
                most <= rest,
                "{most} bytes from byte {start} on: the unit ends before, at {}",
                geometry.bytes()
            );
            if remote.is_read_only() {
                return Err(VolumeError::ReadOnly).context("the unit is write-protected");
            }
            let input = Input::open(args.input.as_deref(), limit.is_some())?;
            input.check(most, &remote)?;
            let written = pour_in(&remote, input, start, most).await?;
            remote.synchronize().await.context("cannot flush")?;
            let span = Span::new(start, written.iter().map(|(part, _)| part.length()).sum());
            let differing = match args.verify {
                true => Some(compare(&remote, written).await?),
                false => None,
            };
            Ok((span, differing))
        },
    )
    .await?;
    let same = differing.as_ref().is_none_or(Vec::is_empty);
    if args.unit.common.json {
        print_json(&json!({
            "offset": span.offset(), "bytes": span.length(),
            "verified": differing.as_ref().map(Vec::is_empty),
            "differing": places(differing.as_deref().unwrap_or_default()),
        }))?;
        return Ok(same);
    }
    show_differing(differing.as_deref().unwrap_or_default())?;
    Ok(same)
}

/// What differs, as JSON.
pub(super) fn places(differing: &[Span]) -> Value {
    let places = differing
        .iter()
        .map(|span| json!({"offset": span.offset(), "bytes": span.length()}));
    Value::Array(places.collect())
}

/// What differs, for people.
pub(super) fn show_differing(differing: &[Span]) -> Result<()> {
    for span in differing.iter().take(MOST_NAMED) {
        line(format_args!(
            "differs: bytes {} to {}",
            span.offset(),
            span.end()
        ))?;
    }
    match differing.len() {
        0..=MOST_NAMED => Ok(()),
        more => line(format_args!("and {} more places", more - MOST_NAMED)),
    }
}

/// Where what is written comes from.
struct Input {
    from: Box<dyn Read + Send>,
    name: PathBuf,
    /// How much there is, if that is known.
    bytes: Option<u64>,
    /// Somebody said how much is to be taken: what comes behind that is left alone.
    is_limited: bool,
}

impl Input {
    fn open(path: Option<&Path>, is_limited: bool) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                from: Box::new(std::io::stdin()),
                name: "standard input".into(),
                bytes: None,
                is_limited,
            });
        };
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let about = file
            .metadata()
            .with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Self {
            from: Box::new(file),
            name: path.to_owned(),
            bytes: about.is_file().then_some(about.len()),
            is_limited,
        })
    }

    /// Finds out before anything is written that the input does not fit, as far as that is known.
    fn check(&self, most: u64, remote: &Remote) -> Result<()> {
        let name = self.name.display();
        let Some(bytes) = self.bytes.filter(|bytes| !self.is_limited || *bytes < most) else {
            return Ok(());
        };
        let block = remote.geometry().block_size().bytes();
        ensure!(
            bytes.is_multiple_of(block.into()),
            "{name} has {bytes} bytes, not a whole number of blocks of {block} bytes"
        );
        ensure!(
            bytes <= most,
            "{name} has {}, and the unit has room for {}",
            size(bytes),
            size(most)
        );
        Ok(())
    }

    /// The next part, up to so many bytes; empty at the end.
    async fn take(mut self, most: u64) -> Result<(Self, Bytes)> {
        // Standard input may wait for ever, and must not hold up the session.
        let taken = tokio::task::spawn_blocking(move || {
            let mut part = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
            let read = self.from.by_ref().take(most).read_to_end(&mut part);
            read.map(|_| (self, Bytes::from(part)))
        });
        taken.await?.context("cannot read what is to be written")
    }
}

/// Writes an input from `start` on, at most so many bytes; what was written, part by part, with its hash.
async fn pour_in(
    remote: &Remote,
    input: Input,
    start: u64,
    most: u64,
) -> Result<Vec<(Span, blake3::Hash)>> {
    let bar = bar(input.bytes.unwrap_or(most).min(most));
    let parts = parts(input, start, most, remote.geometry().block_size().bytes());
    let write = |part: Result<(u64, Bytes)>| {
        let bar = &bar;
        async move {
            let (at, bytes) = part?;
            let span = Span::new(at, bytes.len() as u64);
            let hash = blake3::hash(&bytes);
            remote
                .write_at(at, bytes)
                .await
                .with_context(|| format!("cannot write at byte {at}"))?;
            bar.inc(span.length());
            anyhow::Ok((span, hash))
        }
    };
    let written = parts.map(write).buffered(AT_ONCE).try_collect().await;
    bar.finish_and_clear();
    written
}

/// The input cut into parts of whole blocks, each with its place on the unit.
fn parts(
    input: Input,
    start: u64,
    most: u64,
    block: u32,
) -> impl Stream<Item = Result<(u64, Bytes)>> {
    let end = start.saturating_add(most);
    futures::stream::try_unfold((input, start), move |(input, at)| async move {
        if at == end && input.is_limited {
            return Ok(None);
        }
        // At the end of the room one byte more shows whether there is more.
        let (input, part) = input.take(CHUNK.min(end - at).max(1)).await?;
        let name = input.name.display();
        if part.is_empty() {
            return Ok(None);
        }
        if at == end {
            bail!("{name} is longer than the room for it; the {most} bytes before were written");
        }
        let length = part.len() as u64;
        ensure!(
            length.is_multiple_of(block.into()),
            "{name} is not a whole number of blocks of {block} bytes; whole blocks before byte {} of it may be written",
            at - start + length
        );
        Ok(Some(((at, part), (input, at + length))))
    })
}

/// Reads back what was written; where it differs.
async fn compare(remote: &Remote, written: Vec<(Span, blake3::Hash)>) -> Result<Vec<Span>> {
    let bar = bar(written.iter().map(|(part, _)| part.length()).sum());
    let look = |(span, hash): (Span, blake3::Hash)| {
        let bar = &bar;
        async move {
            let bytes = remote.read_at(span.offset(), span.length()).await;
            let bytes = bytes.with_context(|| format!("cannot read back bytes {span}"))?;
            bar.inc(span.length());
            anyhow::Ok((blake3::hash(&bytes) != hash).then_some(span))
        }
    };
    let looked = futures::stream::iter(written).map(look).buffered(AT_ONCE);
    let differing = looked.try_filter_map(async |found| Ok(found));
    let differing = differing.try_collect().await;
    bar.finish_and_clear();
    differing
}

/// The parts of a span that are read at once.
fn chunks(span: Span) -> impl Iterator<Item = Span> {
    (span.offset()..span.end())
        .step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX))
        .map(move |at| Span::new(at, CHUNK.min(span.end() - at)))
}
