//! `vmthunder iscsi inquiry` and `capacity`.

use anyhow::{Context, Result};
use iscsi_proto::scsi::vpd::{
    self, BlockLimits, Characteristics, ExtendedInquiry, Provisioning, parse_designators,
};
use serde_json::{Map, Value, json};

use crate::args::IscsiArgs;
use crate::iscsi::reach::{Place, with_unit};
use crate::iscsi::unit::{kind, readable, serial};
use crate::iscsi::{fact, hex, yes_no};
use crate::observe::line;
use crate::status::{print_json, size};

/// Bytes in a line of a page that nobody here can read.
const HEX_BYTES: usize = 16;

/// Shows what a unit says about itself.
pub(super) async fn show(url: &str, page: Option<u8>, common: &IscsiArgs) -> Result<bool> {
    if let Some(page) = page {
        return show_page(url, page, common).await;
    }
    with_unit(Place::of(url, common)?, async |unit| {
        let serial = serial(&unit.session, unit.lun).await?;
        let designators = unit.session.designators(unit.lun).await?;
        let names: Vec<String> = designators.iter().map(readable).collect();
        let answer = &unit.inquiry;
        if common.json {
            return print_json(&json!({
                "device_type": answer.device_type, "vendor": answer.vendor, "product": answer.product,
                "revision": answer.revision, "serial": serial, "version": answer.version,
                "removable": answer.removable, "alua": answer.target_port_groups,
                "designators": names,
            }));
        }
        fact(
            "device type",
            format_args!("{:#04x} ({})", answer.device_type, kind(answer.device_type)),
        )?;
        fact("vendor", &answer.vendor)?;
        fact("product", &answer.product)?;
        fact("revision", &answer.revision)?;
        fact("serial", &serial)?;
        fact("removable", yes_no(Some(answer.removable)))?;
        for name in names {
            fact("designator", name)?;
        }
        Ok(())
    })
    .await?;
    Ok(true)
}

async fn show_page(url: &str, code: u8, common: &IscsiArgs) -> Result<bool> {
    let page = with_unit(Place::of(url, common)?, async |unit| {
        Ok(unit.session.vital_page(unit.lun, code).await?)
    })
    .await?;
    let Some(page) = page else {
        eprintln!("error: the unit has no page {code:02x}h; `--page 0` lists those that it has");
        return Ok(false);
    };
    let fields = fields(code, &page);
    let name = name(code);
    if common.json {
        print_json(&json!({"page": code, "name": name, "fields": fields, "hex": hex(&page)}))?;
        return Ok(true);
    }
    line(format_args!("page {code:02x}h, {name}"))?;
    let Some(fields) = fields else {
        for (at, bytes) in page.chunks(HEX_BYTES).enumerate() {
            let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            line(format_args!("{:04x}  {}", at * HEX_BYTES, bytes.join(" ")))?;
        }
        return Ok(true);
    };
    for (name, value) in fields {
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            line(format_args!("{:<30}  {text}", name.replace('_', " ")))?;
        }
    }
    Ok(true)
}

fn name(code: u8) -> &'static str {
    match code {
        vpd::SUPPORTED_PAGES => "supported pages",
        vpd::UNIT_SERIAL_NUMBER => "unit serial number",
        vpd::DEVICE_IDENTIFICATION => "device identification",
        vpd::EXTENDED_INQUIRY => "extended INQUIRY data",
        vpd::MODE_PAGE_POLICY => "mode page policy",
        vpd::THIRD_PARTY_COPY => "third-party copy",
        vpd::BLOCK_LIMITS => "block limits",
        vpd::BLOCK_DEVICE_CHARACTERISTICS => "block device characteristics",
        vpd::LOGICAL_BLOCK_PROVISIONING => "logical block provisioning",
        _ => "not known to this program",
    }
}

