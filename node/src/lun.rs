//! `vmthunder lun`: the files that a running node or gateway serves.

use anyhow::Result;

use crate::args::LunCommand;
use crate::control::{Request, ask};
use crate::observe::line;
use crate::status::{LunStatus, Status, print_json, print_luns, size};

/// Carries a subcommand out.
pub(crate) async fn run(command: LunCommand) -> Result<()> {
    match command {
        LunCommand::List { json, node } => {
            let status: Status = ask(&node.socket()?, &Request::Status).await?;
            let luns: Vec<LunStatus> = status
                .targets
                .into_iter()
                .flat_map(|target| target.luns)
                .collect();
            if json {
                return print_json(&luns);
            }
            print_luns(&luns)
        }
        LunCommand::Resize {
            lun,
            size,
            shrink,
            json,
            node,
        } => {
            let request = Request::ResizeLun {
                lun,
                bytes: size.map(|size| size.as_u64()),
                shrink,
            };
            let now: LunStatus = ask(&node.socket()?, &request).await?;
            if json {
                return print_json(&now);
            }
            show_capacity(&now)
        }
    }
}

fn show_capacity(lun: &LunStatus) -> Result<()> {
    let blocks = lun.bytes / u64::from(lun.block_bytes.max(1));
    line(format_args!(
        "{}/{}: {}, {} bytes, {blocks} blocks of {}",
        lun.target,
        lun.lun,
        size(lun.bytes),
        lun.bytes,
        lun.block_bytes
    ))?;
    if let Some(said) = lun.configured_bytes.filter(|said| *said != lun.bytes) {
        eprintln!(
            "note: it was started with a size of {said} bytes: say {} from now on, or the next start is refused",
            lun.bytes
        );
    }
    Ok(())
}
