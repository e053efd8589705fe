//! `vmthunder target`: files as logical units of one target.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use iscsi_proto::name::IscsiName;
use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use vmthunder_volume::{Access, BlockSize, RawFile, Volume};

use crate::args::TargetArgs;
use crate::names;
use crate::node::end;
use crate::portals::{Portals, announce};

/// Logical units of one target at the most: what the simplest form of a LUN can number (SAM-5 §4.7.7.2).
const MOST_FILES: usize = 256;

/// How long connections may take to end when the gateway does.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Exports files until it is told to end.
pub(crate) async fn serve(args: TargetArgs) -> Result<()> {
    let name = name(&args)?;
    let units = units(&args, &name)?;
    let volumes: Vec<_> = units.iter().map(|unit| Arc::clone(&unit.volume)).collect();
    let luns: Vec<u16> = units.iter().map(|unit| unit.number).collect();
    let target = Target::new(TargetOptions::default());
    target.export(Export::new(name.clone(), units))?;

    let portals = Portals::listen(&args.listen).await?;
    let hosts = portals.hosts().to_vec();
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    portals.serve(&target, &stop, &tracker);
    announce(&hosts, &name, luns);

    end(false).await.context("cannot wait for signals")?;
    stop.cancel();
    tracker.close();
    let _ = tokio::time::timeout(STOP_PATIENCE, tracker.wait()).await;
    for volume in volumes {
        volume
            .flush()
            .await
            .with_context(|| format!("cannot flush {}", volume.path().display()))?;
    }
    Ok(())
}

fn name(args: &TargetArgs) -> Result<IscsiName> {
    match &args.iqn {
        Some(iqn) => iqn.parse().with_context(|| format!("--iqn {iqn}")),
        None => {
            let stem = args
                .files
                .first()
                .and_then(|file| file.file_stem())
                .unwrap_or_default();
            Ok(names::gateway(&stem.to_string_lossy()))
        }
    }
}

fn units(args: &TargetArgs, name: &IscsiName) -> Result<Vec<Unit<Arc<RawFile>>>> {
    ensure!(
        args.files.len() <= MOST_FILES,
        "{} files, at most {MOST_FILES} are served",
        args.files.len()
    );
    let access = if args.read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let mut units = Vec::new();
    for (number, path) in args.files.iter().enumerate() {
        let volume = RawFile::open(path, access, BlockSize::B512)
            .with_context(|| format!("cannot open {}", path.display()))?;
        ensure!(
            volume.geometry().blocks() > 0,
            "{} is smaller than one block of 512 bytes",
            path.display()
        );
        if let Ok(found) = std::fs::metadata(path)
            && found.is_file()
            && found.len() > volume.geometry().bytes()
        {
            warn!(
                "{} has {} bytes: what is behind the last whole block of 512 is not served",
                path.display(),
                found.len()
            );
        }
        let number = u16::try_from(number)?;
        let designator = names::designator(&["gateway", name.as_str(), &number.to_string()]);
        let identity = UnitIdentity::new(designator, "gateway");
        units.push(Unit {
            read_only: args.read_only,
            ..Unit::new(number, Arc::new(volume), identity)
        });
    }
    Ok(units)
}
