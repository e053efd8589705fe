//! `vmthunder iscsi`: an initiator for scripts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iscsi_initiator::{Designator, Remote, Session, discover};
use iscsi_proto::wire::lun::Lun;
use serde_json::json;
use vmthunder_volume::{Allocation, Class, Span, Volume};

use crate::args::{IscsiCommand, LoginArgs};
use crate::image::bar;
use crate::login::{of_command, parse};
use crate::observe::line;
use crate::status::{print_json, size};

/// Bytes of one read or write of `read`, `write` and `copy`.
const CHUNK: u64 = 1024 * 1024;

/// Reads that `copy` and `read` keep in flight.
const IN_FLIGHT: usize = 4;

/// Carries out a subcommand.
pub(crate) async fn run(command: IscsiCommand) -> Result<()> {
    match command {
        IscsiCommand::Discover { url, common, login } => {
            list_targets(&url, common.json, &login).await
        }
        IscsiCommand::Inquiry { url, common, login } => {
            with_session(&url, &login, async |session, lun| {
                inquiry(session, lun, common.json).await
            })
            .await
        }
        IscsiCommand::Capacity { url, common, login } => {
            with_session(&url, &login, async |session, lun| {
                capacity(session, lun, common.json).await
            })
            .await
        }
        IscsiCommand::Read {
            url,
            lba,
            blocks,
            login,
        } => with_unit(&url, &login, async |unit| read(unit, lba, blocks).await).await,
        IscsiCommand::Write { url, lba, login } => {
            with_unit(&url, &login, async |unit| write(unit, lba).await).await
        }
        IscsiCommand::Copy { url, file, login } => {
            with_unit(&url, &login, async |unit| copy(unit, &file).await).await
        }
    }
}

/// What this program is called as an initiator for scripts.
const NAME: &str = "cli";

async fn list_targets(url: &str, json: bool, login: &LoginArgs) -> Result<()> {
    let url = parse(url)?;
    let records = discover(&url.address(), &of_command(&url, NAME, login)?)
        .await
        .with_context(|| format!("cannot discover {url}"))?;
    if json {
        let targets: Vec<_> = records
            .iter()
            .map(|record| {
                let addresses = record
                    .addresses
                    .iter()
                    .map(|(address, group)| json!({"address": address, "portal_group_tag": group}));
                json!({"name": record.name.as_str(), "addresses": addresses.collect::<Vec<_>>()})
            })
            .collect();
        return print_json(&targets);
    }
    for record in records {
        line(record.name)?;
        for (address, group) in record.addresses {
            line(format_args!("  {address},{group}"))?;
        }
    }
    Ok(())
}

async fn connect(url: &str, login: &LoginArgs) -> Result<(Session, Lun)> {
    let url = parse(url)?;
    ensure!(
        url.target().is_some(),
        "{url} lacks the target's name: iscsi://HOST[:PORT]/TARGET/LUN"
    );
    let session = Session::connect(&url, of_command(&url, NAME, login)?)
        .await
        .with_context(|| format!("cannot log in to {url}"))?;
    Ok((session, Lun::from_number(url.lun().unwrap_or(0))))
}

/// Logs in, does something, and logs out whatever became of it: the target need not find out that nobody is there.
async fn with_session(
    url: &str,
    login: &LoginArgs,
    job: impl AsyncFnOnce(&Session, Lun) -> Result<()>,
) -> Result<()> {
    let (session, lun) = connect(url, login).await?;
    let done = job(&session, lun).await;
    session.close().await;
    done
}

/// The same with the logical unit as a volume.
async fn with_unit(
    url: &str,
    login: &LoginArgs,
    job: impl AsyncFnOnce(&Remote) -> Result<()>,
) -> Result<()> {
    with_session(url, login, async |session, lun| {
        let remote = Remote::attach(session.clone(), lun)
            .await
            .with_context(|| format!("cannot use {url}"))?;
        job(&remote).await.context(url.to_owned())
    })
    .await
}

async fn inquiry(session: &Session, lun: Lun, json: bool) -> Result<()> {
    let answer = session.inquiry(lun).await?;
    let designators = session.designators(lun).await?;
    let names: Vec<String> = designators.into_iter().map(readable).collect();
    if json {
        return print_json(&json!({
            "device_type": answer.device_type, "vendor": answer.vendor, "product": answer.product,
            "revision": answer.revision, "designators": names,
        }));
    }
    line(format_args!(
        "device type {:#04x}{}",
        answer.device_type,
        device(answer.device_type)
    ))?;
    line(format_args!("vendor      {}", answer.vendor))?;
    line(format_args!("product     {}", answer.product))?;
    line(format_args!("revision    {}", answer.revision))?;
    for name in names {
        line(format_args!("designator  {name}"))?;
    }
    Ok(())
}

