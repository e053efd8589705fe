//! Which blocks, as it is written.

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use clap::Args;
use vmthunder_volume::{Error, Geometry, Span};

use crate::args::byte_size;
use crate::status::size;

/// Which blocks are meant.
#[derive(Debug, Default, Args)]
pub(crate) struct RangeArgs {
    /// The first block.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) lba: Option<u64>,
    /// How many blocks.
    #[arg(long, value_name = "NUMBER", conflicts_with = "length")]
    pub(crate) blocks: Option<u64>,
    /// The first byte, in place of `--lba`: bytes, or with a unit, for example 16MiB; a whole number of blocks.
    #[arg(long, value_name = "BYTES", conflicts_with = "lba", value_parser = byte_size)]
    pub(crate) offset: Option<ByteSize>,
    /// How many bytes, in place of `--blocks`; a whole number of blocks.
    #[arg(long, value_name = "BYTES", value_parser = byte_size)]
    pub(crate) length: Option<ByteSize>,
}

impl RangeArgs {
    /// Where the blocks begin, in bytes.
    pub(crate) fn start(&self, geometry: Geometry) -> Result<u64> {
        let start = match self.offset {
            Some(offset) => whole(offset.as_u64(), geometry, "--offset")?,
            None => {
                let lba = self.lba.unwrap_or(0);
                let span = geometry.span(lba, 0);
                span.with_context(|| beyond(geometry, format_args!("block {lba}")))?
                    .offset()
            }
        };
        match start <= geometry.bytes() {
            true => Ok(start),
            false => Err(Error::OutOfRange)
                .with_context(|| beyond(geometry, format_args!("byte {start}"))),
        }
    }

    /// The length in bytes, if it was said.
    pub(crate) fn length(&self, geometry: Geometry) -> Result<Option<u64>> {
        match (self.length, self.blocks) {
            (Some(length), _) => Ok(Some(whole(length.as_u64(), geometry, "--length")?)),
            (None, Some(blocks)) => {
                let bytes = blocks.checked_mul(geometry.block_size().bytes().into());
                Ok(Some(bytes.ok_or(Error::OutOfRange).with_context(|| {
                    beyond(geometry, format_args!("{blocks} blocks"))
                })?))
            }
            (None, None) => Ok(None),
        }
    }

    /// The blocks that are meant: up to the end of the unit if nothing is said about the length.
    pub(crate) fn span(&self, geometry: Geometry) -> Result<Span> {
        let start = self.start(geometry)?;
        let block = u64::from(geometry.block_size().bytes());
        let rest = geometry.bytes().saturating_sub(start);
        let length = self.length(geometry)?.unwrap_or(rest);
        geometry
            .span(start / block, length / block)
            .with_context(|| {
                beyond(
                    geometry,
                    format_args!("blocks {}+{}", start / block, length / block),
                )
            })
    }
}

fn whole(bytes: u64, geometry: Geometry, option: &str) -> Result<u64> {
    let block = u64::from(geometry.block_size().bytes());
    ensure!(
        bytes.is_multiple_of(block),
        "{option}: {bytes} bytes are not a whole number of blocks of {block} bytes"
    );
    Ok(bytes)
}

fn beyond(geometry: Geometry, what: std::fmt::Arguments<'_>) -> String {
    format!(
        "{what}: the unit has {} blocks of {} bytes, {}",
        geometry.blocks(),
        geometry.block_size().bytes(),
        size(geometry.bytes())
    )
}