/// What a page says, by name; `None` if it cannot be read. Zero in a limit means that none is told.
fn fields(code: u8, page: &[u8]) -> Option<Map<String, Value>> {
    let body = vpd::body(code, page)?;
    let fields = match code {
        vpd::SUPPORTED_PAGES => {
            let pages = body
                .iter()
                .map(|code| format!("{code:02x}h {}", name(*code)));
            json!({"pages": pages.collect::<Vec<_>>()})
        }
        vpd::UNIT_SERIAL_NUMBER => json!({"serial": String::from_utf8_lossy(body).trim()}),
        vpd::DEVICE_IDENTIFICATION => {
            let designators = parse_designators(page)?;
            let lines = designators.iter().map(|one| {
                let of = ["unit", "target port", "target", "?"];
                let of = of.get(usize::from(one.association)).unwrap_or(&"?");
                format!(
                    "{} of the {of}: {}",
                    designator_kind(one.kind),
                    readable(one)
                )
            });
            json!({"designators": lines.collect::<Vec<_>>()})
        }
        vpd::EXTENDED_INQUIRY => {
            let page = ExtendedInquiry::parse(page)?;
            json!({
                "volatile_cache": page.volatile_cache,
                "nonvolatile_cache": page.nonvolatile_cache,
                "clears_attentions": page.clears_attentions,
                "maximum_sense_bytes": page.maximum_sense_bytes,
            })
        }
        vpd::BLOCK_LIMITS => limits(&BlockLimits::parse(page)?),
        vpd::BLOCK_DEVICE_CHARACTERISTICS => {
            let page = Characteristics::parse(page)?;
            json!({"rotation_rate": page.rotation_rate, "form_factor": page.form_factor})
        }
        vpd::LOGICAL_BLOCK_PROVISIONING => {
            let page = Provisioning::parse(page)?;
            json!({
                "thin": page.thin, "unmap": page.unmap, "write_same_16": page.write_same_16,
                "write_same_10": page.write_same_10, "reads_zeros": page.reads_zeros,
            })
        }
        _ => return None,
    };
    match fields {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn limits(page: &BlockLimits) -> Value {
    json!({
        "maximum_transfer_blocks": page.maximum_transfer,
        "optimal_transfer_blocks": page.optimal_transfer,
        "optimal_granularity_blocks": page.optimal_granularity,
        "maximum_prefetch_blocks": page.maximum_prefetch,
        "maximum_unmap_blocks": page.maximum_unmap_blocks,
        "maximum_unmap_descriptors": page.maximum_unmap_descriptors,
        "unmap_granularity_blocks": page.unmap_granularity,
        "unmap_alignment": page.unmap_alignment,
        "maximum_write_same_blocks": page.maximum_write_same,
        "maximum_compare_and_write_blocks": page.maximum_compare_and_write,
        "maximum_atomic_blocks": page.maximum_atomic,
        "atomic_alignment_blocks": page.atomic_alignment,
        "atomic_granularity_blocks": page.atomic_granularity,
    })
}

/// The types of designators (SPC-4 table 462).
fn designator_kind(kind: u8) -> &'static str {
    match kind {
        0 => "vendor specific",
        1 => "T10 vendor",
        2 => "EUI-64",
        3 => "NAA",
        4 => "relative port",
        5 => "port group",
        6 => "unit group",
        7 => "MD5",
        8 => "SCSI name",
        _ => "designator",
    }
}

/// Shows the size of a unit.
pub(super) async fn capacity(url: &str, common: &IscsiArgs) -> Result<bool> {
    let capacity = with_unit(Place::of(url, common)?, async |unit| {
        let capacity = unit.session.read_capacity(unit.lun).await;
        capacity.context("the unit does not tell its size")
    })
    .await?;
    let bytes = capacity
        .blocks
        .saturating_mul(u64::from(capacity.block_bytes));
    let physical = u64::from(capacity.block_bytes) << capacity.physical_exponent;
    if common.json {
        print_json(&json!({
            "blocks": capacity.blocks, "block_bytes": capacity.block_bytes, "bytes": bytes,
            "physical_block_bytes": physical, "thin": capacity.thin,
            "reads_zeros": capacity.reads_zeros,
        }))?;
        return Ok(true);
    }
    let thin = match (capacity.thin, capacity.reads_zeros) {
        (true, true) => ", thin; blocks that are given back read as zeros",
        (true, false) => ", thin",
        (false, _) => "",
    };
    line(format_args!(
        "{} blocks of {} bytes: {}{thin}",
        capacity.blocks,
        capacity.block_bytes,
        size(bytes)
    ))?;
    Ok(true)
}
