//! `vmthunder instance`.

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use tracing::warn;

use super::commands::Setting;
use super::export::{Exportation, Exported};
use super::{Creation, Format, InstanceRequest};
use crate::args::{CreateArgs, ExportArgs, InstanceCommand, NodeArgs, OutageArg, QuotaArg};
use crate::config::Outage;
use crate::control::{Request, ask, ask_and_watch};
use crate::image::bar;
use crate::observe::{causes, line};
use crate::status::{
    InstanceDetail, InstanceState, InstanceStatus, LocalState, Status, print_instances, print_json,
    size, table,
};

/// Carries a subcommand out.
pub(crate) async fn run(command: InstanceCommand) -> Result<()> {
    match command {
        InstanceCommand::Create(args) => create(args).await,
        InstanceCommand::List { json, node } => {
            let status: Status = ask(&node.socket()?, &Request::Status).await?;
            match json {
                true => print_json(&status.instances),
                false => print_instances(&status.instances),
            }
        }
        InstanceCommand::Show { name, json, node } => {
            let shown: InstanceDetail = request(&node, InstanceRequest::Show { name }).await?;
            match json {
                true => print_json(&shown),
                false => show(&shown),
            }
        }
        InstanceCommand::Remove { names, force, node } => remove(names, force, &node).await,
        InstanceCommand::Snapshot {
            name,
            snapshot,
            remove,
            node,
        } => {
            let wanted = match remove {
                true => InstanceRequest::RemoveSnapshot { name, snapshot },
                false => InstanceRequest::Snapshot { name, snapshot },
            };
            request(&node, wanted).await
        }
        InstanceCommand::Rollback {
            name,
            snapshot,
            force,
            node,
        } => restore(name, Some(snapshot), force, &node).await,
        InstanceCommand::Reset { name, force, node } => restore(name, None, force, &node).await,
        InstanceCommand::Export(args) => export(args).await,
        InstanceCommand::TurnOff(args) => {
            let wanted = InstanceRequest::TurnOff {
                name: args.name,
                rate: args.rate.map(|rate| rate.as_u64()),
                wait: !args.no_wait,
            };
            turn(wanted, args.json, &args.node).await
        }
        InstanceCommand::TurnOn { name, json, node } => {
            turn(InstanceRequest::TurnOn { name }, json, &node).await
        }
        InstanceCommand::Change {
            name,
            quota,
            outage,
            node,
        } => {
            let wanted = InstanceRequest::Change {
                name,
                quota: quota.map(of_quota),
                outage: outage.map(of_outage),
            };
            change(wanted, &node).await
        }
    }
}

fn of_quota(quota: QuotaArg) -> Setting<u64> {
    match quota {
        QuotaArg::None => Setting::Default,
        QuotaArg::Bytes(bytes) => Setting::Given(bytes.as_u64()),
    }
}

fn of_outage(outage: OutageArg) -> Setting<Outage> {
    outage.map_or(Setting::Default, Setting::Given)
}

async fn request<T: serde::de::DeserializeOwned>(
    node: &NodeArgs,
    request: InstanceRequest,
) -> Result<T> {
    ask(&node.socket()?, &Request::Instance(request)).await
}

async fn create(args: CreateArgs) -> Result<()> {
    let creation = Creation {
        name: args.name,
        count: args.count,
        image: args.image,
        size: args.size.map(|size| size.as_u64()),
        quota: args.quota.map(|quota| quota.as_u64()),
        outage: args.outage,
    };
    let wanted = InstanceRequest::Create(creation);
    let made: Vec<InstanceStatus> = request(&args.node, wanted).await?;
    if args.json {
        return print_json(&made);
    }
    made.into_iter()
        .flat_map(|made| made.urls)
        .try_for_each(line)
}

/// Changes settings, and warns of one that is of no use as things are.
async fn change(wanted: InstanceRequest, node: &NodeArgs) -> Result<()> {
    let now: InstanceStatus = request(node, wanted).await?;
    if let (Some(quota), Some(stored)) = (now.quota_bytes, now.stored_bytes)
        && stored > quota
    {
        warn!(
            "`{}` has written {} already, more than its quota of {}: writes that need space are refused",
            now.name,
            size(stored),
            size(quota)
        );
    }
    Ok(())
}

