//! `vmthunder iscsi discover`.

use anyhow::Result;
use iscsi_initiator::discover;
use serde_json::json;

use crate::args::IscsiArgs;
use crate::iscsi::outcome::{Kind, Told};
use crate::iscsi::reach::Place;
use crate::observe::line;
use crate::status::print_json;

/// Lists the targets of a portal.
pub(super) async fn list(url: &str, common: &IscsiArgs) -> Result<bool> {
    let place = Place::of(url, common)?;
    let records = match discover(&place.url.address(), &place.options).await {
        Ok(records) => records,
        Err(error) => {
            let next = place.after(&error).await;
            let text = format!("cannot discover {}: {error}{next}", place.url);
            return Err(Told::new(Kind::of_session(&error), text).into());
        }
    };
    if common.json {
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
        print_json(&targets)?;
        return Ok(true);
    }
    if records.is_empty() {
        eprintln!(
            "note: there is no target that {} may see",
            place.options.initiator_name
        );
    }
    for record in records {
        line(record.name)?;
        for (address, group) in record.addresses {
            line(format_args!("  {address},{group}"))?;
        }
    }
    Ok(true)
}
