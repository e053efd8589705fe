//! `vmthunder iscsi luns`.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use iscsi_initiator::{Error, Session};
use iscsi_proto::wire::lun::Lun;
use serde::Serialize;

use crate::args::IscsiArgs;
use crate::iscsi::reach::with_session;
use crate::iscsi::unit::{DISK, kind, modes, naa, provisioning, serial};
use crate::iscsi::yes_no;
use crate::observe::line;
use crate::status::{print_json, size, table};

/// Units that are asked at once.
const AT_ONCE: usize = 8;

/// A unit, as `iscsi luns --json` prints it. What it does not tell is null.
#[derive(Debug, Default, Serialize)]
struct Listed {
    /// Its number; null where its address is no plain number.
    lun: Option<u16>,
    /// Its address as eight bytes.
    address: String,
    device_type: u8,
    vendor: String,
    product: String,
    revision: String,
    serial: Option<String>,
    naa: Option<String>,
    blocks: Option<u64>,
    block_bytes: Option<u32>,
    bytes: Option<u64>,
    read_only: Option<bool>,
    thin: Option<bool>,
    /// Why the unit does not tell more.
    error: Option<String>,
}

/// Lists the units of a target.
pub(super) async fn list(url: &str, common: &IscsiArgs) -> Result<bool> {
    let listed: Vec<Listed> = with_session(url, common, async |_, session| {
        let luns = session.report_luns().await?;
        let asked = futures::stream::iter(luns).map(|lun| look(session, lun));
        Ok(asked.buffered(AT_ONCE).try_collect().await?)
    })
    .await?;
    if common.json {
        print_json(&listed)?;
        return Ok(true);
    }
    let mut rows = table(&[
        "LUN",
        "size",
        "blocks of",
        "product",
        "serial",
        "NAA",
        "read-only",
        "thin",
        "note",
    ]);
    for unit in listed {
        let note = match (unit.device_type, unit.error) {
            (_, Some(error)) => error,
            (DISK, None) => String::new(),
            (other, None) => kind(other).to_owned(),
        };
        rows.add_row([
            unit.lun.map_or(unit.address, |lun| lun.to_string()),
            unit.bytes.map(size).unwrap_or_default(),
            unit.block_bytes
                .map(|bytes| bytes.to_string())
                .unwrap_or_default(),
            format!("{} {} {}", unit.vendor, unit.product, unit.revision),
            unit.serial.unwrap_or_default(),
            unit.naa.unwrap_or_default(),
            unit.read_only
                .map_or("", |known| yes_no(Some(known)))
                .to_owned(),
            unit.thin.map_or("", |known| yes_no(Some(known))).to_owned(),
            note,
        ]);
    }
    line(rows)?;
    Ok(true)
}

/// Asks one unit. That it is not ready is a line of the list; that the target is gone ends the list.
async fn look(session: &Session, lun: Lun) -> Result<Listed, Error> {
    let mut listed = Listed {
        lun: lun.number(),
        address: format!("{:#018x}", lun.0),
        ..Listed::default()
    };
    match describe(session, lun, &mut listed).await {
        Ok(()) => {}
        Err(error @ (Error::Status { .. } | Error::Malformed)) => {
            listed.error = Some(error.to_string());
        }
        Err(error) => return Err(error),
    }
    Ok(listed)
}

async fn describe(session: &Session, lun: Lun, listed: &mut Listed) -> Result<(), Error> {
    let inquiry = session.inquiry(lun).await?;
    listed.device_type = inquiry.device_type;
    listed.vendor = inquiry.vendor;
    listed.product = inquiry.product;
    listed.revision = inquiry.revision;
    listed.serial = Some(serial(session, lun).await?).filter(|serial| !serial.is_empty());
    listed.naa = naa(&session.designators(lun).await?);
    if listed.device_type != DISK {
        return Ok(());
    }
    listed.read_only = modes(session, lun)
        .await?
        .map(|modes| modes.write_protected);
    let provisioning = provisioning(session, lun).await?;
    let capacity = session.read_capacity(lun).await?;
    listed.thin = Some(provisioning.map_or(capacity.thin, |page| page.thin || page.unmap));
    listed.blocks = Some(capacity.blocks);
    listed.block_bytes = Some(capacity.block_bytes);
    let bytes = capacity
        .blocks
        .saturating_mul(u64::from(capacity.block_bytes));
    listed.bytes = Some(bytes);
    Ok(())
}
