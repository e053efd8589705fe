//! `vmthunder iscsi trim`.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vmthunder_volume::{Error as VolumeError, Span, Volume};

use crate::args::TrimArgs;
use crate::image::bar;
use crate::iscsi::reach::{Place, with_unit};
use crate::iscsi::unit::provisioning;
use crate::observe::line;
use crate::status::{print_json, size};

/// Bytes that are given back between two moves of the bar.
const STEP: u64 = 1 << 30;

/// Gives the space of blocks back.
pub(super) async fn run(args: &TrimArgs) -> Result<bool> {
    ensure!(
        args.all || args.range.blocks.is_some() || args.range.length.is_some(),
        "which blocks is not said: --lba NUMBER --blocks NUMBER, --offset BYTES --length BYTES, or --all"
    );
    let span = with_unit(
        Place::of(&args.url, &args.unit.common)?.through(&args.unit.paths)?,
        async |unit| {
            let remote = unit.attach().await?;
            let span = match args.all {
                true => remote.geometry().whole(),
                false => args.range.span(remote.geometry())?,
            };
            if remote.is_read_only() {
                return Err(VolumeError::ReadOnly).context("the unit is write-protected");
            }
            let page = provisioning(&unit.session, unit.lun).await?;
            let page = page.unwrap_or_default();
            if !page.unmap {
                return Err(VolumeError::Unsupported)
                    .context("the unit takes no space back (no UNMAP)");
            }
            let act = format!("iscsi trim empties {} of", size(span.length()));
            let whole = remote.geometry().bytes();
            unit.ask_consent(whole, &act, args.yes).await?;
            let bar = bar(span.length());
            let mut at = span.offset();
            while at < span.end() {
                let step = Span::new(at, STEP.min(span.end() - at));
                let trimmed = remote.deallocate(step.offset(), step.length()).await;
                trimmed.with_context(|| format!("cannot give bytes {step} back"))?;
                at = step.end();
                bar.inc(step.length());
            }
            remote.synchronize().await.context("cannot flush")?;
            bar.finish_and_clear();
            Ok(span)
        },
    )
    .await?;
    if args.unit.common.json {
        print_json(&json!({"offset": span.offset(), "bytes": span.length()}))?;
    } else {
        line(format_args!("{} given back", size(span.length())))?;
    }
    Ok(true)
}