/// The peripheral device types that a target is likely to offer (SPC-4 table 138).
fn device(kind: u8) -> &'static str {
    match kind {
        0x00 => " (disk)",
        0x05 => " (CD or DVD)",
        0x0c => " (storage array controller, no disk)",
        _ => "",
    }
}

/// A designator as text: what is text stays so, the rest becomes hexadecimal digits.
fn readable(designator: Designator) -> String {
    match (designator.code_set, std::str::from_utf8(&designator.value)) {
        (2 | 3, Ok(text)) => text.trim_end_matches('\0').to_owned(),
        _ => designator
            .value
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

async fn capacity(session: &Session, lun: Lun, json: bool) -> Result<()> {
    let capacity = session.read_capacity(lun).await?;
    let bytes = capacity
        .blocks
        .saturating_mul(u64::from(capacity.block_bytes));
    if json {
        return print_json(
            &json!({"blocks": capacity.blocks, "block_bytes": capacity.block_bytes, "bytes": bytes}),
        );
    }
    line(format_args!(
        "{} blocks of {} bytes: {}",
        capacity.blocks,
        capacity.block_bytes,
        size(bytes)
    ))
}

/// The parts of a span that are read or written at once.
fn chunks(span: Span) -> impl Iterator<Item = Span> {
    (span.offset()..span.end())
        .step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX))
        .map(move |at| Span::new(at, CHUNK.min(span.end() - at)))
}

async fn read(remote: &Remote, lba: u64, blocks: u64) -> Result<()> {
    let span = remote
        .geometry()
        .span(lba, blocks)
        .with_context(|| format!("blocks {lba}+{blocks}"))?;
    let mut parts = futures::stream::iter(chunks(span))
        .map(|part| remote.read(part, Class::Demand))
        .buffered(IN_FLIGHT);
    let mut out = std::io::stdout().lock();
    while let Some(bytes) = parts.try_next().await? {
        out.write_all(&bytes)
            .context("cannot write to standard output")?;
    }
    Ok(out.flush()?)
}

async fn write(remote: &Remote, lba: u64) -> Result<()> {
    let block = u64::from(remote.geometry().block_size().bytes());
    let mut at = remote
        .geometry()
        .span(lba, 0)
        .with_context(|| format!("block {lba}"))?
        .offset();
    loop {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(CHUNK)
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len() as u64;
        ensure!(
            length.is_multiple_of(block),
            "standard input is not a whole number of blocks of {block} bytes"
        );
        remote
            .write(at, Bytes::from(bytes))
            .await
            .with_context(|| format!("cannot write at byte {at}"))?;
        at += length;
    }
    remote.flush().await.context("cannot flush")
}

async fn copy(remote: &Remote, path: &Path) -> Result<()> {
    let file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let whole = remote.geometry().whole();
    file.set_len(whole.length())
        .with_context(|| format!("{} cannot become that large", path.display()))?;
    let bar = bar(remote.geometry());
    let mut at = 0;
    while at < whole.end() {
        let rest = Span::new(at, whole.end() - at);
        let (allocation, run) = remote.allocation(rest).await?;
        ensure!(!run.is_empty(), "the unit says nothing about byte {at}");
        if allocation == Allocation::Mapped {
            copy_run(remote, &file, run, &bar).await?;
        }
        at = run.end();
        bar.set_position(at);
    }
    file.sync_all().context("cannot flush the file")?;
    bar.finish_and_clear();
    Ok(())
}

async fn copy_run(
    remote: &Remote,
    file: &File,
    run: Span,
    bar: &indicatif::ProgressBar,
) -> Result<()> {
    let mut parts = futures::stream::iter(chunks(run))
        .map(|part| async move {
            remote
                .read(part, Class::Demand)
                .await
                .map(|bytes| (part, bytes))
        })
        .buffered(IN_FLIGHT);
    while let Some((part, bytes)) = parts.try_next().await? {
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(&bytes, part.offset())
                .context("cannot write the file")?;
        }
        bar.set_position(part.end());
    }
    Ok(())
}