/// Removes what can be removed, and says what could not.
async fn remove(names: Vec<String>, force: bool, node: &NodeArgs) -> Result<()> {
    let mut refused = Vec::new();
    for name in names {
        let removed = request::<()>(node, InstanceRequest::Remove { name, force }).await;
        refused.extend(removed.err().map(|error| causes(&error)));
    }
    ensure!(refused.is_empty(), "{}", refused.join("; "));
    Ok(())
}

async fn restore(
    name: String,
    snapshot: Option<String>,
    force: bool,
    node: &NodeArgs,
) -> Result<()> {
    let wanted = InstanceRequest::Restore {
        name,
        snapshot,
        force,
    };
    request(node, wanted).await
}

async fn turn(wanted: InstanceRequest, json: bool, node: &NodeArgs) -> Result<()> {
    let bar = bar(0);
    let watch = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let wanted = Request::Instance(wanted);
    let now: Result<InstanceStatus> = ask_and_watch(&node.socket()?, &wanted, watch).await;
    bar.finish_and_clear();
    let now = now?;
    if json {
        return print_json(&now);
    }
    line(format_args!("{}: {}", now.name, reads(&now)))
}

/// Where an instance reads what its guest did not write.
fn reads(instance: &InstanceStatus) -> String {
    match &instance.local {
        None => format!("reads the image `{}` as the node does", instance.image),
        Some(local) if local.state == LocalState::Complete => format!(
            "{local}: {} of the image `{}` are on this disk, and nothing else is needed",
            size(local.total_bytes),
            instance.image
        ),
        Some(local) => format!(
            "is turned off: {} of {}, {local}",
            size(local.done_bytes),
            size(local.total_bytes)
        ),
    }
}

async fn export(args: ExportArgs) -> Result<()> {
    let file = std::path::absolute(&args.file)
        .with_context(|| format!("{} is no file", args.file.display()))?;
    let wanted = Exportation {
        name: args.name,
        snapshot: args.snapshot,
        file,
        format: args.format.unwrap_or_else(|| Format::of(&args.file)),
    };
    let wanted = Request::Instance(InstanceRequest::Export(wanted));
    let bar = bar(0);
    let watch = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let done: Result<Exported> = ask_and_watch(&args.node.socket()?, &wanted, watch).await;
    bar.finish_and_clear();
    let done = done?;
    if args.json {
        return print_json(&done);
    }
    line(format_args!(
        "{}: a disk of {}, {} of it not zeros",
        done.file.display(),
        size(done.bytes),
        size(done.written_bytes)
    ))
}

fn show(shown: &InstanceDetail) -> Result<()> {
    let instance = &shown.instance;
    line(format_args!("{}: {}", instance.name, instance.state))?;
    if let Some(cause) = &instance.cause {
        line(format_args!("cause: {cause}"))?;
    }
    for url in &instance.urls {
        line(format_args!("attach as: {url}"))?;
    }
    // Nothing is known of the image of one that is not served.
    let root = match (&shown.root, instance.state) {
        (Some(root), _) => format!(" ({root})"),
        (None, InstanceState::Served | InstanceState::Full) => " (no manifest)".to_owned(),
        (None, _) => String::new(),
    };
    if !instance.image.is_empty() {
        line(format_args!("image: {}{root}", instance.image))?;
    }
    if instance.bytes.is_some() {
        let quota = match instance.quota_bytes {
            Some(quota) => format!("at most {}", size(quota)),
            None => "no quota".to_owned(),
        };
        line(format_args!(
            "size: {}, written: {} on disk, {quota}",
            instance.bytes.map_or_else(String::new, size),
            instance.stored_bytes.map_or_else(String::new, size),
        ))?;
    }
    if let Some(outage) = &instance.outage {
        line(format_args!("in an outage: {outage}"))?;
    }
    if instance.local.is_some() {
        line(reads(instance))?;
    }
    if let Some(cause) = &instance.turn_off_failure {
        line(format_args!("was not turned off: {cause}"))?;
    }
    if !shown.snapshots.is_empty() {
        let mut rows = table(&["snapshot", "made", "on disk"]);
        for snapshot in &shown.snapshots {
            rows.add_row([
                snapshot.name.clone(),
                moment(snapshot.created),
                size(snapshot.stored_bytes),
            ]);
        }
        line(rows)?;
    }
    for initiator in &shown.initiators {
        line(format_args!(
            "logged in: {} from {}",
            initiator.initiator, initiator.peer
        ))?;
    }
    Ok(())
}

/// A moment as people read it, in UTC.
fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    moment.map_or_else(String::new, |moment| moment.to_string())
}
